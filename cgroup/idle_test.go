package cgroup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestCloseIdle(t *testing.T) {
	for _, name := range fixtures {
		root := fixture(t, name)
		fs := newFS(t, root)
		g := open(t, fs, container(t, root))
		want := read(t, g)
		id := g.ID()
		if got := openFiles(t, root); got != fs.Opened() || got == 0 {
			t.Errorf("%s: %d descriptors, counted as %d", name, got, fs.Opened())
		}
		fs.CloseIdle(time.Hour)
		if got := openFiles(t, root); got != fs.Opened() || got == 0 {
			t.Errorf("%s: %d descriptors, counted as %d, where none is idle", name, got, fs.Opened())
		}
		// A container that is only looked at by the load sampler keeps that one file open.
		time.Sleep(20 * time.Millisecond)
		if _, err := g.ReadUsage(); err != nil {
			t.Fatal(err)
		}
		fs.CloseIdle(10 * time.Millisecond)
		if got := openFiles(t, root); got != 1 || fs.Opened() != 1 {
			t.Errorf("%s: %d descriptors, counted as %d, where one is in use", name, got, fs.Opened())
		}
		fs.CloseIdle(0)
		if got := openFiles(t, root); got != 0 || fs.Opened() != 0 {
			t.Errorf("%s: %d descriptors, counted as %d, where all are idle", name, got, fs.Opened())
		}
		if diff := cmp.Diff(want, read(t, g)); diff != "" || g.ID() != id || !g.Alive() {
			t.Errorf("%s: read again: %s", name, diff)
		}
		g.Close()
		if fs.Opened() != 0 {
			t.Errorf("%s: %d descriptors counted after Close", name, fs.Opened())
		}
	}
}

// A directory that was made again while nothing of it was open is a new one.
func TestMadeAgainWhileIdle(t *testing.T) {
	root := fixture(t, "v2-6.1")
	fs := newFS(t, root)
	g := open(t, fs, container(t, root))
	read(t, g)
	id := g.ID()
	fs.CloseIdle(0)
	dir := g.Dir()
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/cpu.stat", "usage_usec 1\n")
	if ns, err := g.ReadUsage(); ns != 1000 || err != nil || g.ID() == id {
		t.Errorf("usage %d, %v, ID %d, before %d", ns, err, g.ID(), id)
	}
}

// Beyond the bound files are read all the same, and none is kept.
func TestMaxOpen(t *testing.T) {
	for _, name := range fixtures {
		root := fixture(t, name)
		fs := newFS(t, root)
		p := container(t, root)
		want := read(t, open(t, fs, p))
		for _, bound := range []int{0, 1, 3, 1000} {
			fs := newFS(t, root)
			fs.SetMaxOpen(bound)
			g := open(t, fs, p)
			for range 3 {
				if diff := cmp.Diff(want, read(t, g)); diff != "" {
					t.Errorf("%s: with %d descriptors: %s", name, bound, diff)
				}
				if fs.Opened() > bound {
					t.Errorf("%s: %d descriptors, at most %d", name, fs.Opened(), bound)
				}
			}
			g.Close()
		}
	}
}

// Where there is no room, files that nobody reads give way to one that is read.
func TestIdleGiveWay(t *testing.T) {
	root := fixture(t, "v2-6.1")
	fs := newFS(t, root)
	g := open(t, fs, container(t, root))
	read(t, g)
	fs.SetMaxOpen(fs.Opened())
	for _, d := range fs.dirs {
		d.usedAt -= int64(idleWhenFull)
		for i := range d.files {
			if f := &d.files[i]; f.state.Load() != 0 {
				f.at.Store(f.at.Load() - int64(idleWhenFull))
			}
		}
	}
	fs.swept.Store(math.MinInt32 * int64(idleWhenFull))
	before := fs.Opened()
	var text PressureText
	write(t, g.Dir()+"/cpu.pressure", "some\n")
	g.home.file(pressure).at.Store(0) // known to be missing otherwise
	if err := g.ReadPressure(PressureCPU, &text); err != nil || string(text.Text) != "some\n" {
		t.Fatal(err)
	}
	if fs.Opened() >= before || g.home.file(pressure).state.Load() == 0 {
		t.Errorf("%d descriptors, before %d", fs.Opened(), before)
	}
}

// A process that has no descriptor left closes its own rather than fail a reader.
func TestOutOfDescriptors(t *testing.T) {
	root := fixture(t, "v2-6.1")
	fs := newFS(t, root)
	g := open(t, fs, container(t, root))
	read(t, g)
	fs.closeIdle(math.MaxInt64)
	other := open(t, fs, Paths{Unified: "/free"})
	readCPU(t, other)
	opened := fs.Opened()

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var taken []int
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
		for _, fd := range taken {
			unix.Close(fd)
		}
	}()
	small := limit
	small.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &small); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	var m Memory
	if err := g.ReadMemory(&m); err != nil || m.Version != V2 {
		t.Errorf("%v, with %d descriptors of our own before", err, opened)
	}
}

// Files are closed while others read them and open more: nobody may ever read what another file says.
func TestClosingDuringReads(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	const containers = 20
	write(t, root+"/sys/fs/cgroup/cgroup.procs", "")
	fs := newFS(t, root)
	groups := make([]*Group, containers)
	for i := range groups {
		path := fmt.Sprintf("/c%d", i)
		write(t, root+"/sys/fs/cgroup"+path+"/pids.current", fmt.Sprintln(1000+i))
		write(t, root+"/sys/fs/cgroup"+path+"/cpu.stat", fmt.Sprintf("usage_usec %d\n", 2000+i))
		groups[i] = open(t, fs, Paths{Unified: path})
	}
	fs.SetMaxOpen(containers) // some are kept, some are not
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				i := rand.IntN(containers)
				if n, ok := groups[i].TaskCount(); !ok || n != uint64(1000+i) {
					t.Errorf("container %d: %d tasks, %v", i, n, ok)
					return
				}
				if n, err := groups[i].ReadUsage(); err != nil || n != uint64(2000+i)*1000 {
					t.Errorf("container %d: usage %d, %v", i, n, err)
					return
				}
			}
		})
	}
	for range 500 {
		fs.closeIdle(math.MaxInt64)
		time.Sleep(100 * time.Microsecond)
	}
	stop.Store(true)
	wg.Wait()
	fs.CloseIdle(0)
	if got := openFiles(t, root); got != 0 || fs.Opened() != 0 {
		t.Errorf("%d descriptors, counted as %d", got, fs.Opened())
	}
}
