package host

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	machine "github.com/scopefs/scopefs/fs/internal/fixture"
)

func TestReadTimeNS(t *testing.T) {
	m := machine.New(t)
	m.Start(machine.Process{PID: 10})
	m.Start(machine.Process{PID: 11, TimeNS: "other", Boottime: -4000})
	m.Start(machine.Process{PID: 12, TimeNS: "same clocks"})
	// The kernel shows 13 the offsets of the namespace that its children will have.
	m.Start(machine.Process{PID: 13, TimeNS: "outer", Boottime: 7})
	m.Remove("proc/13/ns/time_for_children")
	m.Write("proc/13/ns/time_for_children", "")
	f := open(t, m.Root)
	var s Snapshot
	for _, test := range []struct {
		pid      int
		ok       bool
		other    bool
		boottime time.Duration
	}{
		{pid: 10, ok: true}, {pid: 11, ok: true, other: true, boottime: -4000 * time.Second}, {pid: 12, ok: true, other: true},
		{pid: 13}, {pid: 99}, {pid: 0}, {pid: -1},
	} {
		s.TimeNS = TimeNS{Other: true, Boottime: 1}
		ok := f.ReadTimeNS(test.pid, &s)
		if ok != test.ok || s.TimeNS.Other != test.other || s.TimeNS.Boottime != test.boottime {
			t.Errorf("pid %d: %v, %+v", test.pid, ok, s.TimeNS)
		}
		if s.TimeNS.Other && s.TimeNS.Boot <= 0 {
			t.Errorf("pid %d: booted at %v", test.pid, s.TimeNS.Boot)
		}
	}
	// Every snapshot starts with the machine's.
	if err := f.Snapshot(0, &s); err != nil || s.TimeNS != (TimeNS{}) {
		t.Errorf("%+v %v", s.TimeNS, err)
	}

	// Seen from a time namespace, the machine's is another one.
	m.Write("proc/self/timens_offsets", "monotonic 0 0\nboottime 100 5\n")
	f = open(t, m.Root)
	if !f.ReadTimeNS(11, &s) || s.TimeNS.Boottime != -4100*time.Second-5 {
		t.Errorf("from a namespace of its own: %+v", s.TimeNS)
	}

	m.Write("proc/sys/kernel/osrelease", "5.10.0-32-cloud-amd64\n")
	f = open(t, m.Root)
	if !f.ReadTimeNS(11, &s) || !s.TimeNS.Other || s.TimeNS.Boot != 0 {
		t.Errorf("Linux 5.10: %+v", s.TimeNS)
	}
	m.Remove("proc/self/ns/time") // a kernel before 5.6
	f = open(t, m.Root)
	if !f.ReadTimeNS(11, &s) || s.TimeNS != (TimeNS{}) {
		t.Errorf("without time namespaces: %+v", s.TimeNS)
	}
}

func TestReadTimeNSAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("unix.Pread allocates its buffer under the race detector")
	}
	m := machine.New(t)
	m.Start(machine.Process{PID: 10})
	m.Start(machine.Process{PID: 11, TimeNS: "other", Boottime: -4000})
	f := open(t, m.Root)
	var s Snapshot
	for pid, other := range map[int]bool{10: false, 11: true} {
		read := func() {
			if !f.ReadTimeNS(pid, &s) || s.TimeNS.Other != other {
				t.Fatalf("%d: %+v", pid, s.TimeNS)
			}
		}
		if n := testing.AllocsPerRun(100, read); n != 0 {
			t.Errorf("%d: %v allocations", pid, n)
		}
	}
}

