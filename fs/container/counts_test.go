package container

import (
	"math/rand/v2"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/view"
)

// reading is block I/O on devices 8:0, 8:16 …, as a kernel says it: bytes read and written, in pairs.
func reading(path string, bytes ...uint64) *view.IO {
	r := &view.IO{IO: cgroup.IO{Version: cgroup.V1, Path: path}}
	for i := 0; i < len(bytes); i += 2 {
		r.Devices = append(r.Devices, cgroup.DeviceIO{Device: cgroup.Device{Major: 8, Minor: uint32(8 * i)},
			Reads: cgroup.IOCount{Bytes: bytes[i]}, Writes: cgroup.IOCount{Bytes: bytes[i+1]}})
	}
	return r
}

func TestCountsOnlyGrow(t *testing.T) {
	c := &counts{}
	for _, step := range []struct {
		why           string
		now           *view.IO
		read, written uint64 // of the first device
		sum           uint64 // read on all
	}{
		{"the first reading is shown as it is", reading("/c", 100, 50), 100, 50, 100},
		{"growth is shown", reading("/c", 150, 50), 150, 50, 150},
		{"a cgroup below that had read 120 was removed", reading("/c", 30, 50), 150, 50, 150},
		{"and what is read then shows at once", reading("/c", 35, 51), 155, 51, 155},
		{"another device", reading("/c", 35, 51, 1000, 0), 155, 51, 1155},
		{"which goes away: it was read all the same", reading("/c", 40, 51), 160, 51, 1160},
		{"it comes back", reading("/c", 40, 51, 7, 0), 160, 51, 1160},
		{"and is read", reading("/c", 40, 51, 8, 0), 160, 51, 1161},
		{"the counters of a pod take over, which read more", reading("/", 9000, 9000, 9000, 0), 160, 51, 1161},
		{"they grow", reading("/", 9001, 9000, 9000, 0), 161, 51, 1162},
		{"and those of the container, which read less", reading("/c", 2, 3, 8, 0), 161, 51, 1162},
		{"growing too", reading("/c", 3, 5, 9, 0), 162, 53, 1164},
		{"and those of another one, which did nothing on the second device", reading("/d", 1, 1), 162, 53, 1164},
		{"until it reads from that: all of this is new", reading("/d", 1, 1, 5, 0), 162, 53, 1169},
		{"however much it is", reading("/d", 1, 1, 5000, 0), 162, 53, 6164},
	} {
		c.io(step.now)
		d := step.now.Devices[0]
		if d.Reads.Bytes != step.read || d.Writes.Bytes != step.written || step.now.Read != step.sum {
			t.Errorf("%s: read %d, written %d, in all %d; want %d, %d, %d",
				step.why, d.Reads.Bytes, d.Writes.Bytes, step.now.Read, step.read, step.written, step.sum)
		}
	}
}

// Whatever the kernel says, nothing that is shown steps back, and what grows by a little is shown to grow by that.
func TestCountsProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	c := &counts{}
	const devices = 70 // more than there are places for
	var kernel, shown [devices]uint64
	var read uint64
	path := "/a"
	for range 20_000 {
		i := r.IntN(devices)
		grown := uint64(0)
		fell := false
		switch r.IntN(20) {
		case 0:
			fell = i < 64
			if fell {
				kernel[i] /= 2
			}
		case 1:
			if r.IntN(4) == 0 {
				path, fell = map[string]string{"/a": "/b", "/b": "/a"}[path], true
			}
		default:
			grown = r.Uint64() >> 40
			kernel[i] += grown
		}
		now := reading(path)
		for i, bytes := range kernel {
			now.Devices = append(now.Devices, cgroup.DeviceIO{Device: cgroup.Device{Major: 8, Minor: uint32(i)}, Reads: cgroup.IOCount{Bytes: bytes}})
		}
		c.io(now)
		for j, d := range now.Devices {
			want := shown[j]
			if j == i && !fell {
				want += grown
			}
			if d.Reads.Bytes != want {
				t.Fatalf("device %d shows %d after %d, which grew by %d", j, d.Reads.Bytes, shown[j], grown)
			}
			shown[j] = d.Reads.Bytes
		}
		if now.Read != read+grown {
			t.Fatalf("all devices: %d after %d, which grew by %d", now.Read, read, grown)
		}
		read = now.Read
	}
}

func TestEventsOnlyGrow(t *testing.T) {
	c := &counts{}
	fault, _ := cgroup.FindEvent([]byte("pgfault"))
	refault, _ := cgroup.FindEvent([]byte("workingset_refault_anon"))
	for _, step := range [][2]uint64{{10, 10}, {15, 15}, {3, 15}, {4, 16}} {
		e := &cgroup.MemoryEvents{Version: cgroup.V1, Path: "/c"}
		e.Count[fault], e.Known[fault] = step[0], true
		if c.events(e); e.Count[fault] != step[1] || e.Known[refault] || e.Count[refault] != 0 {
			t.Errorf("%d is shown as %d, want %d", step[0], e.Count[fault], step[1])
		}
	}
}

// The counters go on where a daemon left them that was killed, and `scopefs show` sees them as it does.
func TestCountsOutliveTheDaemon(t *testing.T) {
	dir := t.TempDir()
	open := func(private bool) *ledger {
		l, err := openLedger(dir, "1f-2a", "/sys/fs/cgroup/x", 4, private)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.close() })
		return l
	}
	first := open(false)
	for _, r := range []*view.IO{reading("/c", 100, 0), reading("/c", 10, 0)} {
		first.rec.counts.io(r)
	}
	for _, private := range []bool{true, false} {
		r := reading("/c", 11, 0)
		if open(private).rec.counts.io(r); r.Devices[0].Reads.Bytes != 101 || r.Read != 101 {
			t.Errorf("private %v: %+v", private, r)
		}
	}
}

func TestSnapshotCounts(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", nil)
	m.Start(fixture.Process{PID: 10, Cgroup: "/c", NS: "c", Inner: 1})
	r, hostFS := open(t, m)
	c, err := r.Resolve(10)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	var h host.Snapshot
	if err := hostFS.Snapshot(0, &h); err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := c.Snapshot(NeedIO|NeedEvents|NeedSlabinfo, &h, 10, &s); err != nil {
		t.Fatal(err)
	}
	v := &s.View
	if v.IO == nil || v.IO.Read != 1<<20 || v.IO.Written != 2<<20 || len(v.IO.Devices) != 1 || v.IO.Path != "/c" {
		t.Errorf("IO %+v", v.IO)
	}
	fault, _ := cgroup.FindEvent([]byte("pgfault"))
	if v.Events == nil || v.Events.Count[fault] != 321 {
		t.Errorf("events %+v", v.Events)
	}
}
