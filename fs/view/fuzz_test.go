package view

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// fuzzContainer is a container of any state, that a seed names.
func fuzzContainer(seed uint64) *Container {
	r := rand.New(rand.NewPCG(seed, 0))
	c := &Container{Memory: randomMemory(r), Policy: policy.Policy{
		NoSwap: r.IntN(4) == 0, Interrupts: policy.Interrupts(r.IntN(2)), CPUIdentity: policy.CPUIdentity(r.IntN(3)),
	}}
	for range r.IntN(6) {
		c.CPUs = append(c.CPUs, r.IntN(12))
	}
	slices.Sort(c.CPUs)
	if r.IntN(2) == 0 {
		// The ledger's ticks are of nanoseconds in 64 bits.
		ticks := func() uint64 { return r.Uint64() / 1e7 }
		c.Times = &CPUTimes{Total: CPURow{ticks(), ticks(), ticks(), ticks(), ticks()}}
		for range r.IntN(6) {
			c.Times.Rows = append(c.Times.Rows, CPURow{ticks(), ticks(), ticks(), ticks(), ticks()})
		}
	}
	if r.IntN(2) == 0 {
		c.Load = &Load{Avg: [3]uint64{r.Uint64(), r.Uint64() >> 40, 0}, Running: int(r.Int32()) - 1<<30, Blocked: r.IntN(3) - 1,
			Total: int(r.Int32()) - 1<<30, LastPID: r.IntN(5) - 1}
	}
	c.IO, c.Events = randomIO(r), randomEvents(r)
	return c
}

// fuzzRenderer runs a renderer on arbitrary text of the machine: it must not panic, and may not put a number into the
// output that is negative or does not fit into 63 bits, unless the machine's text has it; the output is bounded.
func fuzzRenderer(f *testing.F, file string, set func(h *host.Snapshot, text []byte)) {
	i := slices.IndexFunc(renderers, func(r renderer) bool { return r.file == file })
	r := renderers[i]
	for _, fixture := range readFixtures(f) {
		if text := r.text(fixture.host); text != nil {
			for seed := range uint64(4) {
				f.Add(text, seed)
			}
		}
	}
	f.Add([]byte("MemTotal: 18446744073709551615 kB\nMemFree: 99999999999999999999999 kB\nSwapTotal:-1 kB\nSwapTotal: 5"), uint64(1))
	f.Add([]byte("cpu"), uint64(2))
	f.Add([]byte("cpu 18446744073709551615 -1\ncpu0 99999999999999999999 1\ncpu1 18446744073709551615\n"), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		h := new(host.Snapshot)
		set(h, text)
		c := fuzzContainer(seed)
		before := bytes.Clone(text)
		got := r.render(nil, h, c)
		if !bytes.Equal(text, before) {
			t.Fatal("the machine's text was written to")
		}
		if limit := (len(text)+64)*(len(c.CPUs)+2)*12 + 4096; len(got) > limit {
			t.Fatalf("%d bytes for %d", len(got), len(text))
		}
		for field := range bytes.FieldsFuncSeq(got, func(r rune) bool { return (r < '0' || r > '9') && r != '-' }) {
			n, err := strconv.ParseInt(string(field), 10, 64)
			if (err != nil || n < 0) && !bytes.Contains(text, field) && string(field) != "-2" &&
				!isCPUList(field) && len(bytes.Trim(field, "-")) > 0 {
				t.Fatalf("%q in\n%s\nof\n%s", field, got, text)
			}
		}
		Explain(file, h, c)
	})
}

func isCPUList(field []byte) bool {
	_, err := cgroup.ParseCPUList(nil, field)
	return err == nil
}

func FuzzMeminfo(f *testing.F) {
	fuzzRenderer(f, "proc/meminfo", func(h *host.Snapshot, text []byte) {
		h.Meminfo, h.Overcommit = text, host.Overcommit{Ratio: uint64(len(text)) << 40}
	})
}

func FuzzStat(f *testing.F) {
	fuzzRenderer(f, "proc/stat", func(h *host.Snapshot, text []byte) { h.Stat = text })
}

func FuzzCpuinfo(f *testing.F) {
	fuzzRenderer(f, "proc/cpuinfo", func(h *host.Snapshot, text []byte) { h.Cpuinfo = host.ParseCpuinfo(text) })
}

func FuzzLoadavg(f *testing.F) {
	fuzzRenderer(f, "proc/loadavg", func(h *host.Snapshot, text []byte) { h.Loadavg = text })
}

func FuzzUptime(f *testing.F) {
	fuzzRenderer(f, "proc/uptime", func(h *host.Snapshot, text []byte) { h.Uptime = text })
}

func FuzzSwaps(f *testing.F) {
	fuzzRenderer(f, "proc/swaps", func(h *host.Snapshot, text []byte) { h.Swaps, h.Meminfo = text, text })
}

func FuzzCPUOnline(f *testing.F) {
	fuzzRenderer(f, "sys/devices/system/cpu/online", func(h *host.Snapshot, text []byte) { h.Online = text })
}

func FuzzDiskstats(f *testing.F) {
	fuzzRenderer(f, "proc/diskstats", func(h *host.Snapshot, text []byte) { h.Diskstats = text })
}

func FuzzVMStat(f *testing.F) {
	fuzzRenderer(f, "proc/vmstat", func(h *host.Snapshot, text []byte) {
		h.VMStat, h.Meminfo, h.PageSize, h.THPSize = text, []byte(smallMeminfo), 4<<10, 2<<20
	})
}

func FuzzSlabinfo(f *testing.F) {
	fuzzRenderer(f, "proc/slabinfo", func(h *host.Snapshot, text []byte) { h.Slabinfo = text })
}
