package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMemoryUse does things with memory in a container and looks for them in meminfo.
func TestMemoryUse(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t).memory(256*miB), options{bind: bind})
			moved := func(what string, prepare func() (change, undo func()), size, tolerance int64) {
				t.Helper()
				change, undo := prepare()
				value := func(m meminfo) int64 {
					if what == "used" {
						return m.used()
					}
					return m[what]
				}
				before := c.meminfo()
				change()
				after := c.meminfo()
				if grown := value(after) - value(before); !near(grown, size, tolerance) {
					t.Errorf("%s grew by %d kB, want %d", what, grown/kiB, size/kiB)
				}
				undo()
				// What changed it may have ended, and no longer counts itself.
				if left := value(c.meminfo()) - value(before); left > tolerance {
					t.Errorf("%s is %d kB more than before, after all was given back", what, left/kiB)
				}
			}
			touch := func() (change, undo func()) {
				p, begin := c.touch(100 * miB)
				return begin, func() { finish(p) }
			}
			moved("used", touch, 100*miB, 5*miB)
			moved("AnonPages", touch, 100*miB, 5*miB)
			write := func(dir string) func() (change, undo func()) {
				return func() (change, undo func()) {
					file := filepath.Join(dir, "file")
					return func() { c.shell(fmt.Sprintf("dd if=/dev/zero of=%s bs=1M count=60 status=none; sync", file)) }, func() {
						if err := os.Remove(file); err != nil {
							t.Error(err)
						}
					}
				}
			}
			// The root of a guest of test/vm is a tmpfs, whose pages are Shmem, and Cached like a file's.
			moved("Cached", write(scratch(t)), 60*miB, 5*miB)
			moved("Shmem", write("/dev/shm"), 60*miB, 5*miB)
		})
	}
}

// TestUnlimited compares a container without limits with the machine.
func TestUnlimited(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t), options{bind: ownTree})
	for range 5 {
		before := parseMeminfo(t, readString(t, "/proc/meminfo")+"\n")
		got := c.meminfo()
		after := parseMeminfo(t, readString(t, "/proc/meminfo")+"\n")
		ok := true
		for _, row := range []string{"MemTotal", "MemFree", "MemAvailable", "SwapTotal"} {
			low, high := min(before[row], after[row]), max(before[row], after[row])
			if got[row] < low-64*miB || got[row] > high+64*miB {
				t.Logf("%s is %d kB, the machine's %d to %d", row, got[row]/kiB, low/kiB, high/kiB)
				ok = false
			}
		}
		if ok {
			return // the others use memory meanwhile: one good look is enough
		}
	}
	t.Error("the numbers are not the machine's")
}

// noMonsters fails on numbers that come of a subtraction below 0.
func noMonsters(t *testing.T, m meminfo) {
	t.Helper()
	for row, n := range m {
		if n > 1<<40 && !strings.HasPrefix(row, "Vmalloc") {
			t.Errorf("%s is %d", row, n)
		}
	}
}

// TestLimitBelowUsage lowers the memory limit below what is in use.
func TestLimitBelowUsage(t *testing.T) {
	d := startDaemon(t)
	swapOn(t)
	g := newGroup(t).memory(256 * miB)
	c := startContainer(t, d, g, options{bind: ownTree})
	eater := c.touched(120 * miB)
	// Nobody may be killed here but, in the end, by us: the kernel may reclaim to swap, refuse (v1), or kill (v2).
	stopped := make(chan error, 1)
	go func() { stopped <- g.tryMemory(60 * miB) }()
	for range 20 {
		m := c.meminfo()
		noMonsters(t, m)
		if m["MemFree"] > m["MemTotal"] {
			t.Errorf("MemFree %d of %d", m["MemFree"], m["MemTotal"])
		}
		time.Sleep(20 * time.Millisecond)
	}
	switch err := <-stopped; {
	case errors.Is(err, syscall.EBUSY):
		t.Log("the kernel refuses a limit below what it can reclaim to")
	case err != nil:
		t.Error(err)
	default:
		m := c.meminfo()
		if m["MemTotal"] != 60*miB {
			t.Errorf("MemTotal is %d", m["MemTotal"])
		}
		noMonsters(t, m)
	}
	eater.kill()
}

// TestSwap lets a container use swap, and then lowers its limit below that.
func TestSwap(t *testing.T) {
	swapOn(t)
	if !accountsSwap() {
		t.Skip("this kernel does not count a cgroup's swap")
	}
	d := startDaemon(t)
	g := newGroup(t).memory(64 * miB).swap(100 * miB)
	c := startContainer(t, d, g, options{bind: ownTree})
	host := parseMeminfo(t, readString(t, "/proc/meminfo")+"\n")
	if m := c.meminfo(); m["SwapTotal"] != min(100*miB, host["SwapTotal"]) {
		t.Errorf("SwapTotal is %d, want 100 MiB", m["SwapTotal"])
	}
	eater := c.touched(100 * miB)
	m := c.meminfo()
	if used := m["SwapTotal"] - m["SwapFree"]; used < 30*miB || used > 70*miB {
		t.Errorf("100 MiB in 64: %d kB of swap in use", used/kiB)
	}
	if n := strings.Count(c.read("proc/swaps"), "\n"); n != 2 {
		t.Errorf("%d lines in swaps", n)
	}
	if err := g.trySwap(10 * miB); err != nil {
		t.Logf("the kernel refuses a swap limit below what is used: %v", err)
	}
	m = c.meminfo()
	noMonsters(t, m)
	if h, _ := controllerOf("memory"); h.v2 && (m["SwapTotal"] != 10*miB || m["SwapFree"] != 0) {
		t.Errorf("SwapTotal %d, SwapFree %d with a limit below what is used", m["SwapTotal"], m["SwapFree"])
	}
	if m["SwapFree"] > m["SwapTotal"] {
		t.Errorf("SwapFree %d of %d", m["SwapFree"], m["SwapTotal"])
	}
	eater.kill()
}

// swapOn gives the machine swap for the time of the test if it has none.
func swapOn(t *testing.T) {
	t.Helper()
	if strings.Count(readString(t, "/proc/swaps"), "\n") > 0 {
		return
	}
	need(t, "mkswap", "swapon", "swapoff")
	file := filepath.Join(scratch(t), "swap")
	for _, args := range [][]string{
		{"dd", "if=/dev/zero", "of=" + file, "bs=1M", "count=256", "status=none"},
		{"chmod", "0600", file}, {"mkswap", file}, {"swapon", file},
	} {
		if _, err := start(t, patience, exec.Command(args[0], args[1:]...)).result(); err != nil {
			t.Skipf("no swap can be had: %v", err)
		}
	}
	t.Cleanup(func() {
		if _, err := start(t, patience, exec.Command("swapoff", file)).result(); err != nil {
			t.Error(err)
		}
	})
}
