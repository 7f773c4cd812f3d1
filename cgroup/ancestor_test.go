package cgroup

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// What ancestors say is read once for all Groups below, for as long as it may be shared; what is a Group's own always.
func TestSharedAncestors(t *testing.T) {
	g := costTree(t, V2, 3, true)
	fs, own := g.fs, g.own[memory].path
	pod := g.own[memory].parent.path
	fs.SetMaxAge(time.Hour)
	check := func(m Memory, c CPU, ownLimit, podLimit, ownQuota, podQuota uint64) {
		t.Helper()
		if m.Levels[0].Limit != ownLimit || m.Levels[1].Limit != podLimit || c.Levels[0].Quota != ownQuota || c.Levels[1].Quota != podQuota {
			t.Errorf("%+v, %+v", m.Levels, c.Levels)
		}
	}
	before := readMemory(t, g).Levels[1].Limit
	check(readMemory(t, g), readCPU(t, g), 1<<30-2<<12, before, 50000, 50000)

	for _, dir := range []string{own, pod} {
		write(t, dir+"/memory.max", "1048576\n")
		write(t, dir+"/cpu.max", "20000 100000\n")
	}
	check(readMemory(t, g), readCPU(t, g), 1<<20, before, 20000, 50000)

	sibling := own + "/../sibling"
	for _, file := range []string{"memory.max", "memory.current", "memory.stat", "memory.swap.max", "memory.swap.current", "cpu.max",
		"cpu.weight", "cpu.stat", "cpuset.cpus.effective"} {
		text, err := os.ReadFile(own + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, sibling+"/"+file, string(text))
	}
	other := open(t, fs, Paths{Unified: g.own[memory].parent.cgroup() + "/sibling"})
	check(readMemory(t, other), readCPU(t, other), 1<<20, before, 20000, 50000)

	fs.SetMaxAge(0)
	check(readMemory(t, g), readCPU(t, g), 1<<20, 1<<20, 20000, 20000)
	fs.SetMaxAge(time.Nanosecond) // each call is later than that
	write(t, pod+"/memory.max", "2097152\n")
	time.Sleep(time.Millisecond)
	check(readMemory(t, g), readCPU(t, g), 1<<20, 2<<20, 20000, 20000)
}

func TestSharedAncestorsRace(t *testing.T) {
	g := costTree(t, V2, 4, true)
	want := fmt.Sprint(readMemory(t, g), readCPU(t, g))
	g.fs.SetMaxAge(time.Microsecond)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var m Memory
			var c CPU
			for range 200 {
				if err := g.ReadMemory(&m); err != nil {
					t.Error(err)
				}
				if err := g.ReadCPU(&c); err != nil {
					t.Error(err)
				}
				if got := fmt.Sprint(m, c); got != want {
					t.Errorf("%s; want %s", got, want)
				}
			}
		})
	}
	for range 200 {
		g.fs.CloseIdle(0)
	}
	wg.Wait()
}

// memory.stat of an ancestor is left out only where it cannot decide what is available: the smallest of what the levels
// leave is what it is with all of them.
func TestRoomOfAncestors(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	left := 0
	for range 80 {
		depth := 1 + rng.IntN(4)
		g := costTree(t, V2, depth, true)
		want := uint64(math.MaxUint64)
		for d := g.own[memory]; d != nil; d = d.parent {
			limit, usage, reclaimable := rng.Uint64N(1000), rng.Uint64N(1000), rng.Uint64N(500)
			text := strconv.FormatUint(limit, 10)
			if rng.IntN(3) == 0 {
				text = "max"
			} else {
				want = min(want, sub(limit+reclaimable, usage))
			}
			write(t, d.path+"/memory.max", text)
			write(t, d.path+"/memory.current", strconv.FormatUint(usage, 10))
			write(t, d.path+"/memory.stat", fmt.Sprintf("anon 1\nactive_file %d\n", reclaimable))
		}
		for _, age := range []time.Duration{0, time.Hour} {
			g.fs.SetMaxAge(age)
			for range 2 {
				got := uint64(math.MaxUint64)
				for _, l := range readMemory(t, g).Levels {
					if l.Limit != Unlimited {
						got = min(got, sub(l.Limit+l.Reclaimable, l.Usage))
					}
				}
				if got != want {
					t.Fatalf("%d bytes are available, want %d: %+v", got, want, readMemory(t, g).Levels)
				}
			}
		}
		for d := g.own[memory].parent; d != nil; d = d.parent {
			if d.file(memoryStat).state.Load() == 0 {
				left++
			}
		}
		g.Close()
	}
	if left == 0 {
		t.Error("memory.stat was read of every ancestor")
	}
}

// v1's memory.stat knows the smallest limits of the path, so that files are left out. What is said must be what all files
// of the running kernel say.
func TestKernelLimitsOfPath(t *testing.T) {
	k := newKernelTree(t, "memory")
	k.make(t, "")
	k.make(t, "/pod")
	k.make(t, "/pod/app")
	file := func(below, name string) uint64 {
		text, err := os.ReadFile(k.dir("memory", below) + "/" + name)
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	levels := []string{"/pod/app", "/pod", ""}
	fs := NewFS(k.h)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		for _, below := range levels {
			// memory + swap may never be below memory: open both first.
			for _, name := range []string{"memory.memsw.limit_in_bytes", "memory.limit_in_bytes"} {
				if file(below, name) != 0 {
					k.set(t, "memory", below, name, "-1")
				}
			}
			for _, name := range []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"} {
				if rng.IntN(3) == 0 && file(below, name) != 0 {
					limit := 64 + rng.IntN(64)
					if name != "memory.limit_in_bytes" {
						limit += 64
						if file(below, "memory.limit_in_bytes") == Unlimited {
							k.set(t, "memory", below, "memory.limit_in_bytes", fmt.Sprintf("%dM", limit))
						}
					}
					k.set(t, "memory", below, name, fmt.Sprintf("%dM", limit))
				}
			}
		}
		for at := range levels { // of each depth
			m := readMemory(t, open(t, fs, k.paths(levels[at])))
			if len(m.Levels) != len(levels)-at {
				t.Fatalf("%+v", m.Levels)
			}
			for i, l := range m.Levels {
				below := levels[at+i]
				limit, swap := file(below, "memory.limit_in_bytes"), file(below, "memory.memsw.limit_in_bytes")
				if l.Limit != limit || l.HasSwap != (swap != 0) || l.SwapLimit != swap {
					t.Fatalf("%q: %+v, want limits of %d and %d", below, l, limit, swap)
				}
			}
		}
	}
}
