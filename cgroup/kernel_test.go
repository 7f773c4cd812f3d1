package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// This file tests against the running kernel's cgroups. It needs root and v1 controllers.

// kernelTree makes and removes cgroups of one name in the v1 hierarchies and the v2 one.
type kernelTree struct {
	h    *Hierarchies
	name string
}

func newKernelTree(t testing.TB, controllers ...string) *kernelTree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	h, err := Discover("")
	if err != nil {
		t.Skip(err)
	}
	k := &kernelTree{h: h, name: fmt.Sprintf("/scopefs-test-%d-%s", os.Getpid(), strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"))}
	for _, c := range controllers {
		if at, _ := v1Hierarchy(c); h.mounts[at] == nil {
			t.Skipf("no v1 hierarchy of %s is mounted", c)
		}
	}
	t.Cleanup(k.remove)
	return k
}

// paths is the cgroup below the tree's own in each hierarchy that is mounted.
func (k *kernelTree) paths(below string) (p Paths) {
	for h, m := range k.h.mounts {
		if m != nil {
			*p.field(hierarchy(h)) = k.name + below
		}
	}
	return p
}

// dir is the directory of a cgroup of a v1 controller.
func (k *kernelTree) dir(controller, below string) string {
	dir, _, _ := k.h.Dir(controller, k.paths(below))
	return dir
}

func (k *kernelTree) make(t testing.TB, below string) {
	t.Helper()
	for _, m := range k.h.mounts {
		if m == nil {
			continue
		}
		if err := os.Mkdir(m.point+k.name+below, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	// Before Linux 5.11 a v1 memory cgroup did not count what is below it unless told to while it has no children.
	if k.h.mounts[memory] != nil && below == "" {
		k.set(t, "memory", "", "memory.use_hierarchy", "1")
	}
}

// remove removes the tree, leaves first. A cgroup that is busy for a moment after its last task ended is tried again.
func (k *kernelTree) remove() {
	for _, m := range k.h.mounts {
		if m == nil {
			continue
		}
		for range 100 {
			if removeTree(m.point+k.name) == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func removeTree(dir string) error {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(dir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	err := unix.Rmdir(dir)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func (k *kernelTree) set(t testing.TB, controller, below, file, value string) {
	t.Helper()
	if err := os.WriteFile(k.dir(controller, below)+"/"+file, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func TestKernelLimits(t *testing.T) {
	k := newKernelTree(t, "memory", "cpu", "cpuacct", "cpuset")
	k.make(t, "")
	k.make(t, "/app")
	k.set(t, "memory", "", "memory.limit_in_bytes", "256M")
	k.set(t, "memory", "/app", "memory.limit_in_bytes", "128M")
	k.set(t, "cpu", "", "cpu.cfs_quota_us", "150000")
	k.set(t, "cpu", "/app", "cpu.shares", "512")
	k.set(t, "cpuset", "", "cpuset.mems", "0")
	k.set(t, "cpuset", "", "cpuset.cpus", "0")

	g := open(t, NewFS(k.h), k.paths("/app"))
	m := readMemory(t, g)
	if m.Version != V1 || !slices.Equal(limits(m), []uint64{128 * mib, 256 * mib}) {
		t.Errorf("memory %+v", m)
	}
	c := readCPU(t, g)
	if len(c.Levels) != 2 || c.Levels[0].Quota != Unlimited || c.Levels[1].Quota != 150000 || c.Levels[1].Period != 100000 {
		t.Errorf("cpu levels %+v", c.Levels)
	}
	if c.Shares != 512 || !slices.Equal(c.Set, []int{0}) || c.SetPath != k.name {
		t.Errorf("cpu %+v", c)
	}

	// Limits that change show at the next read.
	k.set(t, "memory", "/app", "memory.limit_in_bytes", "64M")
	k.set(t, "cpu", "", "cpu.cfs_quota_us", "-1")
	k.set(t, "cpuset", "", "cpuset.cpus", "0-1")
	if m := readMemory(t, g); !slices.Equal(limits(m), []uint64{64 * mib, 256 * mib}) {
		t.Errorf("memory after the change %+v", m)
	}
	if c := readCPU(t, g); c.Levels[1].Quota != Unlimited || !slices.Equal(c.Set, []int{0, 1}) {
		t.Errorf("cpu after the change %+v", c)
	}
}

func TestKernelUsage(t *testing.T) {
	k := newKernelTree(t, "memory", "cpu", "cpuacct", "pids")
	k.make(t, "")
	k.make(t, "/app")
	k.set(t, "cpu", "", "cpu.cfs_quota_us", "20000")
	g := open(t, NewFS(k.h), k.paths("")) // above the cgroup that the process is in
	cmd := exec.Command("sh", "-c", "read go; while :; do :; done")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // runs before the tree's
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for _, controller := range []string{"memory", "cpu", "cpuacct", "pids"} {
		k.set(t, controller, "/app", "cgroup.procs", fmt.Sprint(cmd.Process.Pid))
	}
	fmt.Fprintln(stdin, "go")

	deadline := time.Now().Add(10 * time.Second)
	for {
		c, m := readCPU(t, g), readMemory(t, g)
		ns, err := g.ReadUsage()
		if err != nil {
			t.Fatal(err)
		}
		each, err := g.ReadPerCPU(nil)
		if err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for _, u := range each {
			sum += u.User + u.System
		}
		if c.User > 0 && c.Levels[0].Throttled > 0 && m.Levels[0].Usage > 0 && ns > 0 && sum > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a busy process under a quota: cpu %+v, usage %d, per CPU %v, memory %+v", c, ns, each, m)
		}
		time.Sleep(10 * time.Millisecond)
	}
	r := read(t, g)
	if want := []int{cmd.Process.Pid}; !slices.Equal(r.Tasks, want) || !slices.Equal(r.Procs, want) || r.TaskCount != 1 {
		t.Errorf("tasks %v, processes %v, count %d; want %v", r.Tasks, r.Procs, r.TaskCount, want)
	}
}

// A removed cgroup is gone; made again, the same Group reads the new one.
func TestKernelRemoveAndMakeAgain(t *testing.T) {
	k := newKernelTree(t, "memory", "cpu", "cpuacct")
	k.make(t, "")
	k.set(t, "memory", "", "memory.limit_in_bytes", "128M")
	fs := NewFS(k.h)
	g := open(t, fs, k.paths(""))
	read(t, g)
	id := g.ID()
	if !g.Alive() || id == 0 {
		t.Fatalf("alive %v, ID %d", g.Alive(), id)
	}

	k.remove()
	if g.Alive() {
		t.Error("alive, though removed")
	}
	tasks := g.Tasks(func(int) error { return nil })
	_, usage := g.ReadUsage()
	for i, err := range []error{tasks, usage, g.ReadMemory(new(Memory)), g.ReadCPU(new(CPU))} {
		if !errors.Is(err, ErrGone) || !strings.Contains(fmt.Sprint(err), k.name) {
			t.Errorf("call %d on a removed cgroup: %v", i, err)
		}
	}
	if _, err := fs.Open(k.paths("")); !errors.Is(err, ErrGone) {
		t.Errorf("Open of a removed cgroup: %v", err)
	}

	k.make(t, "")
	k.set(t, "memory", "", "memory.limit_in_bytes", "32M")
	if m := readMemory(t, g); m.Levels[0].Limit != 32*mib {
		t.Errorf("the new cgroup's limit %d", m.Levels[0].Limit)
	}
	read(t, g)
	if !g.Alive() || g.ID() == id {
		t.Errorf("the new cgroup: alive %v, ID %d as before: %v", g.Alive(), g.ID(), g.ID() == id)
	}

	// A Group opened while another holds the old directory gets the new one at once.
	k.remove()
	k.make(t, "")
	if other := open(t, fs, k.paths("")); !other.Alive() {
		t.Error("opened on the removed cgroup")
	}
}

// On v2, a controller that is turned off and on again is followed, with its files open all the while.
func TestKernelV2Controllers(t *testing.T) {
	k := newKernelTree(t)
	v2 := k.h.mounts[unified]
	if v2 == nil {
		t.Skip("no v2 hierarchy is mounted")
	}
	enabled, err := os.ReadFile(v2.point + "/cgroup.subtree_control")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(enabled)), "memory") {
		t.Skip("the memory controller is not delegated to children of the v2 root")
	}
	k.make(t, "")
	k.make(t, "/app")
	top := v2.point + k.name
	put := func(file, value string) {
		t.Helper()
		if err := os.WriteFile(top+file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	put("/memory.max", "256M")
	g := open(t, NewFS(k.h), k.paths("/app"))
	for range 3 {
		if m := readMemory(t, g); m.Version != V2 || !slices.Equal(limits(m), []uint64{256 * mib}) {
			t.Fatalf("without a controller of its own: %+v", m)
		}
		put("/cgroup.subtree_control", "+memory")
		put("/app/memory.max", "128M")
		time.Sleep(recheck + 10*time.Millisecond)
		if m := readMemory(t, g); !slices.Equal(limits(m), []uint64{128 * mib, 256 * mib}) {
			t.Fatalf("with it: %+v", m)
		}
		put("/cgroup.subtree_control", "-memory")
	}
}

// Readers, removal and Close at the same time: every read is right, or says that the cgroup is gone or the Group closed.
func TestKernelRace(t *testing.T) {
	k := newKernelTree(t)
	k.make(t, "")
	k.make(t, "/app")
	fs := NewFS(k.h)
	g, err := fs.Open(k.paths("/app"))
	if err != nil {
		t.Fatal(err)
	}
	levels := len(readMemory(t, g).Levels)
	var wg sync.WaitGroup
	var stop atomic.Bool
	var good, gone, closed atomic.Int64
	for i := range 32 {
		wg.Go(func() {
			var m Memory
			var c CPU
			for !stop.Load() {
				var err error
				switch i % 4 {
				case 0:
					err = g.ReadMemory(&m)
					if err == nil && len(m.Levels) != levels {
						t.Errorf("%d levels, not %d: %+v", len(m.Levels), levels, m)
					}
				case 1:
					err = g.ReadCPU(&c)
				case 2:
					_, err = g.ReadUsage()
				case 3:
					err = g.Tasks(func(int) error { return nil })
					g.Alive()
				}
				switch {
				case err == nil:
					good.Add(1)
				case errors.Is(err, ErrGone):
					gone.Add(1)
				case errors.Is(err, os.ErrClosed):
					closed.Add(1)
					return
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		for _, m := range k.h.mounts {
			if m != nil {
				_ = unix.Rmdir(m.point + k.name + "/app")
			}
		}
		time.Sleep(3 * time.Millisecond)
		k.make(t, "/app")
		time.Sleep(7 * time.Millisecond)
	}
	g.Close()
	time.AfterFunc(10*time.Second, func() { stop.Store(true) })
	wg.Wait()
	if good.Load() == 0 || gone.Load() == 0 || closed.Load() != 32 {
		t.Errorf("%d good reads, %d of a removed cgroup, %d of 32 ended by Close", good.Load(), gone.Load(), closed.Load())
	}
	if len(fs.dirs) != 0 {
		t.Errorf("%d directories are left", len(fs.dirs))
	}
}
