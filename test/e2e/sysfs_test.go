package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	cpuDir  = "sys/devices/system/cpu"
	nodeDir = "sys/devices/system/node"
)

// sysFiles are files that are read through from the machine's sysfs, rewritten or not, and what they look like as a whole.
var sysFiles = map[string]*regexp.Regexp{
	cpuDir + "/kernel_max":                       regexp.MustCompile(`\A\d+\n\z`),
	cpuDir + "/cpu0/topology/core_siblings_list": cpuList,
	cpuDir + "/cpu0/topology/core_siblings":      regexp.MustCompile(`\A[\da-f]+(,[\da-f]{8})*\n\z`),
	cpuDir + "/cpu0/uevent":                      regexp.MustCompile(`\A(\w+=.*\n+)*\z`),
}

// seen is what a container is to see of the CPUs: their numbers, and the machine's CPUs behind them.
type seen struct {
	identity          string
	numbers, physical []int
}

// seenAs is what a policy makes of the machine's CPUs.
func seenAs(identity string, physical []int) seen {
	s := seen{identity, slices.Clone(physical), physical}
	if identity != "ids" {
		for i := range s.numbers {
			s.numbers[i] = i
		}
	}
	return s
}

// list is the CPUs as the kernel lists them.
func (s *seen) list() string { return listText(s.numbers) }

// rename turns a list of the machine's CPUs into one of the visible ones.
func (s *seen) rename(t testing.TB, list string) string {
	t.Helper()
	var cpus []int
	for _, cpu := range numberList(t, list) {
		if i := slices.Index(s.physical, cpu); i >= 0 {
			cpus = append(cpus, s.numbers[i])
		}
	}
	return listText(cpus)
}

// TestSysfs looks at /sys/devices/system/cpu in containers of all kinds, by file and through programs, with each way of
// numbering CPUs, limited by a cpuset or a quota.
func TestSysfs(t *testing.T) {
	t.Parallel()
	online := numberList(t, readString(t, "/"+cpuDir+"/online"))
	if len(online) < 2 {
		t.Skip("needs two CPUs")
	}
	set, quota := online[1:2], online[:1]
	if len(online) >= 4 {
		set, quota = []int{online[1], online[3]}, online[:3]
	}
	setList, cpus := listText(set), float64(len(quota))-0.5
	for _, identity := range []string{"count", "ids", "coherent"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			d := startDaemonIn(t, scratch(t), scopefs, "--cpu-identity", identity)
			byCPUSet, byQuota := seenAs(identity, set), seenAs(identity, quota)
			limitedBy := map[string]func(*group) (*group, seen){
				"cpuset": func(g *group) (*group, seen) { return g.cpuset(setList), byCPUSet },
				"quota":  func(g *group) (*group, seen) { return g.cpus(cpus), byQuota },
			}
			for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree, "host's binds": hostBinds} {
				for limit, set := range limitedBy {
					t.Run(name+" "+limit, func(t *testing.T) {
						// In a VM each once: all of it would take half an hour.
						once := map[string]string{"own cpuset": "count", "compat quota": "count", "compat cpuset": "ids", "own quota": "coherent"}
						if inVM && once[name+" "+limit] != identity {
							t.Skip("not repeated in a VM, which is slow")
						}
						g, s := set(newGroup(t))
						checkSysfs(t, startContainer(t, d, g, options{bind: bind}), s, true)
					})
				}
			}
			if inVM && identity != "count" {
				return
			}
			for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
				t.Run("runc "+name, func(t *testing.T) {
					need(t, "runc")
					root, err := busyboxRoot()
					if err != nil {
						t.Fatal(err)
					}
					checkSysfs(t, startRunc(t, d, newGroup(t).cpuset(setList), root, bind), byCPUSet, false)
				})
			}
			for limit, s := range map[string]seen{"--cpuset=" + setList: byCPUSet, fmt.Sprintf("--cpus=%v", cpus): byQuota} {
				t.Run("run "+limit, func(t *testing.T) {
					checkSysfs(t, &container{t: t, exec: func(args ...string) *exec.Cmd {
						return exec.Command(scopefs, append([]string{"run", "--socket", d.socket, limit, "--"}, args...)...)
					}}, s, !inVM)
				})
			}
		})
	}
}

