package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// sleeper starts a process in a pid namespace and new cgroups of this machine.
func sleeper(b *testing.B, name string) (pid int) {
	b.Helper()
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		roots = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	if os.Geteuid() != 0 || len(roots) == 0 {
		b.Skip("needs root, and cgroups")
	}
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Skip(err)
	}
	var dirs []string
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil {
				b.Error(err)
			}
		}
	})
	for _, root := range roots {
		top := filepath.Dir(root)
		dir := filepath.Join(top, fmt.Sprintf("scopefs-container-%d-%s", os.Getpid(), name))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		dirs = append(dirs, dir)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // a new cpuset of v1 is empty, and takes no tasks
			if text, err := os.ReadFile(filepath.Join(top, file)); err == nil {
				_ = os.WriteFile(filepath.Join(dir, file), text, 0)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			b.Fatal(err)
		}
	}
	return cmd.Process.Pid
}

// openMachine is a registry of this machine.
func openMachine(b *testing.B) (*Registry, *host.Snapshot) {
	b.Helper()
	hostFS, err := host.Open("")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { hostFS.Close() })
	r, err := Open(hostFS, Options{LedgerDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	h := &host.Snapshot{}
	if err := hostFS.Snapshot(host.NeedCPULists, h); err != nil {
		b.Fatal(err)
	}
	return r, h
}

var benchNeeds = map[string]Need{
	"meminfo": NeedMemory, "stat": NeedTimes | NeedLoad, "cpuinfo": NeedCPU, "loadavg": NeedLoad, "uptime": NeedAge | NeedTimes,
	"vmstat": NeedMemory | NeedEvents | NeedIO, "pressure": NeedPressure(cgroup.PressureMemory),
}

// What the numbers of a file cost, of a container of this machine that has been read before.
func BenchmarkSnapshot(b *testing.B) {
	pid := sleeper(b, "snapshot")
	r, h := openMachine(b)
	c, err := r.Announce("c", pid, nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, need := range benchNeeds {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var s Snapshot
			for b.Loop() {
				h.Boottime = boottime()
				if err := c.Snapshot(need, h, pid, &s); err != nil {
					b.Skip(err)
				}
			}
		})
	}
}

// The look-up that opens of the shared tree begin with.
func BenchmarkResolve(b *testing.B) {
	pid := sleeper(b, "resolve")
	r, _ := openMachine(b)
	b.ReportAllocs()
	for b.Loop() {
		c, err := r.Resolve(pid)
		if err != nil {
			b.Fatal(err)
		}
		c.Release()
	}
}

// A container from its announcement, and its first reads.
func BenchmarkFirst(b *testing.B) {
	pid := sleeper(b, "first")
	r, h := openMachine(b)
	var s Snapshot
	announce := func(b *testing.B) *Container {
		c, err := r.Announce("c", pid, nil)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	forget := func(b *testing.B) {
		if err := r.Forget("c"); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("announce", func(b *testing.B) {
		for b.Loop() {
			announce(b)
			b.StopTimer()
			forget(b)
			b.StartTimer()
		}
	})
	for name, need := range benchNeeds {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c := announce(b)
				h.Boottime = boottime()
				b.StartTimer()
				if err := c.Snapshot(need, h, pid, &s); err != nil {
					b.Skip(err)
				}
				b.StopTimer()
				forget(b)
				b.StartTimer()
			}
		})
	}
}