// What the kernel itself tells a process in a time namespace is what is computed for it.
func TestTimeNSIsTheKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making a time namespace needs root")
	}
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		t.Skip("the kernel has no time namespaces")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip(err)
	}
	if err := exec.Command(unshare, "--time", "--boottime", "1", "--fork", "true").Run(); err != nil {
		t.Skipf("this unshare(1) makes no time namespaces: %v", err)
	}
	f := open(t, "")
	var s Snapshot
	var uptime float64
	if err := f.Snapshot(NeedUptime, &s); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(s.Uptime), &uptime); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int{1000, -int(uptime) / 2, 0} {
		// It prints what it sees, and stays until it is answered.
		cmd := exec.Command(unshare, "--time", "--boottime", strconv.Itoa(offset), "--fork", "sh", "-c",
			"echo $$ $(cat /proc/uptime) $(grep btime /proc/stat); read answer")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(line)
		pid, _ := strconv.Atoi(fields[0])
		up, _ := strconv.ParseFloat(fields[1], 64)
		btime, _ := strconv.ParseInt(fields[len(fields)-1], 10, 64)
		if err := f.Snapshot(0, &s); err != nil {
			t.Fatal(err)
		}
		for range 20 { // the best measurement of when the machine booted counts
			f.ReadTimeNS(pid, &s)
		}
		if !s.TimeNS.Other || s.TimeNS.Boottime != time.Duration(offset)*time.Second {
			t.Errorf("offset %d: got %+v", offset, s.TimeNS)
		}
		if got := (s.Boottime + s.TimeNS.Boottime).Seconds(); got < up || got > up+60 {
			t.Errorf("offset %d: uptime %v, the kernel said %v before", offset, got, up)
		}
		got := int64((s.TimeNS.Boot - s.TimeNS.Boottime) / time.Second)
		if s.TimeNS.Boot == 0 {
			got = machineBtime(t)
		}
		if got != btime {
			t.Errorf("offset %d: btime %d, the kernel says %d", offset, got, btime)
		}
		in.Close()
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 1 { // read's end of file
			t.Error(err)
		}
	}
}

func machineBtime(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nbtime ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestShiftsBtime(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.134-16.al8.x86_64": false, "5.6.0": false, "5.11.0-rc1": true, "5.15.0-1\n": true, "6.1.0-13-amd64": true, "10.0": true, "": true, "x": true,
	} {
		if got := shiftsBtime(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

// The time of boot stays the same from read to read, or btime would waver.
func TestBootTimeStays(t *testing.T) {
	var ns timeNSs
	first, err := ns.bootTime()
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	for last, i := first, 0; i < 10000; i++ {
		now, err := ns.bootTime()
		if err != nil {
			t.Fatal(err)
		}
		if now != last {
			changes++
		}
		last = now
	}
	// Each change is a measurement that is better than the last one, of which there are few.
	if changes > 100 {
		t.Errorf("%d changes", changes)
	}
	ns.boot = bootTime{at: first - time.Hour, off: 1} // the clock was set
	if now, err := ns.bootTime(); err != nil || (now-first).Abs() > time.Minute {
		t.Errorf("%v after the clock was set, want about %v: %v", now, first, err)
	}
}

func TestParseBoottimeOffset(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"monotonic           0         0\nboottime            0         0\n": 0,
		"monotonic  9 9\nboottime       -12794 250000000\n":                  -12794*time.Second + 250*time.Millisecond,
		"boottime 5 999999999": 6*time.Second - 1,
	} {
		if got, err := parseBoottimeOffset([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "monotonic 1 2\n", "boottime\n", "boottime 1\n", "boottime x 0\n", "boottime 0 -1\n",
		"boottime 0 1000000000\n", "boottime 9223372036 0\n", "boottime 1 2 3\n"} {
		if got, err := parseBoottimeOffset([]byte(text)); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func FuzzParseBoottimeOffset(f *testing.F) {
	if own, err := os.ReadFile("/proc/self/timens_offsets"); err == nil {
		f.Add(own)
	}
	f.Add([]byte("monotonic  0 0\nboottime -9223372035 999999999\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		offset, err := parseBoottimeOffset(text)
		if err != nil {
			return
		}
		sec := (offset - (offset%time.Second+time.Second)%time.Second) / time.Second
		again := fmt.Sprintf("boottime %d %d", sec, offset-sec*time.Second)
		if got, err := parseBoottimeOffset([]byte(again)); err != nil || got != offset {
			t.Errorf("%q: %v, then %q: %v %v", text, offset, again, got, err)
		}
	})
}

func BenchmarkReadTimeNS(b *testing.B) {
	f, err := Open("")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var s Snapshot
	for b.Loop() {
		f.ReadTimeNS(os.Getpid(), &s)
	}
}
