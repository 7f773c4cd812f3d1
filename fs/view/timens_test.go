package view

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopefs/scopefs/fs/host"
)

func TestUptimeInTimeNS(t *testing.T) {
	times := &CPUTimes{Total: CPURow{Idle: 1234}}
	h := &host.Snapshot{Uptime: []byte("100.50 200.75\n"), Boottime: 100*time.Second + 509*time.Millisecond}
	for _, test := range []struct {
		offset time.Duration
		c      *Container
		want   string
	}{
		{-100 * time.Second, nil, "0.50 200.75\n"},
		{-100 * time.Second, &Container{Age: -1}, "0.50 200.75\n"},
		{-100 * time.Second, &Container{Age: time.Hour}, "0.50 200.75\n"},
		{-100 * time.Second, &Container{Age: time.Hour, Times: times, CPUs: []int{0}}, "0.50 12.34\n"},
		{0, &Container{Age: 3 * time.Second}, "100.50 200.75\n"}, // the kernel shows it so, and start times with it
		{time.Hour, &Container{Age: 3 * time.Second}, "3700.50 200.75\n"},
		{-101 * time.Second, nil, "0.00 200.75\n"}, // the kernel lets nobody set it
	} {
		h.TimeNS = host.TimeNS{Other: true, Boottime: test.offset}
		if got := string(Uptime(nil, h, test.c)); got != test.want {
			t.Errorf("offset %v, %+v: got %q, want %q", test.offset, test.c, got, test.want)
		}
	}
}

func TestBtimeInTimeNS(t *testing.T) {
	const text = "cpu  1 2 3 4\ncpu0 1 2 3 4\nbtime 1000\nprocesses 7\n"
	boot := 1000*time.Second + 600*time.Millisecond
	for offset, want := range map[time.Duration]int{
		0: 1000, -time.Second: 1001, 2 * time.Second: 998,
		// Cut off, not rounded: 1000.6 + 0.4 and a bit less, 1000.6 - 0.6 and a bit more.
		-400 * time.Millisecond: 1001, -399 * time.Millisecond: 1000, 600 * time.Millisecond: 1000, 601 * time.Millisecond: 999,
		time.Hour: 0,
	} {
		h := &host.Snapshot{Stat: []byte(text), TimeNS: host.TimeNS{Other: true, Boottime: offset, Boot: boot}}
		for _, c := range []*Container{nil, {Age: -1}, {Age: 5 * time.Second}} {
			got := string(Stat(nil, h, c))
			if want := strings.Replace(text, "btime 1000", fmt.Sprintf("btime %d", want), 1); got != want {
				t.Errorf("offset %v, %+v: got\n%swant\n%s", offset, c, got, want)
			}
		}
	}
}

// Before Linux 5.11 only uptime is the namespace's.
func TestBtimeOfOldKernels(t *testing.T) {
	h := &host.Snapshot{Stat: []byte("cpu  1 2 3 4\nbtime 1000\n"), TimeNS: host.TimeNS{Other: true, Boottime: -time.Second}}
	if got := string(Stat(nil, h, nil)); got != string(h.Stat) {
		t.Errorf("got\n%s", got)
	}
	if got := Explain("proc/stat", h, &Container{}); len(got) > 0 {
		t.Errorf("explained: %v", got)
	}
}

// Whatever the time namespace: nothing but uptime's first number and btime depends on it, the two go together, and
// neither is negative.
func TestTimeNSProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range readFixtures(t) {
		for name, c := range f.containers {
			for range 20 {
				h := *f.host
				h.Boottime = time.Duration(r.Int64N(int64(1000 * time.Hour)))
				boot := time.Duration(1 + r.Int64N(math.MaxInt64/2))
				h.TimeNS = host.TimeNS{Other: true, Boottime: time.Duration(r.Int64N(int64(2000*time.Hour))) - h.Boottime, Boot: boot}
				now := boot + h.Boottime
				var up float64
				if _, err := fmt.Sscan(string(Uptime(nil, &h, c)), &up); err != nil || up < 0 {
					t.Fatalf("%s, %s: uptime %v %v", f.name, name, up, err)
				}
				for _, file := range renderers {
					was, is := string(file.render(nil, f.host, c)), string(file.render(nil, &h, c))
					switch file.file {
					case "proc/uptime":
						if file.text(f.host) == nil {
							continue
						}
						_, wasIdle, _ := strings.Cut(was, " ")
						if _, isIdle, _ := strings.Cut(is, " "); isIdle != wasIdle {
							t.Fatalf("%s, %s: %q instead of %q", f.name, name, is, was)
						}
					case "proc/stat":
						before, after, _ := strings.Cut(was, "\nbtime ")
						head, tail, _ := strings.Cut(is, "\nbtime ")
						btime, tail, _ := strings.Cut(tail, "\n")
						_, after, _ = strings.Cut(after, "\n")
						if diff := cmp.Diff(before+after, head+tail); diff != "" {
							t.Fatalf("%s, %s:\n%s", f.name, name, diff)
						}
						if btime == "" {
							continue // this machine's /proc/stat is not in the archive
						}
						var at float64
						if _, err := fmt.Sscan(btime, &at); err != nil || at < 0 || up > 0 && math.Abs(at+up-now.Seconds()) > 1.1 && at > 0 {
							t.Fatalf("%s, %s: btime %v + uptime %v is not now, %v", f.name, name, at, up, now.Seconds())
						}
					default:
						if is != was {
							t.Fatalf("%s, %s: %s changes:\n%s", f.name, name, file.file, cmp.Diff(was, is))
						}
					}
				}
			}
		}
	}
}

func TestExplainTimeNS(t *testing.T) {
	h := &host.Snapshot{Boottime: 100 * time.Second, Uptime: []byte("100.50 200.75\n"), Stat: []byte("btime 1000\n"),
		TimeNS: host.TimeNS{Other: true, Boottime: -40 * time.Second, Boot: 1000 * time.Second}}
	c := &Container{Age: 3 * time.Second}
	for file, want := range map[string]Number{
		"proc/uptime": {Key: "uptime", Value: 60000, Unit: "ms", Source: sourceTimeNS,
			Rule: "time since the boot of the reader's time namespace: the machine's + the offset of boottime"},
		"proc/stat": {Key: "btime", Value: 1040, Unit: "s", Source: sourceTimeNS,
			Rule: "boot of the reader's time namespace: the machine's boot − the offset of boottime"},
	} {
		if diff := cmp.Diff([]Number{want}, Explain(file, h, c)); diff != "" {
			t.Errorf("%s:\n%s", file, diff)
		}
	}
}
