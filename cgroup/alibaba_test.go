package cgroup

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const procStatDir = "sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/app"

// readLoad looks again where a file was missing, or there, a moment ago.
func readLoad(t *testing.T, g *Group) (Load, bool) {
	t.Helper()
	time.Sleep(recheck)
	load, ok, err := g.ReadLoad()
	if err != nil {
		t.Fatal(err)
	}
	return load, ok
}

func TestReadLoad(t *testing.T) {
	want := Load{Avg: [3]uint64{187, 64, 22}, Running: 2, Blocked: 1}
	for _, name := range []string{"v1-alibaba-4.19", "v1-alibaba-5.10"} {
		t.Run(name, func(t *testing.T) {
			root := fixture(t, name)
			g := open(t, newFS(t, root), container(t, root))
			if load, ok := readLoad(t, g); !ok || load != want {
				t.Errorf("got %+v %v", load, ok)
			}
			write(t, filepath.Join(root, procStatDir, "cpuacct.enable_sli"), "0\n")
			if load, ok := readLoad(t, g); ok {
				t.Errorf("turned off: got %+v", load)
			}
			write(t, filepath.Join(root, procStatDir, "cpuacct.enable_sli"), "1\n")
			if load, ok := readLoad(t, g); !ok || load != want {
				t.Errorf("turned on: got %+v %v", load, ok)
			}
			// Newer ones can be built without the load.
			write(t, filepath.Join(root, procStatDir, "cpuacct.proc_stat"), "user 1\nnice 2\nsystem 3\nidle 4\niowait 5\nirq 6\nsoftirq 7\nsteal 8\nguest 9\n")
			if load, ok := readLoad(t, g); ok {
				t.Errorf("without the load: got %+v", load)
			}
			if c := readCPU(t, g); c.User != 3*tick || c.Nice != 2*tick || c.System != 3*tick || !c.ProcStat {
				t.Errorf("without the load: got %+v", c)
			}
		})
	}
	root := fixture(t, "v1-6.1")
	if load, ok := readLoad(t, open(t, newFS(t, root), container(t, root))); ok {
		t.Errorf("another kernel: got %+v", load)
	}
}

// proc_stat says how the time was spent, cpuacct.usage how much it was.
func TestProcStatSplit(t *testing.T) {
	root := fixture(t, "v1-alibaba-5.10")
	g := open(t, newFS(t, root), container(t, root))
	c := readCPU(t, g)
	if c.Usage != 11280345112 || c.User != 920*tick || c.Nice != 300*tick || c.System != 206*tick || !c.ProcStat {
		t.Errorf("got %+v", c)
	}
	// A cgroup of which it counts nothing, such as one on isolated CPUs alone, is read as everywhere.
	write(t, filepath.Join(root, procStatDir, "cpuacct.proc_stat"), "user 0\nnice 0\nsystem 0\n")
	if c := readCPU(t, g); c.User != 6280345112 || c.System != 5000000000 || c.Nice != 0 || c.ProcStat {
		t.Errorf("of zeros: got %+v", c)
	}
	remove(t, filepath.Join(root, procStatDir, "cpuacct.proc_stat"))
	if c := readCPU(t, open(t, newFS(t, root), container(t, root))); c.User != 6280345112 || c.ProcStat {
		t.Errorf("without: got %+v", c)
	}
}

func TestParseProcStat(t *testing.T) {
	for text, want := range map[string]procStat{
		"": {},
		"user 1\nnice 2\nsystem 3\nguest 9\nx\n\n": {user: tick, nice: 2 * tick, system: 3 * tick},
		"load average(1min) 5\nload average(5min) 1\nload average(15min) 0\nnr_running 7\n": {
			load: Load{Avg: [3]uint64{5, 1, 0}, Running: 7}}, // not all of it
		"running load average(1min) 9\nnr_uninterruptible 3\nload average(1min) 5\nload average(5min) 1\nload average(15min) 0\nnr_running 7": {
			load: Load{Avg: [3]uint64{5, 1, 0}, Running: 7, Blocked: 3}, hasLoad: true},
		"load average(1min) 5\nload average(5min) 1\nload average(15min) 0\nnr_running 7\nnr_uninterrupible 3\nnr_switches 234453363\n": {
			load: Load{Avg: [3]uint64{5, 1, 0}, Running: 7, Blocked: 3}, hasLoad: true},
	} {
		var got procStat
		if err := got.parse([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(procStat{})); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	for _, text := range []string{"user -1\n", "user\tx 1\nnice \n", "load average(1min) 1.5\n", "nr_running 99999999999999999999\n"} {
		var got procStat
		if err := got.parse([]byte(text)); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}

func FuzzParseProcStat(f *testing.F) {
	f.Add([]byte("user 620\nnice 300\nsystem 206\nidle 380421\nload average(1min) 187\nload average(5min) 64\n" +
		"load average(15min) 22\nnr_migrations 9123\nnr_running 2\nnr_uninterruptible 1\nrunning load average(1min) 151\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, again procStat
		if first.parse(text) != nil {
			return
		}
		if err := again.parse(append(text, "\nunknown key 5\n"...)); err != nil || again != first {
			t.Errorf("%q: %+v, and with a line more %+v %v", text, first, again, err)
		}
	})
}
