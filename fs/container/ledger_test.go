package container

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/view"
)

const sec = uint64(time.Second)

func memoryLedger(rows int) *ledger {
	return &ledger{rec: newRecord(rows), close: func() error { return nil }}
}

// at is an input t after the container's start, at boot time 100 s, on n CPUs.
func at(t time.Duration, n int, user, system, throttled uint64) *ledgerInput {
	in := &ledgerInput{now: 100*time.Second + t, start: 100 * time.Second, period: 100 * time.Millisecond, level: 1, usage: user + system, user: user, system: system, throttled: throttled}
	for i := range n {
		in.cpus = append(in.cpus, i)
	}
	return in
}

func sum(r view.CPURow) uint64 { return r.User + r.Nice + r.System + r.Idle + r.Steal }

// near says that a and b differ by at most tolerance ticks.
func near(a, b, tolerance uint64) bool { return sub(a, b) <= tolerance && sub(b, a) <= tolerance }

func TestLedgerShowsThrottledTimeAsSteal(t *testing.T) {
	l := memoryLedger(2)
	var before, after view.CPUTimes
	l.times(at(time.Second, 2, 0, 0, 0), &before)
	// A quota of 1.5 CPUs shown as 2, burnt for 10 s.
	for ms := uint64(0); ms <= 10_000; ms += 50 {
		burnt := ms * 1_500_000
		l.times(at(time.Second+time.Duration(ms)*time.Millisecond, 2, burnt*9/10, burnt/10, ms*500_000), &after)
	}
	got := view.CPURow{
		User: after.Total.User - before.Total.User, System: after.Total.System - before.Total.System,
		Idle: after.Total.Idle - before.Total.Idle, Steal: after.Total.Steal - before.Total.Steal,
	}
	if !near(got.User, 1350, 2) || !near(got.System, 150, 2) || !near(got.Steal, 500, 4) || got.Idle > 4 {
		t.Errorf("10 s of 1.5 of 2 CPUs: %+v, want 1350 user, 150 system, 500 steal, 0 idle ticks", got)
	}
	for i, r := range after.Rows {
		if !near(sum(r), 1100, 4) {
			t.Errorf("cpu%d counts %d ticks in 11 s: %+v", i, sum(r), r)
		}
	}
}

// The kernel adds throttled time at the end of a period: a reader that looks more often must not see it as idle.
func TestLedgerKeepsStealOfOftenReads(t *testing.T) {
	l := memoryLedger(2)
	var out view.CPUTimes
	for ms := uint64(0); ms <= 20_000; ms += 10 {
		throttled := ms / 100 * 100 * 500_000 // in lumps of a period of 100 ms
		l.times(at(time.Duration(ms)*time.Millisecond, 2, ms*1_500_000, 0, throttled), &out)
	}
	if !near(out.Total.Steal, 1000, 60) || out.Total.Idle > 60 {
		t.Errorf("20 s of 1.5 of 2 CPUs read every 10 ms: %+v, want 1000 steal and about no idle ticks", out.Total)
	}
}

// On a large machine a small quota holds tasks back on many CPUs at once: more than was visible, after a long idle time.
func TestLedgerNeverTurnsIdleIntoSteal(t *testing.T) {
	l := memoryLedger(2)
	var idle, held view.CPUTimes
	l.times(at(time.Hour, 2, 0, 0, 0), &idle)
	l.times(at(time.Hour+10*time.Second, 2, 20*sec, 0, 600*sec), &held)
	if held.Total.Idle < idle.Total.Idle {
		t.Errorf("idle fell from %d to %d ticks", idle.Total.Idle, held.Total.Idle)
	}
	if total := sum(held.Total); !near(total, 2*361_000, 4) {
		t.Errorf("%d ticks in 3610 s on 2 CPUs", total)
	}
}

// Setting a quota, or a limit of the pod that binds from now on, brings a count of what was long ago.
func TestLedgerTakesNoThrottledTimeOfAnotherLevel(t *testing.T) {
	for name, other := range map[string]uint64{"unlimited": 0, "another level": 2} {
		l := memoryLedger(2)
		var out view.CPUTimes
		l.times(at(600*time.Second, 2, 600*sec, 0, 600*sec), &out)
		steal := out.Total.Steal
		in := at(601*time.Second, 2, 600*sec, 0, 0)
		if in.level = other; other != 0 {
			in.throttled = 3000 * sec
		}
		l.times(in, &out)
		l.times(at(4200*time.Second, 2, 600*sec, 0, 600*sec), &out)
		l.times(at(4210*time.Second, 2, 600*sec, 0, 601*sec), &out)
		if got := out.Total.Steal - steal; got != 100 {
			t.Errorf("%s for a while: an idle container was held back for %d ticks, want the 100 of the last second", name, got)
		}
	}
}

