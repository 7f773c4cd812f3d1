package container

import (
	"sync"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

func TestSnapshot(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/pod", map[string]string{"memory.max": "268435456\n", "memory.current": "104857600\n", "cpu.max": "150000 100000\n"})
	m.Cgroup("/pod/c", map[string]string{"cpuset.cpus.effective": "1-3\n"})
	m.Start(fixture.Process{PID: 10, Cgroup: "/pod/c", NS: "c", Inner: 1, Start: 100, Comm: "npm start) R 1"})
	r, hostFS := open(t, m)
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
	if err := c.Snapshot(NeedMemory|NeedTimes|NeedLoad|NeedAge, &h, 10, &s); err != nil {
		t.Fatal(err)
	}
	v := &s.View
	if len(v.Memory.Levels) != 2 || v.Memory.Levels[1].Limit != 256<<20 || v.Memory.Levels[1].Path != "/pod" {
		t.Errorf("memory: %+v", v.Memory)
	}
	if len(v.CPUs) != 2 || v.CPUs[0] != 1 || v.CPUs[1] != 2 {
		t.Errorf("CPUs %v, want 1 and 2", v.CPUs)
	}
	if want := h.Boottime - time.Second; v.Age != want {
		t.Errorf("age %v, want %v", v.Age, want)
	}
	if v.Times.Total.User != 150 || v.Times.Total.System != 50 || len(v.Times.Rows) != 2 {
		t.Errorf("times %+v", v.Times)
	}
}

// Readers, resizes, announcements and the collector at once; the race detector looks on.
func TestConcurrentUse(t *testing.T) {
	for _, maxAge := range []time.Duration{0, 100 * time.Microsecond, time.Second} {
		t.Run(maxAge.String(), func(t *testing.T) { testConcurrentUse(t, maxAge) })
	}
}

func testConcurrentUse(t *testing.T, maxAge time.Duration) {
	m := fixture.New(t)
	for _, c := range []string{"a", "b", "c"} {
		m.Cgroup("/"+c, map[string]string{"cpu.max": "100000 100000\n"})
	}
	for i := range 6 {
		ns := string("abc"[i%3])
		m.Start(fixture.Process{PID: 10 + i, Cgroup: "/" + ns, NS: ns, Inner: 1 + i/3})
	}
	r, hostFS := open(t, m)
	r.SetMaxAge(maxAge)
	stop := make(chan struct{})
	var readers, others sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			var h host.Snapshot
			var s Snapshot
			last := map[*Container]uint64{}
			for range 200 {
				c, err := r.Resolve(10 + i%6)
				if err != nil {
					t.Error(err)
					return
				}
				err = hostFS.Snapshot(host.NeedCPULists, &h)
				if err == nil {
					err = c.Snapshot(NeedMemory|NeedTimes|NeedLoad|NeedIO|NeedEvents, &h, 10+i%6, &s)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if idle := s.View.Times.Total.Idle; idle < last[c] {
					t.Errorf("idle fell from %d to %d", last[c], idle)
				} else {
					last[c] = idle
				}
				c.Release()
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := r.Announce("x", 10, nil); err != nil {
				t.Error(err)
			}
			collect(r)
			for _, c := range r.known(nil) {
				c.sampleLoad(boottime())
				c.Release()
			}
			if err := r.Forget("x"); err != nil {
				t.Error(err)
			}
		}
	})
	readers.Wait()
	close(stop)
	others.Wait()
}
