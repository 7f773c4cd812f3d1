package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rootBench is a benchmark without daemons, whose cgroups are gone after the test.
func rootBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it makes containers, so it needs root")
	}
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip(err)
	}
	b := &bench{ctx: t.Context(), dir: t.TempDir(), names: map[string]int{}, result: newResult()}
	t.Cleanup(func() {
		b.close()
		if l := left(t, os.Getpid()); len(l) > 0 {
			t.Errorf("left behind: %q", l)
		}
	})
	return b
}

// TestHerd: each container has a pid namespace, cgroups and as many threads as it is to have, and reads what it is told.
func TestHerd(t *testing.T) {
	for _, threads := range []int{1, 12} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) {
			b := rootBench(t)
			h, err := b.startHerd("test", threads)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var first []string
			for _, n := range []int{2, 5, 3} {
				err := h.grow(b, n, func(i *idler) error {
					mu.Lock()
					defer mu.Unlock()
					first = append(first, i.id)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(first)
			if want := []string{"test-0", "test-1", "test-2", "test-3", "test-4"}; !slices.Equal(first, want) {
				t.Errorf("begun: %v, want %v", first, want)
			}
			for _, i := range h.idlers {
				if n, err := i.status("Threads"); err != nil || int(n) < threads {
					t.Errorf("%d threads, %v", n, err)
				}
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.pid()))
				if err != nil || !strings.Contains(string(status), fmt.Sprintf("NSpid:\t%d\t1\n", i.pid())) {
					t.Errorf("no pid namespace of its own: %s %v", status, err)
				}
				groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", i.pid()))
				if err != nil || strings.Count(string(groups), i.group.path+"\n") != len(hierarchies()) {
					t.Errorf("not in %s: %s %v", i.group.path, groups, err)
				}
				if err := i.read("/proc/version", "/proc/self/stat"); err != nil {
					t.Error(err)
				}
				if err := i.read("/nowhere"); err == nil {
					t.Error("read what is not there")
				}
			}
		})
	}
}

func TestFlooder(t *testing.T) {
	b := rootBench(t)
	g, err := b.newGroup(nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := b.startFlooder(g)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, "file")
	if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.begin(path); err != nil {
			t.Fatal(err)
		}
		// All its threads, and those of Go's.
		for n := int64(0); n < floodThreads; time.Sleep(time.Millisecond) {
			if n, err = f.status("Threads"); err != nil {
				t.Fatal(err)
			}
		}
		if rate, err := f.end(); err != nil || rate <= 0 {
			t.Errorf("%v reads/s, %v", rate, err)
		}
	}
	if err := f.begin("/nowhere"); err != nil {
		t.Fatal(err)
	}
	if rate, err := f.end(); err == nil {
		t.Errorf("%v reads/s of what is not there", rate)
	}
}

func TestFootprint(t *testing.T) {
	p := &process{cmd: exec.Command("sleep", "60")}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		_ = p.cmd.Wait()
	}()
	f, err := p.footprint()
	if err != nil {
		t.Fatal(err)
	}
	if f.RSS <= 0 || f.PSS <= 0 || f.PSS > f.RSS || f.RssAnon > f.RSS || f.RssFile > f.RSS || f.Threads != 1 || f.Descriptors < 3 {
		t.Errorf("%+v", f)
	}
}

func TestInParallel(t *testing.T) {
	list := []int{1, 2, 3, 4, 5, 6, 7}
	var mu sync.Mutex
	var done []int
	err := inParallel(3, list, func(n int) error {
		mu.Lock()
		defer mu.Unlock()
		done = append(done, n)
		return nil
	})
	slices.Sort(done)
	if err != nil || !slices.Equal(done, list) {
		t.Errorf("%v %v", done, err)
	}
	fails := errors.New("five")
	if err := inParallel(3, list, func(n int) error {
		if n == 5 {
			return fails
		}
		return nil
	}); err != fails {
		t.Error(err)
	}
}
