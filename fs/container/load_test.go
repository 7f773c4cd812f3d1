package container

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/view"
)

func loadOf(avg uint64) float64 { return float64(avg) / loadFixed1 }

// One busy loop: 1 - e^(-t/60) for the first average.
func TestLoadRises(t *testing.T) {
	var l loadAvg
	l.seed(0, 0, 0, 0)
	for s := 5; s <= 600; s += 5 {
		l.step(time.Duration(s)*time.Second, taskCount{running: 1, total: 3}.active())
		for i, period := range loadPeriod {
			want := 1 - math.Exp(-float64(s)/period.Seconds())
			if got := loadOf(l.avg[i]); math.Abs(got-want) > 0.02 { // 11 bits of fraction
				t.Fatalf("after %d s: average %d is %.3f, want %.3f", s, i, got, want)
			}
		}
	}
	if got := loadOf(l.avg[0]); got != 1 {
		t.Errorf("a constant load of 1 settles at %v", got)
	}
	for s := 605; s <= 8000; s += 5 {
		l.step(time.Duration(s)*time.Second, 0)
	}
	if l.avg != [3]uint64{} {
		t.Errorf("an idle container settles at %v", l.avg)
	}
}

func TestLoadMakesUpForMissedSteps(t *testing.T) {
	var every, late loadAvg
	busy := taskCount{running: 2, blocked: 1}.active()
	for s := 5; s <= 60; s += 5 {
		every.step(time.Duration(s)*time.Second, busy)
	}
	late.step(60*time.Second, busy)
	if every.avg != late.avg {
		t.Errorf("one late step gives %v, twelve give %v", late.avg, every.avg)
	}
	late.step(1e6*time.Second, 0) // bounded, and settled
	if late.avg != [3]uint64{} {
		t.Errorf("after a long pause: %v", late.avg)
	}
}

// A container that has run one busy loop for 30 s before it is first seen shows what it would have shown.
func TestLoadIsSeeded(t *testing.T) {
	var l loadAvg
	l.seed(20*sec, 10*sec, 30*time.Second, 100*time.Second)
	if got, want := loadOf(l.avg[0]), 1-math.Exp(-0.5); math.Abs(got-want) > 0.01 {
		t.Errorf("%.2f, want %.2f", got, want)
	}
	l.seed(0, 0, -time.Second, 0)
	if math.IsNaN(loadOf(l.avg[0])) {
		t.Error("a container from the future")
	}
}

func TestContainerLoad(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", map[string]string{"cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\n", "pids.current": "9\n"})
	m.Cgroup("/c/sub", nil)
	m.Start(fixture.Process{PID: 10, Cgroup: "/c", NS: "c", Inner: 1})
	m.Start(fixture.Process{PID: 11, Cgroup: "/c/sub", NS: "c", Inner: 5, State: 'R', Comm: ") D 1 ("})
	m.Start(fixture.Process{PID: 12, Cgroup: "/c", NS: "c", Inner: 6, State: 'D'})
	r, _ := open(t, m)
	c, err := r.Resolve(10)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	var l view.Load
	readLoad := func(reader int) {
		t.Helper()
		var s Snapshot
		if err := c.Snapshot(NeedLoad, &host.Snapshot{Boottime: boottime()}, reader, &s); err != nil {
			t.Fatal(err)
		}
		l = s.load
	}
	readLoad(12)
	if l.Avg[0] == 0 || l.Running != 1 || l.Blocked != 1 || l.Total != 9 || l.LastPID != 6 {
		t.Errorf("a container that is busy at its first read: %+v", l)
	}

	// Idle from now on: the sampler does not look at its tasks.
	m.Start(fixture.Process{PID: 11, Cgroup: "/gone", NS: "c", Inner: 5, State: 'S'})
	m.Start(fixture.Process{PID: 12, Cgroup: "/gone", NS: "c", Inner: 6, State: 'S'})
	now := boottime()
	c.sampleLoad(now + loadStep)
	readLoad(10)
	if l.Running != 1 || l.Blocked != 0 { // 1: whoever reads
		t.Errorf("idle: %+v", l)
	}
	m.Start(fixture.Process{PID: 11, Cgroup: "/gone", NS: "c", Inner: 5, State: 'R'})
	c.sampleLoad(now + 2*loadStep)
	if c.load.tasks.running != 0 {
		t.Error("the tasks of a container that used no CPU time were looked at")
	}
	m.Write("sys/fs/cgroup/c/cpu.stat", "usage_usec 5000000\nuser_usec 5000000\nsystem_usec 0\n")
	c.sampleLoad(now + 3*loadStep)
	if c.load.tasks.running != 1 {
		t.Error("a container that used CPU time was not looked at")
	}
}

