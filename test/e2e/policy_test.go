package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/policy"
)

// startConfigured starts a daemon with a configuration file, which configure writes anew.
func startConfigured(t *testing.T, config string, flags ...string) *daemon {
	t.Helper()
	dir := scratch(t)
	path := dir + "/config.toml"
	writeConfig(t, path, config)
	return startDaemonIn(t, dir, scopefs, append([]string{"--config", path}, flags...)...)
}

func writeConfig(t *testing.T, path, config string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reloadCommand is how systemd makes a daemon read its configuration again.
func reloadCommand(t *testing.T, pid int) *exec.Cmd {
	t.Helper()
	const unit = "../../packaging/systemd/scopefs.service"
	text, err := os.ReadFile(unit)
	if errors.Is(err, os.ErrNotExist) && inVM {
		return exec.Command("busybox", "kill", "-HUP", strconv.Itoa(pid))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\nExecReload=")
	line, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("%s has no ExecReload", unit)
	}
	args := strings.Fields(strings.ReplaceAll(line, "$MAINPID", strconv.Itoa(pid)))
	return exec.Command(args[0], args[1:]...)
}

// configure gives the daemon another configuration and waits until it has taken or refused it.
func (d *daemon) configure(t *testing.T, config string) {
	t.Helper()
	ends := func() int {
		return strings.Count(d.log(), "the configuration was read again") + strings.Count(d.log(), "stays what it was")
	}
	before := ends()
	writeConfig(t, d.dir+"/config.toml", config)
	start(t, patience, reloadCommand(t, d.cmd.Process.Pid)).wait()
	for deadline := time.Now().Add(timeout(patience)); ends() == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not read its configuration again:\n%s", d.log())
		}
	}
}

// sharesOf sets cpu.shares, or the weight that the OCI runtimes turn them into.
func (g *group) sharesOf(shares int) *group {
	g.t.Helper()
	h, _ := controllerOf("cpu")
	if h.v2 {
		g.write(g.file("cpu", "cpu.weight", ""), map[int]string{512: "59", 1024: "100", 2048: "174"}[shares])
	} else {
		g.write(g.file("cpu", "", "cpu.shares"), strconv.Itoa(shares))
	}
	return g
}