// checkSysfs checks what a container sees; programs says that it has the host's.
func checkSysfs(t *testing.T, c *container, s seen, programs bool) {
	t.Helper()
	want := map[string]string{
		"online": s.list(), "present": s.list(), "offline": "", "isolated": "",
		"possible": readString(t, "/"+cpuDir+"/possible"), "kernel_max": readString(t, "/"+cpuDir+"/kernel_max"),
		"cpuN": strings.Trim(fmt.Sprint(s.numbers), "[]"),
	}
	want["cpuinfo"], want["stat"] = want["cpuN"], want["cpuN"]
	if s.identity == "coherent" {
		want["possible"], want["kernel_max"] = s.list(), fmt.Sprint(len(s.numbers)-1)
	}
	got := map[string]string{}
	for line := range strings.Lines(c.shell(`cd /` + cpuDir + `
		for f in online present offline isolated possible kernel_max; do echo $f $(busybox cat $f); done
		echo cpuN $(busybox ls | busybox sed -n 's/^cpu\([0-9][0-9]*\)$/\1/p' | busybox sort -n)
		echo cpuinfo $(busybox sed -n 's/^processor\t*: //p' /proc/cpuinfo)
		echo stat $(busybox sed -n 's/^cpu\([0-9]*\) .*/\1/p' /proc/stat)`)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		got[name] = value
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %q, want %q", name, got[name], value)
		}
	}
	checkCPUDirectories(t, c, s)
	checkListing(t, c, programs)
	if programs {
		checkCPUPrograms(t, c, s)
	}
}

// describe prints name, type, mode and owner of everything in a directory.
const describe = ` && busybox find . -exec busybox stat -c '%n %F %a %u %g' {} +`

// checkCPUDirectories compares each cpuN with that of the CPU behind it, of which it has everything but what runtimes hide.
func checkCPUDirectories(t *testing.T, c *container, s seen) {
	t.Helper()
	sorted := func(text string) []string {
		lines := slices.Sorted(strings.Lines(text))
		return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "./thermal_throttle") })
	}
	// The names of the lists, so that one command reads them all.
	lists := "topology/*_list cache/index*/shared_cpu_list"
	for i, number := range s.numbers {
		machine, own := fmt.Sprintf("cd /%s/cpu%d", cpuDir, s.physical[i]), fmt.Sprintf("cd /%s/cpu%d", cpuDir, number)
		want, got := sorted(output(t, "busybox", "sh", "-c", machine+describe)), sorted(c.shell(own+describe))
		if !slices.Equal(got, want) {
			t.Errorf("cpu%d has\n%s\nthe machine's cpu%d\n%s", number, strings.Join(got, ""), s.physical[i], strings.Join(want, ""))
		}
		print := ` && for f in ` + lists + `; do [ -e $f ] && echo $f $(busybox cat $f); done; true`
		wantLists := map[string]string{}
		for line := range strings.Lines(output(t, "busybox", "sh", "-c", machine+print)) {
			name, list, _ := strings.Cut(strings.TrimSpace(line), " ")
			wantLists[name] = s.rename(t, list)
		}
		for line := range strings.Lines(c.shell(own + print)) {
			if name, list, _ := strings.Cut(strings.TrimSpace(line), " "); wantLists[name] != list {
				t.Errorf("cpu%d/%s is %q, want %q", number, name, list, wantLists[name])
			}
		}
		if len(wantLists) == 0 {
			t.Errorf("the machine's cpu%d has no lists", s.physical[i])
		}
	}
}

// checkListing walks the whole directory: everything that is listed can be looked at, and links lead somewhere.
func checkListing(t *testing.T, c *container, programs bool) {
	t.Helper()
	clean := func(args ...string) {
		t.Helper()
		p := start(t, patience, c.command(args...))
		out, err := p.result()
		if err != nil || p.err.String() != "" || len(out) < 1000 {
			t.Errorf("%v: %v, %d bytes, %q", args, err, len(out), p.err.String())
		}
	}
	clean("busybox", "ls", "-lR", "/"+cpuDir)
	if programs {
		if has(t, "find") {
			clean("find", "/"+cpuDir, "/"+nodeDir, "-ls")
		}
		if has(t, "ls") {
			clean("ls", "-lR", "/"+cpuDir, "/"+nodeDir)
		}
	}
	dead := c.shell(`busybox find /` + cpuDir + ` -type l | while read l; do [ -e $l ] || echo $l; done`)
	for link := range strings.Lines(dead) {
		// Some lead to devices that the machine has only at another place of its tree; then they do on the machine too.
		t.Errorf("%s leads nowhere", strings.TrimSpace(link))
	}
	// Nothing can be written, even by root with the files' modes.
	if out := c.shell(`for f in /` + cpuDir + `/uevent /` + cpuDir + `/cpu*/uevent; do (echo change >$f) 2>/dev/null && echo $f; done; true`); out != "" {
		t.Errorf("written: %s", out)
	}
}

