package container

import (
	"testing"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

// raceEnabled says that the race detector is on, under which sync.Pool drops items at random.
var raceEnabled bool

// A warm read of a container's numbers leaves nothing for the garbage collector, but of the load: the newest pid of the
// reader's is looked up by paths.
func TestSnapshotAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
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
	if err := hostFS.Snapshot(host.NeedCPULists, &h); err != nil {
		t.Fatal(err)
	}
	for _, maxAge := range []time.Duration{0, time.Nanosecond, time.Hour} { // nothing shared, all read anew, all shared
		r.SetMaxAge(maxAge)
		for name, need := range map[string]Need{
			"memory": NeedMemory, "CPU": NeedCPU, "times": NeedTimes, "load": NeedLoad, "age": NeedAge, "IO": NeedIO, "events": NeedEvents,
			"slabinfo": NeedSlabinfo, "mems": NeedMems, "NUMA": NeedNUMA, "pressure": NeedPressure(cgroup.PressureIO),
		} {
			var s Snapshot
			read := func() {
				h.Boottime = boottime()
				if err := c.Snapshot(need, &h, 10, &s); err != nil {
					t.Fatal(name, ": ", err)
				}
			}
			read()
			if n := testing.AllocsPerRun(100, read); n != 0 {
				t.Errorf("%s, with a max-age of %v: %v allocations", name, maxAge, n)
			}
		}
	}
}