func TestLedgerFirstSight(t *testing.T) {
	for _, test := range []struct {
		name string
		in   *ledgerInput
		want view.CPURow
	}{
		{"idle for an hour", at(time.Hour, 4, 0, 0, 0), view.CPURow{Idle: 4 * 360_000}},
		{"half used", at(time.Hour, 4, 3600*sec, 3600*sec, 0), view.CPURow{User: 360_000, System: 360_000, Idle: 2 * 360_000}},
		{"held back", at(time.Hour, 2, 3600*sec, 0, 7200*sec), view.CPURow{User: 360_000, Steal: 360_000}},
		{"cgroup older than its init", at(time.Second, 2, 50*sec, 0, 0), view.CPURow{User: 5000}},
		{"just started", at(0, 2, 0, 0, 0), view.CPURow{}},
		{"clock before the start", at(-time.Second, 2, 0, 0, 0), view.CPURow{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out view.CPUTimes
			memoryLedger(4).times(test.in, &out)
			if out.Total != test.want {
				t.Errorf("%+v, want %+v", out.Total, test.want)
			}
			if len(out.Rows) != len(test.in.cpus) {
				t.Errorf("%d rows for %d CPUs", len(out.Rows), len(test.in.cpus))
			}
		})
	}
}

// A cgroup that used more than its capacity before it was seen makes up for nothing: from then on idle time grows.
func TestLedgerForgivesWhatWasBefore(t *testing.T) {
	l := memoryLedger(2)
	var out view.CPUTimes
	l.times(at(time.Second, 2, 50*sec, 0, 0), &out)
	l.times(at(11*time.Second, 2, 50*sec, 0, 0), &out)
	if !near(out.Total.Idle, 2000, 2) {
		t.Errorf("10 idle seconds on 2 CPUs count %d ticks", out.Total.Idle)
	}
}

// A burst beyond the quota is made up for by later idle time, so that the sum stays the wall time.
func TestLedgerMakesUpForBursts(t *testing.T) {
	l := memoryLedger(1)
	var out view.CPUTimes
	l.times(at(0, 1, 0, 0, 0), &out)
	l.times(at(2*time.Second, 1, 3*sec, 0, 0), &out)
	if out.Total.User != 300 || out.Total.Idle != 0 {
		t.Errorf("3 s used within 2 s: %+v", out.Total)
	}
	l.times(at(10*time.Second, 1, 3*sec, 0, 0), &out)
	if !near(sum(out.Total), 1000, 2) {
		t.Errorf("%d ticks in 10 s", sum(out.Total))
	}
}

func TestLedgerUsesThePhysicalCPUs(t *testing.T) {
	l := memoryLedger(8)
	in := func(t time.Duration, cpu3, cpu5 uint64) *ledgerInput {
		in := at(t, 0, cpu3+cpu5, 0, 0)
		in.cpus = []int{3, 5}
		in.perCPU = make([]cgroup.CPUUsage, 8)
		in.perCPU[3].User, in.perCPU[5].User = cpu3, cpu5
		return in
	}
	var out view.CPUTimes
	l.times(in(10*time.Second, 4*sec, 1*sec), &out)
	l.times(in(20*time.Second, 13*sec, 1*sec), &out)
	want := []view.CPURow{{User: 1300, Idle: 700}, {User: 100, Idle: 1900}}
	for i, r := range out.Rows {
		if r != want[i] {
			t.Errorf("cpu%d: %+v, want %+v", i, r, want[i])
		}
	}
}

