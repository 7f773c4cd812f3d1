package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// openFiles counts our descriptors below root.
func openFiles(t testing.TB, root string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, root) {
			n++
		}
	}
	return n
}

func TestWarmReadsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	for _, name := range fixtures {
		root := fixture(t, name)
		g := open(t, newFS(t, root), container(t, root))
		for d := g.own[memory]; d != nil; d = d.parent {
			write(t, d.path+"/memory.numa_stat", numaStatV1+numaStatV2)
		}
		for d := g.own[cpuset]; d != nil; d = d.parent {
			write(t, d.path+"/"+d.name(memsEffective), "0-1\n")
		}
		write(t, g.home.path+"/cpu.pressure", "some avg10=0.00\n")
		if d := g.own[blkio]; d != nil && d.version == V2 {
			write(t, d.path+"/io.stat", "8:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n")
		}
		var m Memory
		var e MemoryEvents
		var c CPU
		var io IO
		var each []CPUUsage
		var numa NUMAStat
		var pressure PressureText
		var slabs []byte
		for what, f := range map[string]func() error{
			"ReadMemory":          func() error { return g.ReadMemory(&m) },
			"ReadMemoryAndEvents": func() error { return g.ReadMemoryAndEvents(&m, &e) },
			"ReadCPU":             func() error { return g.ReadCPU(&c) },
			"ReadUsage":           func() error { _, err := g.ReadUsage(); return err },
			"ReadPerCPU":          func() (err error) { each, err = g.ReadPerCPU(each); return err },
			"ReadLoad":            func() error { _, _, err := g.ReadLoad(); return err },
			"ReadIO":              func() error { return g.ReadIO(&io) },
			"ReadMems":            func() error { _, _, err := g.ReadMems(); return err },
			"ReadNUMA":            func() error { return g.ReadNUMAStat(&numa) },
			"ReadPressure":        func() error { return g.ReadPressure(PressureCPU, &pressure) },
			"ReadSlabinfo":        func() (err error) { slabs, err = g.ReadSlabinfo(slabs[:0]); return err },
			"TaskCount":           func() error { g.TaskCount(); return nil },
		} {
			if err := f(); err != nil { // the cold read
				t.Fatal(err)
			}
			before := openFiles(t, root)
			allocs := testing.AllocsPerRun(200, func() {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			})
			if allocs != 0 {
				t.Errorf("%s: %s allocates %v times", name, what, allocs)
			}
			if after := openFiles(t, root); after != before {
				t.Errorf("%s: %s: %d descriptors became %d", name, what, before, after)
			}
		}
	}
}

// Containers below one slice share the descriptors of its levels, and the last one to close takes them along.
func TestAncestorsAreShared(t *testing.T) {
	root := fixture(t, "v2-6.1")
	fs := newFS(t, root)
	const containers = 50
	var groups []*Group
	var first int
	for i := range containers {
		path := fmt.Sprintf("/kubepods/pod1/c%d", i)
		for file, text := range map[string]string{"memory.current": "1", "memory.max": "max", "memory.stat": "", "cpu.stat": ""} {
			write(t, root+"/sys/fs/cgroup"+path+"/"+file, text)
		}
		g := open(t, fs, Paths{Unified: path})
		groups = append(groups, g)
		read(t, g)
		if i == 0 {
			first = openFiles(t, root)
		}
	}
	// Its own: four files and the directory.
	if got, want := openFiles(t, root), first+5*(containers-1); got != want {
		t.Errorf("%d containers hold %d descriptors, the first alone %d; want %d", containers, got, first, want)
	}
	if got, want := len(fs.dirs), containers+2; got != want {
		t.Errorf("%d directories, want %d", got, want)
	}
	for i, g := range groups {
		g.Close()
		g.Close()
		if i < containers-1 {
			readMemory(t, groups[containers-1])
		}
	}
	if len(fs.dirs) != 0 || openFiles(t, root) != 0 {
		t.Errorf("%d directories and %d descriptors are left", len(fs.dirs), openFiles(t, root))
	}
}

func TestClosed(t *testing.T) {
	root := fixture(t, "v1-6.1")
	fs := newFS(t, root)
	open(t, fs, container(t, root)) // keeps the files open
	g := open(t, fs, container(t, root))
	g.Close()
	_, perCPU := g.ReadPerCPU(nil)
	_, usage := g.ReadUsage()
	for i, err := range []error{g.ReadMemory(new(Memory)), g.ReadCPU(new(CPU)), perCPU, usage,
		g.Tasks(func(int) error { return nil }), g.Procs(func(int) error { return nil })} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if _, ok := g.TaskCount(); ok {
		t.Error("TaskCount of a closed Group")
	}
}

func TestOpenMissing(t *testing.T) {
	fs := newFS(t, fixture(t, "v2-6.1"))
	for _, path := range []string{"/kubepods/none", "/kubepods/pod1/app/memory.max"} {
		if _, err := fs.Open(Paths{Unified: path}); !errors.Is(err, ErrGone) || !strings.Contains(fmt.Sprint(err), path) {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	// No path may lead out of the hierarchy.
	for _, path := range []string{"/..", "/../kubepods", "/kubepods/../../.."} {
		if _, err := fs.Open(Paths{Unified: path}); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	if len(fs.dirs) != 0 {
		t.Errorf("%d directories are left", len(fs.dirs))
	}
}
