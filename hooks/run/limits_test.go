package run

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "4096": 4096, "1k": 1 << 10, "256M": 256 << 20, "256m": 256 << 20, "64MiB": 64 << 20, "64mb": 64 << 20,
		"1.5g": 3 << 29, "2T": 2 << 40, "10b": 10, " 1G ": 1 << 30, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(s); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "M", "-1", "1x", "1kk", "k1", "1 2", "inf", "nan", "0x10", "1e3", "5ib", "1.2.3", "9223372036854775808", "8388608T", ".", "1_000"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d", s, got)
		} else if !strings.Contains(err.Error(), s) {
			t.Errorf("ParseSize(%q): %v does not name it", s, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("1.5g")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); n < 0 || err != nil && n != 0 {
			t.Errorf("ParseSize(%q) = %d, %v", s, n, err)
		}
	})
}

func TestCheck(t *testing.T) {
	swap := int64(0)
	for _, l := range []Limits{{}, {Memory: 1, Swap: &swap, CPUs: 0.01, Cpuset: "0", Pids: 1}, {Cpuset: "0-3,7,8-20:2/4"}} {
		if err := l.check(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for want, l := range map[string]Limits{
		"--memory -1":         {Memory: -1},
		"--cpus 0.001":        {CPUs: 0.001},
		"--cpus -1":           {CPUs: -1},
		"--cpus NaN":          {CPUs: math.NaN()},
		"--cpus +Inf":         {CPUs: math.Inf(1)},
		"--pids -1":           {Pids: -1},
		"--cpuset x":          {Cpuset: "x"},
		"--cpuset 1-":         {Cpuset: "1-"},
		"--cpuset 3-1":        {Cpuset: "3-1"},
		"--cpuset 0,,1":       {Cpuset: "0,,1"},
		"--cpuset 0-3:0/2":    {Cpuset: "0-3:0/2"},
		"--cpuset 0:1/2":      {Cpuset: "0:1/2"},
		"--cpuset 0\n1":       {Cpuset: "0\n1"},
		"--cpuset 9999999999": {Cpuset: "9999999999"},
	} {
		if err := l.check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// limitFiles are where the limits of TestLimits are, as far as the host has the controller: v1's, then v2's name.
var limitFiles = []struct{ v1, v1want, v2, v2want string }{
	{"memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
	{"memory/memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"},
	{"memory/memory.use_hierarchy", "1", "", ""},
	{"cpu/cpu.cfs_quota_us", "150000", "cpu.max", "150000 100000"},
	{"cpu/cpu.cfs_period_us", "100000", "", ""},
	{"cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"},
	{"pids/pids.max", "50", "pids.max", "50"},
}

func TestLimits(t *testing.T) {
	h := newHost(t)
	swap := int64(32 << 20)
	o := Options{Limits: Limits{Memory: 64 << 20, Swap: &swap, CPUs: 1.5, Cpuset: "0", Pids: 50}}
	var script strings.Builder
	var want []string
	for _, f := range limitFiles {
		if cgroups.Mode() == cgroups.Unified && f.v2 != "" {
			script.WriteString("cat " + filepath.Join(cgroupRoot, h.parent, "$(hostname)", f.v2) + "\n")
			want = append(want, f.v2want)
		} else if cgroups.Mode() != cgroups.Unified {
			controller, file := filepath.Split(f.v1)
			script.WriteString("cat " + filepath.Join(cgroupRoot, controller, h.parent, "$(hostname)", file) + "\n")
			want = append(want, f.v1want)
		}
	}
	h.want(o, 0, strings.Join(want, "\n"), "sh", "-c", script.String())
}

// The command is in the container's cgroup in every hierarchy that has one.
func TestMembership(t *testing.T) {
	h := newHost(t)
	out, status := h.run(Options{}, "sh", "-c", "grep -v -e name= -e 0::/$ -e hugetlb -e perf -e net_ -e rdma -e misc /proc/self/cgroup")
	if status != 0 || out == "" {
		t.Fatalf("%d %s", status, out)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if !strings.Contains(line, h.parent+"/run-") {
			t.Errorf("%s: not the container's", line)
		}
	}
}

func TestLimitErrors(t *testing.T) {
	h := newHost(t)
	out, status := h.run(Options{Limits: Limits{Cpuset: "0-100000"}}, "true")
	if status != 125 || !strings.Contains(out, "--cpuset 0-100000: ") {
		t.Errorf("%d %s", status, out)
	}
	out, status = h.run(Options{Limits: Limits{CPUs: 0.001}}, "true")
	if status != 125 || !strings.Contains(out, "--cpus 0.001: want") {
		t.Errorf("%d %s", status, out)
	}
	if cgroups.Mode() != cgroups.Unified {
		swap := int64(0)
		if out, status := h.run(Options{Limits: Limits{Swap: &swap}}, "true"); status != 125 || !strings.Contains(out, "needs --memory") {
			t.Errorf("%d %s", status, out)
		}
	}
}

// A limit on the parent, as a pod has it.
func TestParent(t *testing.T) {
	h := newHost(t)
	if cgroups.Mode() == cgroups.Unified {
		t.Skip("the limit is set by hand in a v1 file")
	}
	pod := filepath.Join(cgroupRoot, "memory", h.parent)
	if err := os.Mkdir(pod, 0o755); err != nil {
		t.Fatal(err)
	}
	// As every runtime does on kernels before 5.11.
	if err := os.WriteFile(filepath.Join(pod, "memory.use_hierarchy"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pod, "memory.limit_in_bytes"), []byte("50M"), 0); err != nil {
		t.Fatal(err)
	}
	h.want(Options{}, 0, "hierarchical_memory_limit 52428800", "sh", "-c",
		"grep hierarchical_memory_limit "+pod+"/$(hostname)/memory.stat")
}

func TestOutOfMemory(t *testing.T) {
	h := newHost(t)
	swap := int64(0)
	o := Options{Limits: Limits{Memory: 20 << 20, Swap: &swap}}
	out, status := h.run(o, "sh", "-c", "head -c 100000000 /dev/zero | tail -n 1 | wc -c")
	if strings.HasPrefix(out, "100000000") {
		t.Errorf("took more memory than allowed: %d %s", status, out)
	}
}

// What the container leaves in its cgroups, and makes below them, is removed.
func TestCgroupsOfItsOwn(t *testing.T) {
	h := newHost(t)
	if cgroups.Mode() == cgroups.Unified {
		t.Skip("makes v1 cgroups")
	}
	h.want(Options{}, 0, "", "sh", "-c", `
		for c in memory pids freezer; do
			sub=/sys/fs/cgroup/$c`+h.parent+`/$(hostname)/a/b; mkdir -p $sub; (sleep 100 & echo $! > $sub/cgroup.procs)
		done`)
}

// Frozen processes keep a dead PID 1 waiting; a signal to run ends them all the same.
func TestFrozen(t *testing.T) {
	h := newHost(t)
	if cgroups.Mode() == cgroups.Unified {
		t.Skip("freezes by cgroup v1")
	}
	sub := "/sys/fs/cgroup/freezer" + h.parent + "/$(hostname)/sub"
	cmd := h.started("mkdir " + sub + "; sleep 100 & echo $! >" + sub + "/cgroup.procs; echo FROZEN >" + sub + "/freezer.state; echo")
	time.Sleep(100 * time.Millisecond)
	cmd.Process.Signal(unix.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("run waits for ever")
	}
}
