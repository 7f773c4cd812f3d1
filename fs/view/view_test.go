package view

import (
	"bytes"
	"fmt"
	"math"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// Without a container, or with one of which nothing is known, every file is the machine's.
func TestHostUnchanged(t *testing.T) {
	for _, f := range readFixtures(t) {
		for name, c := range map[string]*Container{
			"nil": nil, "nothing known": {Age: -1}, "no levels": {Memory: new(cgroup.Memory), CPU: new(cgroup.CPU), Times: new(CPUTimes), Age: -1},
		} {
			for _, r := range renderers {
				if got, want := string(r.render([]byte("before"), f.host, c)), "before"+string(r.text(f.host)); got != want {
					t.Errorf("%s, container %s: %s: got\n%s", f.name, name, r.file, got)
				}
				if got := Explain(r.file, f.host, c); len(got) > 0 {
					t.Errorf("%s, container %s: %s is explained: %v", f.name, name, r.file, got)
				}
			}
		}
	}
}

func TestLoadavg(t *testing.T) {
	const text = "1.00 2.00 3.00 4/500 6000\n"
	h := &host.Snapshot{Loadavg: []byte(text)}
	for _, test := range []struct {
		load *Load
		want string
	}{
		{nil, text},
		{&Load{}, "0.00 0.00 0.00 4/500 6000\n"},
		{&Load{Avg: [3]uint64{2048, 1024, 10}, Running: 2, Total: 7, LastPID: 31}, "1.00 0.50 0.00 2/7 31\n"},
		// Rounded to the nearest hundredth: 0.0049 and 0.0054, and up to the next whole number.
		{&Load{Avg: [3]uint64{10, 11, 2047}, Total: 1, LastPID: 1}, "0.00 0.01 1.00 1/1 1\n"},
		{&Load{Avg: [3]uint64{2048 * 123, 2048*4 + 205, 0}, Running: 9, Total: 3, LastPID: 1}, "123.00 4.10 0.00 9/9 1\n"},
		{&Load{Avg: [3]uint64{math.MaxUint64, 0, 0}, Running: -4, Total: -1, LastPID: -1}, "1099511627776.00 0.00 0.00 4/500 6000\n"},
	} {
		if got := string(Loadavg(nil, h, &Container{Load: test.load})); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.load, got, test.want)
		}
	}
}

func TestUptime(t *testing.T) {
	h := &host.Snapshot{Uptime: []byte("100.50 200.75\n")}
	times := &CPUTimes{Total: CPURow{Idle: 1234}}
	for _, test := range []struct {
		c    Container
		want string
	}{
		{Container{Age: -1}, "100.50 200.75\n"},
		{Container{Age: 0}, "0.00 200.75\n"},
		{Container{Age: 3*time.Second + 59*time.Millisecond}, "3.05 200.75\n"},
		{Container{Age: 3 * time.Second, Times: times, CPUs: []int{0}}, "3.00 12.34\n"},
		{Container{Age: -1, Times: times, CPUs: []int{0}}, "100.50 12.34\n"},
		{Container{Age: 9 * 365 * 24 * time.Hour}, "283824000.00 200.75\n"},
	} {
		if got := string(Uptime(nil, h, &test.c)); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.c, got, test.want)
		}
	}
}

func TestSwaps(t *testing.T) {
	const (
		narrow = "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n"
		wide   = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
		name   = "none                                    virtual\t\t"
	)
	meminfo := []byte("MemTotal:       16777216 kB\nSwapTotal:      20000000 kB\nSwapFree:       20000000 kB\n")
	for _, test := range []struct {
		name, swaps string
		limit, used uint64
		want        string
	}{
		{"5.9 and newer", wide + "/dev/sda2                               partition\t20000000\t0\t\t-3\n", 64 * mib, mib,
			wide + name + "65536\t\t1024\t\t-3\n"},
		{"numbers of eight digits", wide + "x y 1 2 5\n", cgroup.Unlimited, 0, wide + name + "20000000\t0\t\t5\n"},
		{"older", narrow + "x y 1 2 5\n", 64 * mib, mib, narrow + name + "65536\t1024\t5\n"},
		{"rows without priority", wide + "x y\n", 64 * mib, 0, wide + name + "65536\t\t0\t\t-2\n"},
		{"no swap", wide + "x y 1 2 5\n", 0, mib, wide},
		{"not read", "", mib, mib, ""},
	} {
		h := &host.Snapshot{Meminfo: meminfo, Swaps: []byte(test.swaps)}
		c := &Container{Memory: &cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{
			withSwap(level("/a", cgroup.Unlimited, 0, 0), test.limit, test.used)}}}
		if got := string(Swaps(nil, h, c)); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		text   string
		want   uint64
		digits int
	}{
		{"", 0, 0}, {"-1", 0, 0}, {"007 kB", 7, 3}, {"9223372036854775807", math.MaxInt64, 19}, {"9223372036854775808", math.MaxInt64, 19},
		{"18446744073709551616", math.MaxInt64, 20}, {"1000000000000000000000000000000", math.MaxInt64, 31},
	} {
		if n, digits := number([]byte(test.text)); n != test.want || digits != test.digits {
			t.Errorf("%q: got %d, %d digits", test.text, n, digits)
		}
	}
}