// Whatever the kernel counts and however the CPUs change, no counter steps back, and no time is invented.
func TestLedgerProperties(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		l := memoryLedger(8)
		var now time.Duration
		var user, system, throttled, capacity uint64
		last := map[int]view.CPURow{}
		var lastTotal view.CPURow
		n := 1 + rnd.IntN(8)
		shrunk := false
		for range 200 {
			var out view.CPUTimes
			l.times(at(now, n, user, system, throttled), &out)
			for i, r := range out.Rows {
				atLeast(t, r, last[i])
				last[i] = r
			}
			atLeast(t, out.Total, lastTotal)
			lastTotal = out.Total
			var rows view.CPURow
			for _, r := range out.Rows {
				rows.User += r.User
				rows.System += r.System
				rows.Idle += r.Idle
				rows.Steal += r.Steal
			}
			if !shrunk && rows != out.Total {
				t.Fatalf("seed %d: rows sum to %+v, the total is %+v", seed, rows, out.Total)
			}
			atLeast(t, out.Total, rows)
			used := user + system
			if got := out.Total.User + out.Total.System; !near(got, used/(sec/view.Hz), 2*8) {
				t.Fatalf("seed %d: %d ticks used, shown %d", seed, used/(sec/view.Hz), got)
			}
			// An overrun is shown, never more: not more than capacity plus what was used beyond it, and what one
			// window may have shown too early.
			if limit := (max(capacity, used) + used + 8*sec) / (sec / view.Hz); sum(out.Total) > limit {
				t.Fatalf("seed %d: %d ticks shown of at most %d", seed, sum(out.Total), limit)
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}

			dt := time.Duration(rnd.Int64N(int64(3 * time.Second)))
			if rnd.IntN(4) == 0 {
				dt = time.Duration(rnd.Int64N(int64(20 * time.Millisecond)))
			}
			now += dt
			capacity += uint64(dt) * uint64(n)
			share := uint64(float64(dt) * float64(n) * rnd.Float64() * 1.1)
			part := uint64(float64(share) * rnd.Float64())
			user, system = user+part, system+share-part
			throttled += uint64(float64(dt) * rnd.Float64() * float64(rnd.IntN(20)))
			if rnd.IntN(10) == 0 {
				m := 1 + rnd.IntN(8)
				shrunk = shrunk || m < n
				n = m
			}
		}
	}
}

func atLeast(t *testing.T, got, before view.CPURow) {
	t.Helper()
	if got.User+got.Nice < before.User+before.Nice || got.Nice < before.Nice || got.System < before.System || got.Idle < before.Idle || got.Steal < before.Steal {
		t.Errorf("%+v, before it was %+v", got, before)
	}
}

// The counters go on where a daemon left them that was killed: nothing is closed or flushed.
func TestLedgerOutlivesTheDaemon(t *testing.T) {
	dir := t.TempDir()
	open := func(private bool) *ledger {
		l, err := openLedger(dir, "1f-2a", "/sys/fs/cgroup/x", 4, private)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.close() })
		return l
	}
	var before, looked, after view.CPUTimes
	l := open(false)
	l.times(at(time.Second, 2, 0, 0, 0), &before)
	l.times(at(10*time.Second, 2, 5*sec, 0, 0), &before)

	open(true).times(at(30*time.Second, 2, 25*sec, 0, 0), &looked)
	atLeast(t, looked.Total, before.Total)
	if looked.Total.User != 2500 {
		t.Errorf("a look without writing shows %+v", looked.Total)
	}

	open(false).times(at(11*time.Second, 2, 5*sec, 0, 0), &after)
	atLeast(t, after.Total, before.Total)
	if after.Total != (view.CPURow{User: 500, Idle: 1700}) {
		t.Errorf("after the restart %+v, want 500 user and 1700 idle ticks", after.Total)
	}
}

func TestLedgerFileOfAnotherLayoutIsStartedAnew(t *testing.T) {
	dir := t.TempDir()
	var earlier strings.Builder // of the same size
	first, err := openLedger(dir, "first", "/x", 2, false)
	if err != nil {
		t.Fatal(err)
	}
	first.close()
	size, err := os.Stat(filepath.Join(dir, "first"))
	if err != nil {
		t.Fatal(err)
	}
	earlier.WriteString("30vepocs")
	for earlier.Len() < int(size.Size()) {
		earlier.WriteByte(1)
	}
	for name, text := range map[string]string{"empty": "", "short": "scopefs", "garbage": string(make([]byte, 9000)), "an earlier one's": earlier.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLedger(dir, name, "/x", 2, false)
		if err != nil {
			t.Fatal(err)
		}
		var out view.CPUTimes
		l.times(at(time.Second, 2, 0, 0, 0), &out)
		if out.Total != (view.CPURow{Idle: 200}) {
			t.Errorf("%s: %+v", name, out.Total)
		}
		l.close()
	}
	// For another number of CPUs: `scopefs show` looks on without it, a daemon starts it anew.
	for _, private := range []bool{true, false} {
		l, err := openLedger(dir, "first", "/x", 200, private)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.rec.rows) != 200 || l.rec.head.Visible != 0 {
			t.Errorf("%d rows, %d of them visible", len(l.rec.rows), l.rec.head.Visible)
		}
		l.rec.rows[199].Idle = 1
		l.rec.counts.Devices[63].Device = 1
		l.close()
		if now, err := os.Stat(filepath.Join(dir, "first")); err != nil || (now.Size() == size.Size()) != private {
			t.Errorf("private %v: %d bytes after %d", private, now.Size(), size.Size())
		}
	}
}

