package container

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/view"
)

const hostNeeds = host.NeedCPULists | host.NeedStat | host.NeedLoadavg

// procStatOf is a cpuacct.proc_stat in the format of Alibaba Cloud Linux; see the archives in cgroup/testdata.
func procStatOf(user, nice, system int, load [3]int, running, blocked int) string {
	return fmt.Sprintf("user %d\nnice %d\nsystem %d\nidle 90000\niowait 5\nirq 0\nsoftirq 0\nsteal 77\nguest 0\nload average(1min) %d\n"+
		"load average(5min) %d\nload average(15min) %d\nnr_running %d\nnr_uninterruptible %d\n",
		user, nice, system, load[0], load[1], load[2], running, blocked)
}

// alibaba is a machine with a container whose kernel has files of its own, and what the container is shown.
type alibaba struct {
	t *testing.T
	*fixture.Machine
	c *Container
	h *host.FS
}

func startAlibaba(t *testing.T) *alibaba {
	t.Helper()
	m := fixture.NewV1(t)
	m.CgroupV1("/pod", map[string]string{"cpu,cpuacct/cpu.cfs_quota_us": "150000\n"})
	m.CgroupV1("/pod/c", map[string]string{
		"cpu,cpuacct/cpuacct.usage":     "10000000000\n",
		"cpu,cpuacct/cpuacct.proc_stat": procStatOf(500, 300, 200, [3]int{187, 64, 22}, 2, 1), "cpu,cpuacct/cpuacct.enable_sli": "1\n",
	})
	m.Start(fixture.Process{PID: 10, Cgroup: "/pod/c", NS: "c", Inner: 1, State: 'R'})
	m.Start(fixture.Process{PID: 11, Cgroup: "/pod/c", NS: "c", Inner: 7})
	r, hostFS := open(t, m)
	c, err := r.Resolve(11)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Release)
	return &alibaba{t, m, c, hostFS}
}

// write replaces a file of the container's cgroup.
func (a *alibaba) write(name, text string) {
	a.Write("sys/fs/cgroup/cpu,cpuacct/pod/c/"+name, text)
}

// snapshot is the container to be rendered.
func (a *alibaba) snapshot() (*host.Snapshot, *view.Container) {
	a.t.Helper()
	var h host.Snapshot
	var s Snapshot
	if err := a.h.Snapshot(hostNeeds, &h); err != nil {
		a.t.Fatal(err)
	}
	if err := a.c.Snapshot(NeedTimes|NeedLoad, &h, 11, &s); err != nil {
		a.t.Fatal(err)
	}
	return &h, &s.View
}

// From the kernel's files to the text that the container reads.
func TestAlibabaRendered(t *testing.T) {
	a := startAlibaba(t)
	h, v := a.snapshot()
	if got, want := string(view.Loadavg(nil, h, v)), "1.87 0.64 0.22 2/3 7\n"; got != want {
		t.Errorf("loadavg: got %q, want %q", got, want)
	}
	var rows []string
	for line := range strings.Lines(string(view.Stat(nil, h, v))) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "cpu"):
			rows = append(rows, strings.Join(fields[:4], " ")) // without the idle time, which goes on
		case strings.HasPrefix(line, "procs_"):
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	want := []string{"cpu 500 300 200", "cpu0 250 150 100", "cpu1 250 150 100", "procs_running 2", "procs_blocked 1"}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("stat:\n%s", diff)
	}
	sources := map[string]string{}
	for _, file := range []string{"proc/stat", "proc/loadavg"} {
		for _, n := range view.Explain(file, h, v) {
			sources[n.Key] = n.Source
		}
	}
	for _, key := range []string{"user", "system", "nice", "procs_running", "procs_blocked", "load1", "load5", "load15", "running"} {
		if sources[key] != "cpuacct.proc_stat" {
			t.Errorf("%s is explained by %q", key, sources[key])
		}
	}
	if sources["total"] != "load sampler" || sources["steal"] == "cpuacct.proc_stat" {
		t.Errorf("explained: %v", sources)
	}
}

// What the kernel prints in hundredths is what is shown, whatever it is.
func TestFixedLoad(t *testing.T) {
	h := &host.Snapshot{Loadavg: []byte("1.00 2.00 3.00 4/500 6000\n")}
	for centi := range uint64(3000) {
		c := &view.Container{Load: &view.Load{Avg: [3]uint64{fixedLoad(centi)}}}
		want := fmt.Sprintf("%d.%02d ", centi/100, centi%100)
		if got := string(view.Loadavg(nil, h, c)); !strings.HasPrefix(got, want) {
			t.Fatalf("%d: got %q", centi, got)
		}
	}
	if fixedLoad(1<<63) == 0 {
		t.Error("a huge one is 0")
	}
}

// When the kernel stops, the sampler goes on from there: it counts the one task that runs.
func TestAlibabaTurnedOff(t *testing.T) {
	a := startAlibaba(t)
	now := time.Hour
	a.c.sampleLoad(now)
	if _, v := a.snapshot(); !v.Load.Kernel || v.Load.Avg[0] != fixedLoad(187) {
		t.Errorf("the kernel's: %+v", v.Load)
	}
	a.write("cpuacct.enable_sli", "0\n")
	a.c.load.mu.Lock()
	a.c.load.sampled = now // not the machine's time, which the snapshot took
	a.c.load.mu.Unlock()
	for i := range 24 { // 2 minutes
		a.c.sampleLoad(now + time.Duration(i+1)*loadStep)
	}
	_, v := a.snapshot()
	if v.Load.Kernel || v.Load.Running != 1 || v.Load.Blocked != 0 {
		t.Errorf("turned off: %+v", v.Load)
	}
	if avg := loadOf(v.Load.Avg[0]); avg < 1 || avg > 1.3 { // 1 + 0.87/e²
		t.Errorf("2 minutes of one running task after 1.87: %v", avg)
	}
	a.write("cpuacct.enable_sli", "1\n")
	if _, v := a.snapshot(); !v.Load.Kernel || v.Load.Avg[0] != fixedLoad(187) {
		t.Errorf("turned on again: %+v", v.Load)
	}
}

// Nice time that is counted in ticks is not lost between reads that are closer together.
func TestNiceInTicks(t *testing.T) {
	a := startAlibaba(t)
	a.snapshot()
	usage, ticks := 10000, 0 // ms; ticks of 10 ms since
	for range 400 {
		usage += 3
		ticks = (usage - 10000) / 10
		a.write("cpuacct.usage", fmt.Sprintf("%d000000\n", usage))
		a.write("cpuacct.proc_stat", procStatOf(500, 300+ticks, 200, [3]int{}, 1, 0))
		a.snapshot()
	}
	_, v := a.snapshot()
	// Some of it is taken for system time, as the proportion is that of all time while less than a tick has passed.
	if got := v.Times.Total; got.Nice < 390 || got.Nice > 420 || got.User > 502 {
		t.Errorf("%d ms at a positive nice value, read every 3 ms: %+v, want up to 300 and 120 ticks", usage-10000, got)
	}
}