func TestRenderersAllocateNothing(t *testing.T) {
	check := func(what string, render func(dst []byte) []byte) {
		t.Helper()
		buf := render(nil)
		if n := testing.AllocsPerRun(20, func() { buf = render(buf[:0]) }); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	for _, f := range readFixtures(t) {
		for name, c := range f.containers {
			for _, r := range renderers {
				check(f.name+" "+name+" "+r.file, func(dst []byte) []byte { return r.render(dst, f.host, c) })
			}
		}
	}
	for _, size := range []int{2, 1024} {
		h, c := bigMachine(t, size)
		for _, r := range renderers {
			check(fmt.Sprintf("%d CPUs: %s", size, r.file), func(dst []byte) []byte { return r.render(dst, h, c) })
		}
		for _, r := range bigRewrites(t, size) {
			check(fmt.Sprintf("%d CPUs: %s", size, r.name), func(dst []byte) []byte { return r.rewrite(dst, r.text, r.number, h, c) })
		}
	}
}

// bigMachine is a machine of a number of CPUs, and a container that uses all of it, so that every row is its own.
func bigMachine(t testing.TB, size int) (*host.Snapshot, *Container) {
	t.Helper()
	h := bigHost(t, size)
	h.Nodes = []host.Node{{ID: 0, CPUs: h.OnlineCPUs[:size/2]}, {ID: 1, CPUs: h.OnlineCPUs[size/2:]}}
	h.Stat = bytes.Replace(h.Stat, []byte("\nctxt"), append(bytes.Repeat([]byte(" 0"), 100*size), "\nctxt"...), 1)
	c := readFixture(t, "testdata/linux-6.1-x86_64.txtar").containers["v2"]
	c.CPUs, c.Times = h.OnlineCPUs, &CPUTimes{Rows: make([]CPURow, size)}
	c.IO = &IO{IO: cgroup.IO{Version: cgroup.V2}, Read: 1 << 30, Written: 1 << 30}
	for minor := range uint32(4) {
		d := cgroup.DeviceIO{Device: cgroup.Device{Major: 8, Minor: 16 * minor}}
		d.Reads.Requests, d.Reads.Bytes = 1000, 4096000
		c.IO.Devices = append(c.IO.Devices, d)
	}
	for i := range c.Times.Rows {
		c.Times.Rows[i] = CPURow{User: 123456, Nice: 1, System: 23456, Idle: 34567890, Steal: 12}
	}
	c.Events = &cgroup.MemoryEvents{Version: cgroup.V2}
	for i := range c.Events.Known {
		c.Events.Known[i] = true
	}
	return h, c
}

// A bigRewrite is a file below /sys/devices/system of a bigMachine.
type bigRewrite struct {
	name    string
	rewrite Rewriter
	text    []byte
	number  int
}

func bigRewrites(t testing.TB, size int) []bigRewrite {
	list := fmt.Appendf(nil, "0-%d\n", size-1)
	mask := bytes.Repeat([]byte("ffffffff,"), max(size/32, 1))
	mask[len(mask)-1] = '\n'
	var numbers []byte
	for cpu := range size {
		numbers = fmt.Appendf(numbers, "%d ", cpu)
	}
	_, files := readNodes(t, "testdata/node/linux-6.1-v2.txtar")
	return []bigRewrite{
		{"a list", CPUList, list, -1}, {"a mask", CPUMask, mask, -1}, {"numbers", CPUNumbers, numbers, -1},
		{"kernel_max", KernelMax, []byte("8191\n"), -1}, {"isolated", NoCPUs, list, -1},
		{"node/online", NodesVisible, []byte("0-1\n"), -1}, {"node/possible", NodesPossible, []byte("0-63\n"), -1},
		{"node/has_cpu", NodesWithCPU, []byte("0-1\n"), -1}, {"node/has_memory", NodesWithMemory, []byte("0-1\n"), -1},
		{"node/node0/distance", NodeDistance, []byte("10 20\n"), 0},
		{"node/node0/meminfo", NodeMeminfo, files["node0/meminfo"], 0},
		{"node/node0/vmstat", NodeVmstat, files["node0/vmstat"], 0},
	}
}

func BenchmarkRender(b *testing.B) {
	for _, size := range []int{2, 1024} {
		h, c := bigMachine(b, size)
		for _, r := range renderers {
			b.Run(fmt.Sprintf("%s/%d", path.Base(r.file), size), func(b *testing.B) {
				var buf []byte
				for b.Loop() {
					buf = r.render(buf[:0], h, c)
				}
			})
		}
		for _, r := range bigRewrites(b, size) {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(r.name, "/", "_"), size), func(b *testing.B) {
				var buf []byte
				for b.Loop() {
					buf = r.rewrite(buf[:0], r.text, r.number, h, c)
				}
			})
		}
	}
}