func TestSweepLedgers(t *testing.T) {
	dir := t.TempDir()
	for name, of := range map[string]string{"10-1": "/alive", "11-1": "/gone", "12-1": "/reused", "13-1": strings.Repeat("/long", 1000)} {
		l, err := openLedger(dir, name, of, 1, false)
		if err != nil {
			t.Fatal(err)
		}
		l.close()
	}
	if err := os.WriteFile(filepath.Join(dir, "10-2"), append([]byte("30vepocs"), make([]byte, 9000)...), 0o600); err != nil {
		t.Fatal(err) // of another layout
	}
	inodes := map[string]uint64{"/alive": 0x10, "/reused": 0x99}
	err := sweepLedgers(dir, func(dir string) (uint64, bool) { id, ok := inodes[dir]; return id, ok })
	if err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 || left[0].Name() != "10-1" || left[1].Name() != "13-1" {
		t.Errorf("left: %v, want 10-1, and 13-1 whose path does not fit", left)
	}
}

// cgroup v1 of Linux 5.10 counts a part of the usage as user and system.
func TestLedgerSplitsWhatIsSampled(t *testing.T) {
	l := memoryLedger(2)
	var out view.CPUTimes
	for s := uint64(0); s <= 1000; s++ {
		in := at(time.Duration(s)*10*time.Millisecond, 2, s*sec/100/4*3/4, s*sec/100/4/4, 0)
		in.usage = s * sec / 100
		l.times(in, &out)
	}
	if !near(out.Total.User, 750, 3) || !near(out.Total.System, 250, 3) || !near(out.Total.Idle, 1000, 3) {
		t.Errorf("10 s of one of two CPUs, a quarter of it sampled: %+v, want 750 user, 250 system, 1000 idle", out.Total)
	}
}

func TestLedgerShowsNiceTime(t *testing.T) {
	l := memoryLedger(2)
	var out view.CPUTimes
	in := at(time.Second, 2, sec, 0, 0)
	l.times(in, &out)
	in = at(11*time.Second, 2, 9*sec, sec, 0)
	in.nice = 6 * sec
	l.times(in, &out)
	if want := (view.CPURow{User: 300, Nice: 600, System: 100, Idle: 1200}); out.Total != want {
		t.Errorf("%+v, want %+v", out.Total, want)
	}
}

// Readers that overtake each other between reading the counters and the ledger count nothing twice.
func TestLedgerTakesReadersInAnyOrder(t *testing.T) {
	l := memoryLedger(2)
	var out view.CPUTimes
	for s := uint64(1); s <= 1000; s++ {
		now := time.Duration(s) * 100 * time.Millisecond
		l.times(at(now, 2, s*sec/10, 0, 0), &out)
		l.times(at(now-30*time.Millisecond, 2, s*sec/10-sec/40, 0, 0), &out)
		l.times(at(now+time.Millisecond, 2, s*sec/10-sec/50, 0, 0), &out)
	}
	if !near(out.Total.User, 10_000, 1) || !near(sum(out.Total), 20_000, 4) {
		t.Errorf("100 s of one of two CPUs: %+v", out.Total)
	}
}

// A cgroup that was removed and made again counts from 0: what it uses then is added.
func TestLedgerGoesOnWhenTheCountersStartAnew(t *testing.T) {
	l := memoryLedger(2)
	var out view.CPUTimes
	l.times(at(100*time.Second, 2, 100*sec, 0, 0), &out)
	l.times(at(101*time.Second, 2, sec/2, 0, 0), &out)
	l.times(at(111*time.Second, 2, 10*sec+sec/2, 0, 0), &out)
	if out.Total.User != 11_000 {
		t.Errorf("%+v, want 11000 user ticks", out.Total)
	}
}

func TestLedgerAllocatesNothing(t *testing.T) {
	l := memoryLedger(4)
	in := at(time.Second, 4, 0, 0, 0)
	var out view.CPUTimes
	l.times(in, &out)
	if n := testing.AllocsPerRun(100, func() {
		in.now += time.Second
		in.user += sec
		l.times(in, &out)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
