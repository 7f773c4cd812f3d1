package e2e

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// smallGroup is a cgroup of 256 MiB, 64 MiB of swap, 1.5 CPUs of quota and a cpuset of two CPUs.
func smallGroup(t *testing.T) *group {
	t.Helper()
	return newGroup(t).memory(256 * miB).swap(64 * miB).cpus(1.5).cpuset("0-1")
}

// TestLimits reads the files of a small container through both trees.
func TestLimits(t *testing.T) {
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree, "host binds": hostBinds} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, smallGroup(t), options{bind: bind})
			checkSmall(t, c)
			checkPrograms(t, c)
		})
	}
}

// checkSmall checks the raw files of a container in a smallGroup.
func checkSmall(t *testing.T, c *container) {
	t.Helper()
	m := c.meminfo()
	if m["MemTotal"] != 256*miB {
		t.Errorf("MemTotal is %d, want 256 MiB", m["MemTotal"])
	}
	if m["MemFree"] > m["MemTotal"] || m["MemAvailable"] > m["MemTotal"] || m["MemFree"] > m["MemAvailable"] || m.used() < 0 {
		t.Errorf("not consistent: %v", m)
	}
	if m["Buffers"] != 0 {
		t.Errorf("Buffers is %d", m["Buffers"])
	}
	host := parseMeminfo(t, readString(t, "/proc/meminfo")+"\n")
	wantSwap := min(64*miB, host["SwapTotal"])
	if !accountsSwap() {
		wantSwap = 0
	}
	if m["SwapTotal"] != wantSwap || m["SwapFree"] > m["SwapTotal"] {
		t.Errorf("SwapTotal %d, SwapFree %d; want a total of %d", m["SwapTotal"], m["SwapFree"], wantSwap)
	}
	if len(m) != len(host) {
		t.Errorf("%d rows in meminfo, the machine's has %d", len(m), len(host))
	}
	swaps := c.read("proc/swaps")
	if want := 1 + min(1, int(wantSwap)); strings.Count(swaps, "\n") != want {
		t.Errorf("swaps has not %d lines:\n%s", want, swaps)
	}

	if n := c.stat().cpus(); n != 2 {
		t.Errorf("%d CPUs in stat", n)
	}
	cpuinfo := c.read("proc/cpuinfo")
	if n := len(regexp.MustCompile(`(?m)^processor\s*:`).FindAllString(cpuinfo, -1)); n != 2 {
		t.Errorf("%d CPUs in cpuinfo", n)
	}
	for file, want := range map[string]string{"online": "0-1", "present": "0-1", "offline": ""} {
		if got := strings.TrimSpace(c.read("sys/devices/system/cpu/" + file)); got != want {
			t.Errorf("%s CPUs: %q, want %q", file, got, want)
		}
	}
	if got, want := c.read("sys/devices/system/cpu/possible"), readString(t, "/sys/devices/system/cpu/possible"); strings.TrimSpace(got) != want {
		t.Errorf("possible CPUs: %q, the machine's are %q", got, want)
	}
	for file := range files {
		if err := whole(file, c.read(file)); err != nil {
			t.Error(err)
		}
	}
}