// checkCPUs checks what a container's programs print of its CPUs: their names everywhere, and possible.
func checkCPUs(t *testing.T, c *container, possible string, names ...int) {
	t.Helper()
	var processors, rows []int
	for line := range strings.Lines(c.run("busybox", "cat", "/proc/cpuinfo")) {
		var n int
		if _, err := fmt.Sscanf(line, "processor : %d", &n); err == nil {
			processors = append(processors, n)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^cpu(\d+) `).FindAllStringSubmatch(c.read("proc/stat"), -1) {
		n, _ := strconv.Atoi(m[1])
		rows = append(rows, n)
	}
	list := strings.ReplaceAll(strings.Trim(fmt.Sprint(names), "[]"), " ", "-") // of at most two CPUs
	if got := fmt.Sprint(processors); got != fmt.Sprint(names) && runtime.GOARCH != "s390x" {
		t.Errorf("cpuinfo has the processors %s, want %v", got, names)
	}
	if got := fmt.Sprint(rows); got != fmt.Sprint(names) {
		t.Errorf("stat has rows of %s, want %v", got, names)
	}
	for _, file := range []string{"online", "present"} {
		if got := c.shell("cat /sys/devices/system/cpu/" + file); got != list+"\n" {
			t.Errorf("%s is %q, want %s", file, got, list)
		}
	}
	if got := c.shell("cat /sys/devices/system/cpu/possible"); got != possible+"\n" {
		t.Errorf("possible is %q, want %s", got, possible)
	}
	if has(t, "getconf") {
		if got := c.run("getconf", "_NPROCESSORS_ONLN"); got != fmt.Sprintln(len(names)) {
			t.Errorf("getconf prints %q CPUs, want %d", got, len(names))
		}
	}
}

// twoCPUs skips the test on a machine without the CPUs 0 and 1, and is what it says is possible.
func twoCPUs(t *testing.T) (possible string) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	return readString(t, "/sys/devices/system/cpu/possible")
}

// TestPolicyCPUs counts and numbers the CPUs in each way.
func TestPolicyCPUs(t *testing.T) {
	t.Parallel()
	possible := twoCPUs(t)
	d := startDaemon(t)
	for _, test := range []struct {
		policy   string
		set      func(*group)
		possible string
		names    []int
	}{
		{"", func(g *group) { g.cpus(0.5).cpuset("0-1") }, possible, []int{0}},
		{"cpu_source=cpuset", func(g *group) { g.cpus(0.5).cpuset("0-1") }, possible, []int{0, 1}},
		{"cpu_source=shares", func(g *group) { g.cpuset("0-1").sharesOf(512) }, possible, []int{0}},
		{"cpu_source=shares", func(g *group) { g.cpuset("0-1").sharesOf(1024) }, possible, []int{0}},
		{"cpu_source=shares", func(g *group) { g.cpus(0.5).cpuset("0-1").sharesOf(2048) }, possible, []int{0, 1}},
		{"cpu_source=shares", func(g *group) { g.cpuset("1").sharesOf(2048) }, possible, []int{0}},
		{"cpu_rounding=round", func(g *group) { g.cpus(1.4).cpuset("0-1") }, possible, []int{0}},
		{"cpu_rounding=round", func(g *group) { g.cpus(1.6).cpuset("0-1") }, possible, []int{0, 1}},
		{"cpu_rounding=min2", func(g *group) { g.cpus(0.5).cpuset("0-1") }, possible, []int{0, 1}},
		{"cpu_rounding=min2", func(g *group) { g.cpus(0.5).cpuset("1") }, possible, []int{0}},
		{"cpu_identity=ids", func(g *group) { g.cpuset("1") }, possible, []int{1}},
		{"cpu_identity=count", func(g *group) { g.cpuset("1") }, possible, []int{0}},
		{"cpu_identity=coherent", func(g *group) { g.cpus(1).cpuset("0-1") }, "0", []int{0}},
	} {
		t.Run(fmt.Sprint(test.policy, " ", test.names), func(t *testing.T) {
			g := newGroup(t)
			test.set(g)
			overrides := policy.Overrides{}
			if name, value, ok := strings.Cut(test.policy, "="); ok {
				overrides[name] = value
			}
			checkCPUs(t, startContainer(t, d, g, options{bind: ownTree, policy: overrides}), test.possible, test.names...)
		})
	}
	t.Run("refused", func(t *testing.T) {
		_, err := tryContainer(t, d, newGroup(t), options{bind: ownTree, policy: policy.Overrides{"cpu_source": "weight"}})
		if err == nil || !strings.Contains(err.Error(), "cpu_source") || !strings.Contains(err.Error(), "quota, cpuset, shares") {
			t.Errorf("%v, want an error that names the setting and its values", err)
		}
	})
}

// TestPolicyOfRun gives throw-away containers policies, beside a daemon and without one.
func TestPolicyOfRun(t *testing.T) {
	t.Parallel()
	possible := twoCPUs(t)
	d := startDaemon(t)
	for name, socket := range map[string]string{"running daemon": d.socket, "private daemon": filepath.Join(scratch(t), "none.sock")} {
		t.Run(name, func(t *testing.T) {
			c := &container{t: t, exec: func(args ...string) *exec.Cmd {
				flags := []string{"run", "--socket", socket, "--cpuset", "1", "--memory", "64M", "--policy", "cpu_identity=ids", "--policy", "files=-meminfo", "--policy", "files=-uptime"}
				return exec.Command(scopefs, append(append(flags, "--"), args...)...)
			}}
			checkCPUs(t, c, possible, 1)
			is(t, "a container without meminfo", c.read("proc/meminfo"), totalOf(t, readString(t, "/proc/meminfo")))
			if mounts := c.read("proc/self/mountinfo"); strings.Contains(mounts, " /proc/meminfo ") || strings.Contains(mounts, " /proc/uptime ") || !strings.Contains(mounts, " /proc/stat ") {
				t.Errorf("bound are\n%s", mounts)
			}
		})
	}
	p := start(t, patience, exec.Command(scopefs, "run", "--policy", "reader=me", "--", "true"))
	if _, err := p.result(); err == nil || p.cmd.ProcessState.ExitCode() != 125 || !strings.Contains(p.err.String(), "container, caller, parent") {
		t.Errorf("a policy that there is not: %v %s", err, p.err.String())
	}
}

// TestPolicyReload changes the policies under running containers, by the file and by SIGHUP. Flags win over the file.
func TestPolicyReload(t *testing.T) {
	t.Parallel()
	possible := twoCPUs(t)
	d := startConfigured(t, "cpu_source = \"cpuset\"\n", "--interrupts", "zero")
	g := newGroup(t).cpus(0.5).cpuset("0-1")
	own := startContainer(t, d, g, options{bind: ownTree})
	other := startContainer(t, d, newGroup(t).cpus(0.5).cpuset("0-1"), options{bind: ownTree, policy: policy.Overrides{"cpu_source": "quota"}})
	compat := startContainer(t, d, newGroup(t).cpus(0.5).cpuset("0-1"), options{bind: compatTree})
	check := func(ownCPUs, otherCPUs []int) {
		t.Helper()
		checkCPUs(t, own, possible, ownCPUs...)
		checkCPUs(t, compat, possible, ownCPUs...)
		checkCPUs(t, other, possible, otherCPUs...)
		for _, c := range []*container{own, other, compat} {
			if text := c.read("proc/stat"); !regexp.MustCompile(`(?m)^ctxt 0$`).MatchString(text) {
				t.Error("the flag does not win over the file")
			}
		}
	}
	check([]int{0, 1}, []int{0})
	before := own.stat()
	d.configure(t, "interrupts = \"host\"\n")
	check([]int{0}, []int{0})
	notLess(t, "with fewer CPUs shown", before, own.stat())
	d.configure(t, "cpu_rounding = \"min2\"\n")
	check([]int{0, 1}, []int{0, 1})

	t.Run("bad file", func(t *testing.T) {
		d.errors = true
		d.configure(t, "swap = true\n\ncpu_rounding = \"up\"\nmuont = 1\n")
		check([]int{0, 1}, []int{0, 1})
		for _, want := range []string{
			d.dir + "/config.toml, line 3: cpu_rounding is", "it is one of ceil, round, min2", "config.toml, line 4: there is no key", "muont",
		} {
			if !strings.Contains(d.log(), want) {
				t.Errorf("the log does not say: %s\n%s", want, d.log())
			}
		}
		out := start(t, patience, exec.Command(scopefs, "config", "check", d.dir+"/config.toml"))
		if _, err := out.result(); err == nil || !strings.Contains(out.err.String(), "config.toml, line 3: cpu_rounding is \"up\"") {
			t.Errorf("config check: %v %s", err, out.err.String())
		}
	})
	t.Run("restart", func(t *testing.T) {
		d.configure(t, "mount = \"/elsewhere\"\nsocket = \"/elsewhere.sock\"\n")
		check([]int{0}, []int{0})
		if log := d.log(); !strings.Contains(log, "needs a restart") || !strings.Contains(log, "/elsewhere.sock") {
			t.Errorf("the log does not say that the socket stays\n%s", log)
		}
		if strings.Contains(d.log(), "wanted=/elsewhere\n") {
			t.Error("the mount was named by a flag, which wins over the file")
		}
	})
	t.Run("announced again", func(t *testing.T) {
		resp, err := control.Call(t.Context(), d.socket, control.Request{Op: control.OpAnnounce, ID: own.id, PID: own.pid, Policy: policy.Overrides{"cpu_source": "cpuset"}})
		if err != nil || resp.Policy["cpu_source"] != "cpuset" || resp.Policy["interrupts"] != "zero" {
			t.Errorf("%+v, %v", resp, err)
		}
		checkCPUs(t, own, possible, 0, 1)
		list, err := control.List(t.Context(), d.socket)
		if err != nil || len(list) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, c := range list {
			if want := map[string]string{own.id: "cpuset", other.id: "quota"}[c.ID]; c.Policy["cpu_source"] != want || c.Overrides["cpu_source"] != want {
				t.Errorf("listed as %+v", c)
			}
		}
		ping, err := control.Call(t.Context(), d.socket, control.Request{Op: control.OpPing})
		if err != nil || ping.Policy["cpu_source"] != "quota" || ping.Policy["interrupts"] != "zero" {
			t.Errorf("the base policy: %+v, %v", ping, err)
		}
	})
}

// TestMaxAge has readers share what was read within a second, and then nothing.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	d := startConfigured(t, "max_age = \"1s\"\n")
	g := newGroup(t).memory(256 * miB)
	c := startContainer(t, d, g, options{bind: ownTree})
	total := func() int64 {
		t.Helper()
		return parseMeminfo(t, readFile(t, d.mount+"/c/"+c.id+"/proc/meminfo"))["MemTotal"]
	}
	shared := false
	for mib := int64(200); !shared && mib < 220; mib += 2 {
		g.memory(mib * miB)
		var began time.Time // no later than the reading that is shown
		for deadline := time.Now().Add(timeout(patience)); ; {
			if began = time.Now(); total() == mib*miB {
				break
			}
			if began.After(deadline) {
				t.Fatalf("a limit of %d MiB is not shown", mib)
			}
		}
		g.memory((mib + 1) * miB)
		got := total()
		if shared = time.Since(began) < time.Second; shared && got != mib*miB {
			t.Errorf("MemTotal is %d, and was %d less than a second ago", got, mib*miB)
		}
	}
	if !shared {
		t.Error("ten times two reads took more than a second")
	}
	d.configure(t, "max_age = \"0\"\n")
	for mib := int64(100); mib < 120; mib++ {
		if g.memory(mib * miB); total() != mib*miB {
			t.Errorf("without sharing MemTotal is %d, want %d MiB", total(), mib)
		}
	}
}

// TestPolicyHangupIgnored starts a daemon as under nohup(1): SIGHUP does nothing.
func TestPolicyHangupIgnored(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	wrapper := dir + "/wrapper"
	writeExecutable(t, wrapper, "#!/bin/sh\ntrap '' HUP\nexec "+scopefs+" \"$@\"\n")
	writeConfig(t, dir+"/config.toml", "swap = true\n")
	d := startDaemonIn(t, dir, wrapper, "--config", dir+"/config.toml")
	_ = syscall.Kill(d.cmd.Process.Pid, syscall.SIGHUP)
	if _, pid, err := control.Ping(t.Context(), d.socket); err != nil || pid != d.cmd.Process.Pid {
		t.Errorf("after SIGHUP: %d, %v", pid, err)
	}
	if strings.Contains(d.log(), "read again") {
		t.Error("an ignored SIGHUP was heard")
	}
}

// TestPolicySwap hides the swap that a container has.
func TestPolicySwap(t *testing.T) {
	swapOn(t)
	if !accountsSwap() {
		t.Skip("this kernel does not count a cgroup's swap")
	}
	d := startConfigured(t, "swap = false\n")
	g := newGroup(t).memory(64 * miB).swap(100 * miB)
	c := startContainer(t, d, g, options{bind: ownTree})
	check := func(c *container, want bool) {
		t.Helper()
		m := c.meminfo()
		if (m["SwapTotal"] > 0) != want || (m["SwapFree"] > 0) != want {
			t.Errorf("SwapTotal %d, SwapFree %d; swap is shown: %v", m["SwapTotal"], m["SwapFree"], want)
		}
		if lines := strings.Count(c.read("proc/swaps"), "\n"); (lines == 2) != want {
			t.Errorf("%d lines in swaps; swap is shown: %v", lines, want)
		}
	}
	check(c, false)
	check(startContainer(t, d, newGroup(t).memory(64*miB).swap(100*miB), options{bind: ownTree, policy: policy.Overrides{"swap": "on"}}), true)
	d.configure(t, "")
	check(c, true)
}

// TestPolicySteal turns steal off and on again under a container that its quota holds back.
func TestPolicySteal(t *testing.T) {
	t.Parallel()
	d := startConfigured(t, "steal = false\n")
	g := newGroup(t).cpus(0.1).shares(true) // little enough that it is the quota that holds back, and not the machine's load
	c := startContainer(t, d, g, options{bind: ownTree})
	c.start("burning", "burn", "1")
	// grown is what was counted while the kernel held the container back for a while.
	last := c.stat()
	grown := func() cpuTimes {
		t.Helper()
		before := c.stat()
		notLess(t, "before a while", last, before)
		want := g.throttled() + 300*time.Millisecond
		for deadline := time.Now().Add(timeout(patience)); g.throttled() < want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the kernel does not hold the container back")
			}
		}
		last = c.stat()
		notLess(t, "after a while", before, last)
		return last["cpu"].minus(before["cpu"])
	}
	if got := grown(); got[stealTime] != 0 || last["cpu"][stealTime] != 0 || got[idleTime] < 10 {
		t.Errorf("steal off, held back for 300 ms: steal grew by %d, idle by %d ticks", got[stealTime], got[idleTime])
	}
	d.configure(t, "steal = true\n")
	if got := grown(); got[stealTime] < 10 {
		t.Errorf("steal on, held back for 300 ms: steal grew by %d, idle by %d ticks", got[stealTime], got[idleTime])
	}
	d.configure(t, "steal = false\n")
	if got := grown(); got[stealTime] != 0 || last["cpu"][stealTime] == 0 || got[idleTime] < 10 {
		t.Errorf("steal off again: steal grew by %d to %d, idle by %d ticks", got[stealTime], last["cpu"][stealTime], got[idleTime])
	}
	if out, err := show(t, d, "--explain", c.id, "stat"); err != nil || !strings.Contains(out, "steal=off") {
		t.Errorf("explained as %v\n%s", err, out)
	}
}

// TestPolicyInterrupts hides the machine's interrupts and context switches, in the machine's shape.
func TestPolicyInterrupts(t *testing.T) {
	t.Parallel()
	d := startDaemonIn(t, scratch(t), scopefs, "--interrupts=zero")
	c := startContainer(t, d, newGroup(t).memory(64*miB), options{bind: ownTree})
	counts := func(text string) map[string][]string {
		lines := map[string][]string{}
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); f[0] == "intr" || f[0] == "ctxt" || f[0] == "softirq" {
				lines[f[0]] = f[1:]
			}
		}
		return lines
	}
	machine := counts(readFile(t, d.compat+"/proc/stat"))
	shown := counts(c.read("proc/stat"))
	if len(shown) != 3 {
		t.Errorf("lines of %v", shown)
	}
	for key, values := range shown {
		if len(values) != len(machine[key]) || strings.Trim(strings.Join(values, ""), "0") != "" {
			t.Errorf("%s is %v, of %d counts of the machine", key, values, len(machine[key]))
		}
		if machine[key][0] == "0" {
			t.Errorf("the machine's %s is hidden from itself", key)
		}
	}
	if has(t, "vmstat") {
		lines := strings.Split(strings.TrimSpace(c.run("vmstat")), "\n")
		head, row := strings.Fields(lines[1]), strings.Fields(lines[2])
		for i, name := range head {
			if (name == "in" || name == "cs") && row[i] != "0" {
				t.Errorf("vmstat prints %s %s", row[i], name)
			}
		}
	}
}

// TestPolicyReader shows a container, its pod, or each of its services itself.
func TestPolicyReader(t *testing.T) {
	t.Parallel()
	d := startConfigured(t, "")
	pod := newGroup(t).memory(200 * miB)
	one, two := pod.child("one").memory(100*miB), pod.child("two").memory(120*miB)
	inner, service := one.child("init.scope"), one.child("service").memory(50*miB)
	own := startContainer(t, d, inner, options{bind: ownTree})
	chosen := startContainer(t, d, two.child("init.scope"), options{bind: ownTree, policy: policy.Overrides{"reader": "parent"}})
	found := startContainer(t, d, pod.child("three").memory(80*miB), options{bind: compatTree})
	// cat of busybox is a sendfile(2), through the page cache.
	in := func(c *container, g *group) string {
		return start(t, patience, c.commandIn(g, "busybox", "cat", "/proc/meminfo")).wait()
	}
	held := start(t, 10*time.Minute, own.command("busybox", "sh", "-c", "exec 3</proc/meminfo; echo open; read x; busybox dd bs=64k status=none <&3"))
	held.expect("open")

	for range 2 {
		is(t, "the container", in(own, inner), 100)
		is(t, "its service", in(own, service), 100)
		is(t, "the container that chose its parent", in(chosen, chosen.group), 200)
		is(t, "the found container", in(found, found.group), 80)

		d.configure(t, "reader = \"parent\"\n")
		is(t, "the container in its pod", in(own, inner), 200)
		is(t, "its service in its pod", in(own, service), 200)
		is(t, "the found container in its pod", in(found, found.group), 200)
		if out, err := show(t, d, "--pid", fmt.Sprint(own.pid), "meminfo"); err != nil || totalOf(t, out) != 200 {
			t.Errorf("show: %v %s", err, out)
		}

		d.configure(t, "reader = \"caller\"\n")
		is(t, "a process of the container's own", in(own, inner), 100)
		is(t, "a process of its service", in(own, service), 50)
		is(t, "a process of another cgroup", in(own, found.group), 100)
		is(t, "a process of no cgroup", in(own, nil), 100)
		is(t, "the container that chose its parent", in(chosen, chosen.group), 200)
		is(t, "the found container", in(found, found.group), 80)
		d.configure(t, "")
	}
	fmt.Fprintln(held.in)
	is(t, "a descriptor of before", held.wait()[len("open\n"):], 100)

	// Side by side, through one inode: with read(2) nobody reads what is another's, with sendfile(2) only who takes longer
	// than the others wait for him.
	d.configure(t, "reader = \"caller\"\n")
	for program, most := range map[string]int{"dd bs=64k status=none if=/proc/meminfo": 0, "cat /proc/meminfo": fewer(200) / 10} {
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do busybox %s | busybox head -n 1; i=$((i+1)); done", fewer(200), program)
		loops := map[int64]*process{
			100: start(t, 10*time.Minute, own.commandIn(inner, "busybox", "sh", "-c", script)),
			50:  start(t, 10*time.Minute, own.commandIn(service, "busybox", "sh", "-c", script)),
		}
		for want, loop := range loops {
			foreign := 0
			for line := range strings.Lines(loop.wait()) {
				if totalOf(t, line) != want {
					foreign++
				}
			}
			report(t, "%s: %d of %d readers of %d MiB were shown another cgroup", program, foreign, fewer(200), want)
			if foreign > most {
				t.Errorf("%s: %d of %d readers of %d MiB were shown another cgroup", program, foreign, fewer(200), want)
			}
		}
	}
}

// TestPolicyFiles leaves a file to the kernel: it shows the machine where it is bound already, is not bound any more, and
// comes back.
func TestPolicyFiles(t *testing.T) {
	t.Parallel()
	d := startConfigured(t, "")
	machine := totalOf(t, readString(t, "/proc/meminfo"))
	bound := func(c *container) bool { return strings.Contains(c.read("proc/self/mountinfo"), " /proc/meminfo ") }
	running := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	compat := startContainer(t, d, newGroup(t).memory(110*miB), options{bind: compatTree})
	alone := startContainer(t, d, newGroup(t).memory(120*miB), options{bind: ownTree, policy: policy.Overrides{"files": "-meminfo,-cpu"}})
	if bound(alone) || !bound(running) || strings.Contains(alone.read("proc/self/mountinfo"), "/sys/devices/system/cpu/online") {
		t.Error("what is bound is not what was chosen")
	}
	is(t, "the container that chose the kernel's", alone.read("proc/meminfo"), machine)
	is(t, "the container beside it", running.read("proc/meminfo"), 100)

	d.configure(t, "[files]\nmeminfo = false\n")
	// Who reads by sendfile(2) may for a moment get a snapshot that others still read.
	soon := func(who string, c *container, want int64) {
		t.Helper()
		out := c.run("busybox", "cat", "/proc/meminfo")
		for deadline := time.Now().Add(timeout(patience)); totalOf(t, out) != want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			out = c.run("busybox", "cat", "/proc/meminfo")
		}
		is(t, who, out, want)
	}
	soon("the running container, turned off", running, machine)
	is(t, "the running container, turned off", running.read("proc/meminfo"), machine)
	is(t, "the shared tree, turned off", compat.read("proc/meminfo"), machine)
	is(t, "the own tree, turned off", readFile(t, filepath.Join(d.mount, "c", running.id, "proc/meminfo")), machine)
	fresh := startContainer(t, d, newGroup(t).memory(130*miB), options{bind: ownTree})
	if bound(fresh) {
		t.Error("a file that is turned off was bound into a new container")
	}
	is(t, "the new container", fresh.read("proc/meminfo"), machine)
	if out, err := show(t, d, "--explain", running.id, "meminfo"); err != nil || !strings.Contains(out, "leaves the file to the kernel") {
		t.Errorf("explained as %v %s", err, out)
	}

	d.configure(t, "[files]\nmeminfo = true\n")
	is(t, "the running container, turned on again", running.read("proc/meminfo"), 100)
	soon("the running container, turned on again", running, 100)
	is(t, "the shared tree, turned on again", compat.read("proc/meminfo"), 110)
	is(t, "the container that chose the kernel's", alone.read("proc/meminfo"), machine)
}

// TestPolicyShow compares what show prints and explains with what a container under a policy of its own reads.
func TestPolicyShow(t *testing.T) {
	t.Parallel()
	possible := twoCPUs(t)
	d := startDaemonIn(t, scratch(t), scopefs, "--cpu-identity", "ids", "--cpu-source", "cpuset")
	// Without a cpuset of two CPUs: on a machine with more that would decide as well.
	c := startContainer(t, d, newGroup(t).cpus(0.5), options{bind: ownTree, policy: policy.Overrides{"cpu_source": "quota", "cpu_rounding": "min2"}})
	base := startContainer(t, d, newGroup(t).cpus(0.5).cpuset("1"), options{bind: compatTree})
	checkCPUs(t, c, possible, 0, 1)
	checkCPUs(t, base, possible, 1)
	for who, as := range map[string]struct {
		args    []string
		online  string
		explain []string
	}{
		"id":     {[]string{c.id}, "0-1\n", []string{"cpu_source=quota", "cpu_rounding=min2", "cpu_identity=ids", "at least 2"}},
		"pid":    {[]string{"--pid", fmt.Sprint(c.pid)}, "0-1\n", []string{"cpu_rounding=min2"}},
		"cgroup": {[]string{"--cgroup", c.group.path}, "0-1\n", []string{"cpu_rounding=min2"}},
		"found":  {[]string{"--pid", fmt.Sprint(base.pid)}, "1\n", []string{"cpu_source=cpuset", "cpu_identity=ids", "cpuset", base.group.path}},
	} {
		if out, err := show(t, d, append(as.args, "online")...); err != nil || out != as.online {
			t.Errorf("%s: %v %q, want %q", who, err, out, as.online)
		}
		out, err := show(t, d, append(as.args, "--explain", "cpuinfo")...)
		if err != nil {
			t.Error(err)
		}
		for _, want := range as.explain {
			if !strings.Contains(out, want) {
				t.Errorf("%s: the explanation does not say %q: %s", who, want, out)
			}
		}
	}
	// Without a daemon it is the configuration file that counts, and its mistakes are told.
	none := &daemon{mount: scratch(t) + "/fs"}
	config := scratch(t) + "/config.toml"
	writeConfig(t, config, "cpu_identity = \"ids\"\n")
	if out, err := show(t, none, "--config", config, "--pid", fmt.Sprint(base.pid), "online"); err != nil || out != "1\n" {
		t.Errorf("without a daemon: %v %q", err, out)
	}
	writeConfig(t, config, "cpu_identity = \"id\"\n")
	if out, err := show(t, none, "--config", config, "--pid", fmt.Sprint(base.pid), "online"); err == nil || !strings.Contains(out, "line 1") {
		t.Errorf("with a file that is wrong: %v %q", err, out)
	}
	if out, err := show(t, d, "--config", config, "--pid", fmt.Sprint(base.pid), "online"); err != nil || out != "1\n" {
		t.Errorf("beside a daemon that did not take the file: %v %q", err, out)
	}
}