// checkCPUPrograms asks programs for the CPUs.
func checkCPUPrograms(t *testing.T, c *container, s seen) {
	t.Helper()
	n := len(s.numbers)
	if has(t, "lscpu") {
		out := c.run("lscpu")
		if cpus, list := valueOf(out, "CPU(s)"), numberList(t, valueOf(out, "On-line CPU(s) list")); cpus != fmt.Sprint(n) || !slices.Equal(list, s.numbers) {
			t.Errorf("lscpu: %s CPUs, online %v, want %v\n%s", cpus, list, s.numbers, out)
		}
		if got := strings.Fields(c.run("lscpu", "-e=CPU")); !slices.Equal(got[1:], strings.Fields(strings.Trim(fmt.Sprint(s.numbers), "[]"))) {
			t.Errorf("lscpu -e: %v, want %v", got, s.numbers)
		}
		if out := c.run("lscpu", "-e"); strings.Count(out, "\n") != 1+n {
			t.Errorf("lscpu -e has not %d lines:\n%s", 1+n, out)
		}
		var tree any
		if err := json.Unmarshal([]byte(c.run("lscpu", "-J")), &tree); err != nil {
			t.Errorf("lscpu -J: %v", err)
		}
	}
	if has(t, "getconf") {
		out := c.run("getconf", "-a")
		if got := firstAfter(out, "_NPROCESSORS_ONLN"); got != fmt.Sprint(n) {
			t.Errorf("getconf _NPROCESSORS_ONLN: %q, want %d", got, n)
		}
		// glibc takes possible; older ones count the cpuN directories.
		conf, possible := firstAfter(out, "_NPROCESSORS_CONF"), len(numberList(t, c.read(cpuDir+"/possible")))
		if conf != fmt.Sprint(possible) && conf != fmt.Sprint(n) {
			t.Errorf("getconf _NPROCESSORS_CONF: %q; possible are %d, visible %d", conf, possible, n)
		}
		// coreutils asks sched_getaffinity(2) in place of a small number.
		if all := strings.TrimSpace(c.run("nproc", "--all")); all != conf && (len(conf) > 1 || conf > "2") {
			t.Errorf("nproc --all: %s, getconf says %s", all, conf)
		}
	}
	if has(t, "mpstat") {
		out := c.run("mpstat", "-P", "ALL")
		if !strings.Contains(out, fmt.Sprintf("(%d CPU)", n)) {
			t.Errorf("mpstat: want %d CPUs\n%s", n, out)
		}
		var rows []string
		for line := range strings.Lines(out) {
			if m := regexp.MustCompile(`^\S+(?: [AP]M)? +(\d+) +[\d.]+ `).FindStringSubmatch(line); m != nil {
				rows = append(rows, m[1])
			}
		}
		if want := strings.Fields(strings.Trim(fmt.Sprint(s.numbers), "[]")); !slices.Equal(rows, want) {
			t.Errorf("mpstat -P ALL: rows %v, want %v\n%s", rows, want, out)
		}
	}
	if has(t, "lstopo-no-graphics") {
		// hwloc leaves out what sched_getaffinity(2) does not name, by physical numbers: docs/views.md.
		args := []string{"lstopo-no-graphics", "--only", "pu"}
		if !slices.Equal(s.numbers, s.physical) {
			args = append(args, "--disallowed")
		}
		if out := c.run(args...); strings.Count(out, "PU ") != n {
			t.Errorf("%v: want %d PUs\n%s", args, n, out)
		}
	}
}

// valueOf is the value of a line "key: value".
func valueOf(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// firstAfter is the first word behind another at the start of a line.
func firstAfter(text, word string) string {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == word {
			return f[1]
		}
	}
	return ""
}