// checkPrograms checks what programs make of a smallGroup; c is in the host's root file system.
func checkPrograms(t *testing.T, c *container) {
	t.Helper()
	prints := func(want string, args ...string) {
		t.Helper()
		if args[0] != "busybox" && !has(t, args[0]) {
			return
		}
		out := c.run(args...)
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %s\n%s", strings.Join(args, " "), want, out)
		}
	}
	prints(`(?m)^Mem: +268435456 `, "free", "-b")
	prints(`(?m)^Mem: +256 `, "free", "-m")
	// busybox free and uptime ask sysinfo(2), which no file can answer for, and meminfo only for what is available.
	prints(`(?m)^Mem: .* (2[0-5]\d)\n`, "busybox", "free", "-m")
	if runtime.NumCPU() == 2 {
		prints(`(?m)^2$`, "nproc", "--all")
	} else {
		// It counts the cpuN directories or reads "possible", which both are the machine's so far.
		t.Logf("not checked with nproc --all: this machine has %d CPUs", runtime.NumCPU())
	}
	prints(`(?m)^2$`, "nproc")
	prints(`(?m)^2$`, "getconf", "_NPROCESSORS_ONLN")
	prints(`(?m)^2$`, "busybox", "grep", "-c", "processor", "/proc/cpuinfo")
	prints(`(?m)^2$`, "python3", "-c", "import os; print(os.cpu_count())")
	prints(`^268435456 2\n$`, "node", "-e", "const os = require('os'); console.log(os.totalmem(), os.cpus().length)")
	prints(`MiB Mem : +256.0 total`, "top", "-bn1")
	prints(`Mem: \d+K used, \d+K free`, "busybox", "top", "-bn1")
	prints(`procs -+memory`, "vmstat", "1", "2")
	minutes := "0"
	if inVM {
		minutes = "[0-9]" // that is how slow it may be
	}
	prints(` up +`+minutes+` min,`, "uptime")
	prints(` up +`+minutes+` min,`, "w")
	prints(`\bps\b`, "ps", "aux")
	prints(`(?m)^CPU\(s\): +2$`, "lscpu")
	prints(`\(2 CPU\)`, "mpstat")
}

// TestPod sets limits on the parent of two containers only.
func TestPod(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	pod := newGroup(t).memory(200 * miB).cpus(1)
	for _, bind := range []bindKind{ownTree, compatTree} {
		t.Run(fmt.Sprint(bind), func(t *testing.T) {
			name := fmt.Sprint(bind)
			c := startContainer(t, d, pod.child("c"+name), options{bind: bind})
			sibling := startContainer(t, d, pod.child("s"+name), options{bind: bind})
			before := c.meminfo()
			if before["MemTotal"] != 200*miB {
				t.Errorf("MemTotal is %d, the pod has 200 MiB", before["MemTotal"])
			}
			if n := c.stat().cpus(); n != 1 {
				t.Errorf("%d CPUs, the pod has 1", n)
			}
			eater := sibling.touched(80 * miB)
			after := c.meminfo()
			// The process that touches takes some MiB itself, and the kernel charges ahead for each CPU.
			if grown := before["MemFree"] - after["MemFree"]; !near(grown, 86*miB, 14*miB) {
				t.Errorf("a sibling touched 80 MiB and MemFree fell by %d", grown)
			}
			finish(eater)
		})
	}
}

// TestResize changes limits while the container runs; each shows at the next read, also of a descriptor that is open.
func TestResize(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for _, bind := range []bindKind{ownTree, compatTree} {
		g := newGroup(t).memory(100 * miB).cpus(1)
		c := startContainer(t, d, g, options{bind: bind})
		for _, size := range []int64{100, 300, 150} {
			g.memory(size * miB)
			if got := c.meminfo()["MemTotal"]; got != size*miB {
				t.Errorf("MemTotal is %d after the limit became %d MiB", got, size)
			}
		}
		for _, cpus := range []int{2, 1} {
			g.cpus(float64(cpus))
			if got := c.stat().cpus(); got != cpus {
				t.Errorf("%d CPUs after the quota became %d", got, cpus)
			}
			if got, want := c.read("sys/devices/system/cpu/online"), map[int]string{1: "0\n", 2: "0-1\n"}[cpus]; got != want {
				t.Errorf("online is %q after the quota became %d", got, cpus)
			}
		}
		g.cpus(0).cpuset("0")
		if got := c.stat().cpus(); got != 1 {
			t.Errorf("%d CPUs after the cpuset became 0", got)
		}
		// The same shell reads on with what it opened before.
		p := start(t, patience, c.command("busybox", "sh", "-c", `exec 3</proc/meminfo; echo ready; read x; head -1 <&3`))
		p.expect("ready")
		g.memory(222 * miB)
		if _, err := p.in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		if out := p.wait(); !strings.Contains(out, fmt.Sprint(222*miB/kiB)) {
			t.Errorf("an open descriptor's first read is not of now: %s", out)
		}
	}
}