// threadReads is how many read system calls this thread, which the goroutine is locked to, has made.
func threadReads(t *testing.T) (n int) {
	text, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Skip("a kernel that does not count system calls: ", err)
	}
	if _, rest, ok := strings.Cut(string(text), "syscr: "); ok {
		_, err = fmt.Sscan(rest, &n)
	}
	if err != nil || n == 0 {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

// What the sampler does for a container: one read of its usage, and a look at its tasks only as far as there is something to see.
func TestSamplerReadsLittle(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", nil)
	for pid := 10; pid < 30; pid++ {
		m.Start(fixture.Process{PID: pid, Cgroup: "/c", NS: "c", Inner: pid - 9})
	}
	r, _ := open(t, m)
	c, err := r.Resolve(10)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	now := boottime()
	used := 2000 * time.Millisecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	none := -threadReads(t)
	none += threadReads(t)
	// sample is the number of reads of the next step, of a container that used so much more.
	sample := func(more time.Duration) int {
		used += more
		us := used.Microseconds()
		m.Write("sys/fs/cgroup/c/cpu.stat", fmt.Sprintf("usage_usec %d\nuser_usec %d\nsystem_usec 0\n", us, us))
		now += loadStep
		before := threadReads(t)
		if !c.sampleLoad(now) {
			t.Error("nothing was read of a living container")
		}
		return threadReads(t) - before - none
	}
	ask := func() {
		t.Helper()
		var l view.Load
		if err := c.readLoad(&l); err != nil || l.Blocked != 0 {
			t.Errorf("%+v, %v", l, err)
		}
	}
	few := func(what string, more time.Duration) {
		t.Helper()
		if n := sample(more); n != 1 {
			t.Errorf("%s: %d reads, want 1", what, n)
		}
	}
	many := func(what string, more time.Duration) {
		t.Helper()
		if n := sample(more); n <= 20 {
			t.Errorf("%s: %d reads, want at least one for each task", what, n)
		}
	}
	seed := c.load.avg[0] // depends on how long the machine runs
	few("nobody asked yet", 5*time.Second)
	if got, want := loadOf(c.load.avg[0]), loadOf(nextLoad(seed, loadExp[0], loadFixed1)); math.Abs(got-want) > 0.01 {
		t.Errorf("one busy task for a step, by its usage: %v, want %v", got, want)
	}
	ask()
	few("idle", 0)
	few("idle", 0)
	for range 2 {
		for range maxUncounted {
			few("little was used", time.Microsecond)
		}
		many("little was used for long", time.Microsecond)
	}
	few("a little", 3*time.Millisecond)
	many("a little again", 3*time.Millisecond)
	many("busy", time.Second)

	m.Start(fixture.Process{PID: 29, Cgroup: "/gone", NS: "c", Inner: 20, State: 'D'})
	few("it blocked, and used little before that", time.Millisecond)
	for range maxUncounted - 1 {
		few("and nothing since", 0)
	}
	many("until it is seen", 0)
	many("which it is as long as it blocks", 0)
	m.Start(fixture.Process{PID: 29, Cgroup: "/gone", NS: "c", Inner: 20})
	many("and once behind that", 0)
	few("idle", 0)

	now += watchFor
	few("nobody asks any more", time.Second)
	m.Start(fixture.Process{PID: 29, Cgroup: "/gone", NS: "c", Inner: 20, State: 'R'})
	few("nobody asks any more", time.Second)
	ask()
	if c.load.tasks.running != 1 {
		t.Errorf("asked again: %+v", c.load.tasks)
	}
	many("asked again", 0)
}
