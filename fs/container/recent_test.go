package container

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

// Within the max-age a reader is shown what another one read, beyond it what is now; and never another container's.
func TestSharedSnapshots(t *testing.T) {
	const maxAge = 5 * time.Millisecond
	m := fixture.New(t)
	// fill gives a cgroup numbers that all tell which reading they are of.
	fill := func(path, n string) {
		m.Cgroup(path, map[string]string{
			"cpuset.cpus.effective": "0\n", // whose one row has every tick
			"memory.current":        "10" + n + "\n", "memory.stat": "anon 1\npgfault 10" + n + "\n", "pids.current": "10" + n + "\n",
			"memory.numa_stat": "anon N0=10" + n + "\n",
			"cpu.stat":         "usage_usec 10" + n + "0000\nuser_usec 10" + n + "0000\nsystem_usec 0\n",
			"io.stat":          "8:0 rbytes=10" + n + " wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n", "io.pressure": "10" + n + "\n",
		})
	}
	fill("/a", "1")
	fill("/b", "5")
	m.Start(fixture.Process{PID: 10, Cgroup: "/a", NS: "a", Inner: 1})
	m.Start(fixture.Process{PID: 20, Cgroup: "/b", NS: "b", Inner: 1})
	r, hostFS := open(t, m)
	r.SetMaxAge(maxAge)
	var h host.Snapshot
	if err := hostFS.Snapshot(host.NeedCPULists, &h); err != nil {
		t.Fatal(err)
	}
	var now time.Duration
	r.clock = func() time.Duration { return now }
	check := func(pid int, after time.Duration, want uint64) {
		t.Helper()
		c, err := r.Resolve(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		now = after
		var s Snapshot
		need := NeedMemory | NeedCPU | NeedTimes | NeedLoad | NeedIO | NeedEvents | NeedNUMA | NeedPressure(cgroup.PressureIO)
		if err := c.Snapshot(need, &h, pid, &s); err != nil {
			t.Fatal(err)
		}
		v := &s.View
		fault, _ := cgroup.FindEvent([]byte("pgfault"))
		got := map[string]uint64{
			"memory": v.Memory.Levels[0].Usage, "events": v.Events.Count[fault], "NUMA": v.NUMA.Nodes[0].Anon, "tasks": uint64(v.Load.Total),
			"usage": v.CPU.Usage / 10_000_000, "ledger": v.Times.Total.User, "IO": v.IO.Read,
		}
		for name, n := range got {
			if n != want {
				t.Errorf("pid %d after %v: %s is %d, want %d", pid, after, name, n, want)
			}
		}
		if text := string(v.Pressure[cgroup.PressureIO].Text); text != "10"+string(rune('0'+want-100))+"\n" {
			t.Errorf("pid %d after %v: pressure %q", pid, after, text)
		}
	}
	check(10, 0, 101)
	fill("/a", "2")
	check(10, 0, 101)
	check(20, 0, 105)
	check(10, maxAge-1, 101)
	check(10, maxAge, 102)
	fill("/a", "3")
	check(10, 2*maxAge-1, 102) // the age counts from where the reading began
	check(10, 2*maxAge, 103)
	fill("/a", "4")
	r.SetMaxAge(0)
	check(10, 2*maxAge, 104)
	check(20, 2*maxAge, 105)
}

// A usage that was read for the limits alone is not in the ledger yet, and one for other CPUs has other rows.
func TestSharedTimes(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", map[string]string{"cpu.stat": "usage_usec 160000\nuser_usec 120000\nsystem_usec 40000\n"})
	m.Start(fixture.Process{PID: 10, Cgroup: "/c", NS: "c", Inner: 1})
	r, hostFS := open(t, m)
	r.SetMaxAge(time.Hour)
	c, err := r.Resolve(10)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	var h host.Snapshot
	if err := hostFS.Snapshot(host.NeedCPULists, &h); err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	for _, step := range []struct {
		need Need
		cpus int // online
		user uint64
	}{{NeedCPU, 4, 0}, {NeedTimes, 4, 12}, {NeedCPU, 4, 12}, {NeedTimes, 4, 12}, {NeedTimes, 3, 12}} {
		now := h
		now.OnlineCPUs = h.OnlineCPUs[:step.cpus]
		if err := c.Snapshot(step.need, &now, 10, &s); err != nil {
			t.Fatal(err)
		}
		if len(s.View.CPUs) != step.cpus {
			t.Errorf("%+v: %d CPUs", step, len(s.View.CPUs))
		}
		if times := s.View.Times; step.need == NeedTimes && (len(times.Rows) != step.cpus || times.Total.User != step.user) {
			t.Errorf("%+v: %+v", step, times)
		}
	}
}

// However many ask, one reads; the others wait for what he reads, and nobody of another container does.
func TestOneReadsForAll(t *testing.T) {
	const readers = 32
	var now, asked atomic.Int64
	c := &Container{registry: &Registry{clock: func() time.Duration { asked.Add(1); return time.Duration(now.Load()) }}}
	c.registry.maxAge.Store(int64(time.Minute))
	var a, b recent[int]
	reads := 0 // guarded by a.mu, as the race detector sees
	reading, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			var n int
			err := a.get(c, &n, func(_ *Container, dst *int) error {
				if reads++; reads == 1 {
					close(reading)
					<-goOn
				}
				*dst = reads
				return nil
			}, assign)
			if err != nil || n != 1 {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
	<-reading
	var n int
	read := func(_ *Container, dst *int) error { *dst = 7; return nil }
	if err := b.get(c, &n, read, assign); err != nil || n != 7 {
		t.Errorf("beside one that is stuck: %d, %v", n, err)
	}
	for asked.Load() < readers+1 { // and the one beside them
		time.Sleep(time.Millisecond)
	}
	now.Add(int64(time.Hour)) // that is how long it takes: what it began before they asked is good for all of them
	close(goOn)
	wg.Wait()

	// An error is shown to him whose reading it was.
	failed := errors.New("failed")
	fail := func(*Container, *int) error { return failed }
	if err := b.get(c, &n, fail, assign); !errors.Is(err, failed) {
		t.Error(err)
	}
	if err := b.get(c, &n, read, assign); err != nil || n != 7 {
		t.Errorf("behind an error: %d, %v", n, err)
	}
}