// TestSysfsModes reads what only root may, as another user. The kernel decides, by the modes that scopefs shows.
func TestSysfsModes(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t).cpus(1), options{bind: bind})
			closed := strings.Fields(c.shell(`busybox find /` + cpuDir + ` /` + nodeDir + ` -type f ! -perm -004`))
			if len(closed) == 0 {
				t.Skip("this machine has no file that only root may read")
			}
			as := func(script string) string {
				return start(t, patience, c.command(selfExe, "nobody", "busybox", "sh", "-c", script)).wait()
			}
			if out := as("for f in " + strings.Join(closed, " ") + "; do busybox cat $f 2>&1; done; true"); strings.Count(out, "Permission denied\n") != len(closed) {
				t.Errorf("%v, read by another user:\n%s", closed, out)
			}
			if out := as("busybox cat /" + cpuDir + "/cpu0/topology/core_id"); out == "" {
				t.Error("what all may read, another user may not")
			}
		})
	}
}

// TestSysfsQuotaChanges takes CPUs away from a container that holds their files open, and gives them back.
func TestSysfsQuotaChanges(t *testing.T) {
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t).cpus(2).cpuset("0-1")
			c := startContainer(t, d, g, options{bind: bind})
			cpu1 := "/" + cpuDir + "/cpu1"
			p := start(t, patience, c.command("busybox", "sh", "-c", "exec 3<"+cpu1+"/topology/core_id; echo open; read x; busybox cat <&3"))
			p.expect("open")
			g.cpus(1)
			if out := c.shell("cd /" + cpuDir + "; echo cpu[0-9]*; [ -e cpu1 ] || echo gone; busybox cat cpu0/topology/core_id"); !strings.HasPrefix(out, "cpu0\ngone\n") {
				t.Errorf("with one CPU: %q", out)
			}
			if _, err := p.in.Write([]byte("\n")); err != nil {
				t.Fatal(err)
			}
			if out, err := p.result(); err == nil || !strings.Contains(p.err.String(), "No such device") {
				t.Errorf("an open file of a CPU that went: %v, %q, %q", err, out, p.err.String())
			}
			g.cpus(2)
			if out := c.shell("busybox cat " + cpu1 + "/topology/core_id"); strings.TrimSpace(out) != readString(t, cpu1+"/topology/core_id") {
				t.Errorf("with two CPUs again: %q", out)
			}
		})
	}
}

// TestHotplug takes one of the machine's CPUs offline and back while containers run.
func TestHotplug(t *testing.T) {
	if !inVM {
		t.Skip("takes a CPU from the machine: in VMs only")
	}
	const file = "/" + cpuDir + "/cpu1/online"
	power := func(state string) error { return os.WriteFile(file, []byte(state), 0) }
	if err := power("1"); err != nil {
		t.Skipf("this machine's CPUs stay: %v", err)
	}
	t.Cleanup(func() {
		if err := power("1"); err != nil {
			t.Error(err)
		}
	})
	d := startDaemon(t)
	limited := startContainer(t, d, newGroup(t).memory(256*miB), options{bind: ownTree})
	found := startContainer(t, d, newGroup(t).memory(256*miB), options{bind: compatTree})
	for _, state := range []string{"1", "0", "1", "0"} {
		if err := power(state); err != nil {
			t.Fatal(err)
		}
		online := numberList(t, readString(t, "/"+cpuDir+"/online"))
		for _, c := range []*container{limited, found} {
			n := len(numberList(t, c.read(cpuDir+"/online")))
			// A cpuset of v1 does not get a CPU back that came online again.
			if n != len(online) && (state == "0" || n != len(online)-1) {
				t.Errorf("cpu1 %s: %d CPUs, the machine has %d", state, n, len(online))
			}
			counts := c.shell("cd /" + cpuDir + `
				echo directories $(busybox ls | busybox grep -c '^cpu[0-9]')
				echo topologies $(busybox ls -d cpu*/topology | busybox wc -l)
				echo blocks $(busybox grep -c '^processor' /proc/cpuinfo)
				echo rows $(busybox grep -c '^cpu[0-9]' /proc/stat)`)
			if has(t, "lscpu") {
				counts += "lscpu " + valueOf(c.run("lscpu"), "CPU(s)") + "\n"
			}
			for line := range strings.Lines(counts) {
				if f := strings.Fields(line); f[1] != fmt.Sprint(n) {
					t.Errorf("cpu1 %s: %s %s, %d CPUs are online", state, f[1], f[0], n)
				}
			}
		}
	}
}
