package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

// raceEnabled says that the race detector is on, under which sync.Pool drops items at random.
var raceEnabled bool

// A warm read of a container's numbers leaves nothing for the garbage collector.
func TestSnapshotAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	m := fixture.New(t)
	m.Cgroup("/c", nil)
	m.Start(fixture.Process{PID: 10, Cgroup: "/c", NS: "c", Inner: 1})
	link := filepath.Join(m.Root, "proc/10/ns/pid") // the links of a fixture are files, which takes another way
	if err := errors.Join(os.Remove(link), os.Symlink("pid:[4026539999]", link)); err != nil {
		t.Fatal(err)
	}
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

// A kernel that translates pids is asked through a kept descriptor, others through /proc/PID/status.
func TestHeldNS(t *testing.T) {
	p, err := openProc("")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.dir)
	own := p.hostNS
	p.hostNS = 0
	for _, cannot := range []bool{false, true} {
		ns := heldNS{inode: own, cannot: cannot}
		if n := testing.AllocsPerRun(100, func() {
			if inode, err := p.pidNS(os.Getpid()); err != nil || inode != own {
				t.Fatalf("the pid namespace is %d, %v; want %d", inode, err, own)
			}
			if pid, err := ns.pid(p, os.Getpid()); err != nil || pid != os.Getpid() {
				t.Fatalf("pid %d is %d, %v", os.Getpid(), pid, err)
			}
		}); n != 0 && !raceEnabled {
			t.Errorf("%v allocations", n)
		}
		if ns.fd > 0 && ns.cannot || ns.fd == 0 && !ns.cannot {
			t.Errorf("%+v", ns)
		}
		ns.close()
	}
}
