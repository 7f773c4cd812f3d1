package view

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// A machine of 16 GiB with 4 GiB swap.
const smallMeminfo = `MemTotal:       16777216 kB
MemFree:         4194304 kB
MemAvailable:    8388608 kB
Buffers:          100000 kB
Cached:          4000000 kB
SwapTotal:       4194304 kB
SwapFree:        2097152 kB
KReclaimable:     500000 kB
Slab:             700000 kB
SReclaimable:     500000 kB
SUnreclaim:       200000 kB
CommitLimit:    12582912 kB
Committed_AS:    9000000 kB
VmallocTotal:   34359738367 kB
HugePages_Total:     512
HugePages_Free:      500
HugePages_Rsvd:       10
HugePages_Surp:        3
Hugepagesize:       2048 kB
Hugetlb:         2097152 kB
`

// meminfoOf renders the meminfo of a container and gives its numbers by key.
func meminfoOf(t testing.TB, text string, c *Container) map[string]uint64 {
	t.Helper()
	h := &host.Snapshot{Meminfo: []byte(text), Overcommit: host.Overcommit{Ratio: 50}}
	return meminfoNumbers(t, Meminfo(nil, h, c))
}

func meminfoNumbers(t testing.TB, text []byte) map[string]uint64 {
	t.Helper()
	numbers := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if !ok || err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		numbers[key] = n
	}
	return numbers
}

func level(path string, limit, usage, reclaimable uint64) cgroup.MemoryLevel {
	return cgroup.MemoryLevel{Path: path, Limit: limit, Usage: usage, Reclaimable: reclaimable}
}

func withSwap(l cgroup.MemoryLevel, limit, usage uint64) cgroup.MemoryLevel {
	l.HasSwap, l.SwapLimit, l.SwapUsage = true, limit, usage
	return l
}

func TestMeminfoEdges(t *testing.T) {
	const none = cgroup.Unlimited
	for _, test := range []struct {
		name   string
		memory cgroup.Memory
		want   map[string]uint64 // kB
	}{
		{
			name:   "own limit",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 256*mib, 100*mib, 40*mib)}},
			want:   map[string]uint64{"MemTotal": 262144, "MemFree": 156 << 10, "MemAvailable": 196 << 10},
		},
		{
			name: "a sibling uses up the parent's limit",
			memory: cgroup.Memory{Version: cgroup.V2, Stat: cgroup.MemoryStat{File: 60 * mib, SlabReclaimable: 4 * mib},
				Levels: []cgroup.MemoryLevel{level("/p/a", none, 100*mib, 60*mib), level("/p", 512*mib, 500*mib, 70*mib)}},
			want: map[string]uint64{"MemTotal": 512 << 10, "MemFree": 12 << 10, "MemAvailable": 82 << 10,
				"Cached": 60 << 10, "SReclaimable": 4 << 10},
		},
		{
			name: "limits and rooms of different levels",
			memory: cgroup.Memory{Version: cgroup.V2,
				Levels: []cgroup.MemoryLevel{level("/p/a", 100*mib, 10*mib, 0), level("/p", 200*mib, 190*mib, 100*mib)}},
			want: map[string]uint64{"MemTotal": 100 << 10, "MemFree": 10 << 10, "MemAvailable": 90 << 10},
		},
		{
			name:   "limit above the machine",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 64*gib, gib, 0)}},
			want:   map[string]uint64{"MemTotal": 16777216, "MemFree": 4194304, "MemAvailable": 8388608},
		},
		{
			name: "unlimited",
			memory: cgroup.Memory{Version: cgroup.V2, Stat: cgroup.MemoryStat{File: 20 * mib},
				Levels: []cgroup.MemoryLevel{level("/a", none, gib, 0), level("/", none, 0, 0)}},
			want: map[string]uint64{"MemTotal": 16777216, "MemFree": 4194304, "MemAvailable": 8388608, "Cached": 20 << 10},
		},
		{
			name: "limit below usage, statistics above the limit",
			memory: cgroup.Memory{Version: cgroup.V2,
				Stat:   cgroup.MemoryStat{File: 80 * mib, SlabReclaimable: 70 * mib, SlabUnreclaimable: 80 * mib},
				Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 200*mib, 20*mib)}},
			want: map[string]uint64{"MemTotal": 64 << 10, "MemFree": 0, "MemAvailable": 0, "Cached": 64 << 10,
				"SReclaimable": 0, "KReclaimable": 0, "SUnreclaim": 64 << 10, "Slab": 64 << 10},
		},
		{
			name: "cache and slab larger than what is not free",
			memory: cgroup.Memory{Version: cgroup.V2, Stat: cgroup.MemoryStat{File: 30 * mib, SlabReclaimable: 50 * mib},
				Levels: []cgroup.MemoryLevel{level("/a", 100*mib, 40*mib, 80*mib)}},
			want: map[string]uint64{"MemFree": 60 << 10, "MemAvailable": 100 << 10, "Cached": 30 << 10, "SReclaimable": 10 << 10},
		},
		{
			name:   "limit 0",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 0, mib, mib)}},
			want:   map[string]uint64{"MemTotal": 0, "MemFree": 0, "MemAvailable": 0, "CommitLimit": 0},
		},
		{
			name: "v1 kernel memory",
			memory: cgroup.Memory{Version: cgroup.V1, Stat: cgroup.MemoryStat{KmemUsage: 3 * mib},
				Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 20*mib, 0)}},
			want: map[string]uint64{"Slab": 3 << 10, "SUnreclaim": 3 << 10, "SReclaimable": 0},
		},
		{
			name: "no swap accounting",
			memory: cgroup.Memory{Version: cgroup.V2,
				Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 20*mib, 0)}},
			want: map[string]uint64{"SwapTotal": 0, "SwapFree": 0, "CommitLimit": 32 << 10},
		},
		{
			name: "swap of the parent",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{
				withSwap(level("/p/a", none, mib, 0), 64*mib, 8*mib), withSwap(level("/p", none, 0, 0), 32*mib, 30*mib)}},
			want: map[string]uint64{"SwapTotal": 32 << 10, "SwapFree": 2 << 10},
		},
		{
			name: "swap limit below what is swapped",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", none, mib, 0), 16*mib, 42*mib)}},
			want: map[string]uint64{"SwapTotal": 16 << 10, "SwapFree": 0, "Committed_AS": 16 << 10},
		},
		{
			name: "swap without a limit, on a machine that has less free",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", none, mib, 0), none, 42*mib)}},
			want: map[string]uint64{"SwapTotal": 4194304, "SwapFree": 2097152, "Committed_AS": 42 << 10},
		},
		{
			name: "v1 swap",
			memory: cgroup.Memory{Version: cgroup.V1, Swappiness: 60, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", 100*mib, 90*mib, 0), 300*mib, 120*mib)}},
			want: map[string]uint64{"SwapTotal": 200 << 10, "SwapFree": 170 << 10},
		},
		{
			name: "v1 memsw limit at the parent, memory limit at the container",
			memory: cgroup.Memory{Version: cgroup.V1, Swappiness: 60, Levels: []cgroup.MemoryLevel{
				withSwap(level("/p/a", 100*mib, 90*mib, 0), none, 90*mib),
				withSwap(level("/p", 150*mib, 90*mib, 0), 150*mib, 90*mib)}},
			want: map[string]uint64{"MemTotal": 100 << 10, "SwapTotal": 50 << 10, "SwapFree": 50 << 10},
		},
		{
			name: "v1 memory limited, memsw not",
			memory: cgroup.Memory{Version: cgroup.V1, Swappiness: 60, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", 100*mib, 90*mib, 0), none, 120*mib)}},
			want: map[string]uint64{"SwapTotal": 4194304, "SwapFree": 2097152, "Committed_AS": 30 << 10},
		},
		{
			name: "v1 more swapped than the limits leave",
			memory: cgroup.Memory{Version: cgroup.V1, Swappiness: 60, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", 100*mib, 10*mib, 0), 100*mib, 50*mib)}},
			want: map[string]uint64{"SwapTotal": 40 << 10, "SwapFree": 0},
		},
		{
			name: "v1 swappiness 0",
			memory: cgroup.Memory{Version: cgroup.V1, Swappiness: 0, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", 100*mib, 90*mib, 0), 300*mib, 90*mib)}},
			want: map[string]uint64{"SwapTotal": 0, "SwapFree": 0},
		},
		{
			name: "v1 swappiness 0 with pages in swap",
			memory: cgroup.Memory{Version: cgroup.V1, Swappiness: 0, Levels: []cgroup.MemoryLevel{
				withSwap(level("/a", 100*mib, 90*mib, 0), 300*mib, 120*mib)}},
			want: map[string]uint64{"SwapTotal": 200 << 10, "SwapFree": 170 << 10},
		},
		{
			name: "huge pages",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 20*mib, 0)},
				Hugetlb: []cgroup.Hugetlb{{PageSize: 2 * mib, Limit: 64 * mib, Usage: 20 * mib, Reserved: 24 * mib},
					{PageSize: gib, Limit: gib / 2}}},
			want: map[string]uint64{"HugePages_Total": 32, "HugePages_Free": 22, "HugePages_Rsvd": 2, "HugePages_Surp": 0,
				"Hugetlb": 64<<10 + 512<<10, "Hugepagesize": 2048},
		},
		{
			name: "huge pages above the machine's",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 20*mib, 0)},
				Hugetlb: []cgroup.Hugetlb{{PageSize: 2 * mib, Limit: 64 * gib, Usage: 66 * gib, Reserved: cgroup.Unlimited}}},
			want: map[string]uint64{"HugePages_Total": 512, "HugePages_Free": 0, "HugePages_Rsvd": 0, "Hugetlb": 2097152},
		},
		{
			name:   "huge pages without a limit",
			memory: cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 20*mib, 0)}},
			want: map[string]uint64{"HugePages_Total": 512, "HugePages_Free": 500, "HugePages_Rsvd": 10, "HugePages_Surp": 3,
				"Hugetlb": 2097152},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := meminfoOf(t, smallMeminfo, &Container{Memory: &test.memory})
			for key, want := range test.want {
				if got[key] != want {
					t.Errorf("%s: got %d kB, want %d kB", key, got[key], want)
				}
			}
		})
	}
}

// On a machine whose MemAvailable is below its MemFree a limited container keeps the order of the two.
func TestMeminfoReserves(t *testing.T) {
	const text = "MemTotal:       24684092 kB\nMemFree:        24472276 kB\nMemAvailable:   24410612 kB\n"
	c := &Container{Memory: &cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 64*gib, gib, 0)}}}
	got := meminfoOf(t, text, c)
	if got["MemFree"] != 24410612 || got["MemAvailable"] != 24410612 {
		t.Errorf("got %v", got)
	}
	c.Memory.Levels[0].Limit = cgroup.Unlimited
	if got := string(Meminfo(nil, &host.Snapshot{Meminfo: []byte(text)}, c)); got != text {
		t.Errorf("unlimited: got\n%s", got)
	}
}

func TestMeminfoOvercommit(t *testing.T) {
	c := &Container{Memory: &cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/a", 100*mib, mib, 0)}}}
	for _, test := range []struct {
		o    host.Overcommit
		want uint64
	}{
		{host.Overcommit{Ratio: 50}, 50 << 10},
		{host.Overcommit{Ratio: 33}, 25600 * 33 / 100 * 4}, // the kernel rounds down to pages
		{host.Overcommit{Ratio: 50, Kbytes: 777}, 777},
		{host.Overcommit{Ratio: 1 << 62}, 1000 << 10},
	} {
		h := &host.Snapshot{Meminfo: []byte(smallMeminfo), Overcommit: test.o}
		if got := meminfoNumbers(t, Meminfo(nil, h, c))["CommitLimit"]; got != test.want {
			t.Errorf("%+v: got %d kB, want %d kB", test.o, got, test.want)
		}
	}
}

// A number keeps its place in the line, whatever the widths of the old one and the new one.
func TestMeminfoLayout(t *testing.T) {
	for _, test := range []struct {
		line  string
		value uint64
		want  string
	}{
		{"MemTotal:       16777216 kB\n", 7, "MemTotal:              7 kB\n"},
		{"MemTotal:       263799040 kB\n", 26214400, "MemTotal:       26214400 kB\n"},
		{"MemTotal:       263799040 kB\n", 262144, "MemTotal:         262144 kB\n"},
		{"MemTotal:       263799040 kB\n", 1234567890, "MemTotal:       1234567890 kB\n"},
		{"Cached:                0 kB\n", 123456789, "Cached:         123456789 kB\n"},
		{"HugePages_Total:       0\n", 64, "HugePages_Total:      64\n"},
		{"HugePages_Total:   1234567\n", 64, "HugePages_Total:      64\n"},
		{"HugePages_Total:   1234567\n", 123456, "HugePages_Total:   123456\n"},
		{"HardwareCorrupted:     4 kB\n", 0, "HardwareCorrupted:     0 kB\n"},
		{"Odd: 5 kB", 12, "Odd:            12 kB"},
		{"Odd:", 12, "Odd:"},
		{"Odd: -5 kB", 12, "Odd: -5 kB"},
	} {
		line := []byte(test.line)
		if got := string(appendMeminfo(nil, line, meminfoKey(line), test.value)); got != test.want {
			t.Errorf("%q with %d: got %q, want %q", test.line, test.value, got, test.want)
		}
	}
}

// randomMemory makes a memory controller of any state, possible or not.
func randomMemory(r *rand.Rand) *cgroup.Memory {
	size := func() uint64 {
		switch r.IntN(6) {
		case 0:
			return 0
		case 1:
			return cgroup.Unlimited
		default:
			return r.Uint64() >> (10 + r.IntN(50))
		}
	}
	m := &cgroup.Memory{Version: cgroup.Version(1 + r.IntN(2)), Swappiness: r.IntN(3) - 1}
	for i := range 1 + r.IntN(4) {
		l := level(fmt.Sprintf("/level%d", i), size(), size(), size())
		if r.IntN(4) > 0 {
			l = withSwap(l, size(), size())
		}
		m.Levels = append(m.Levels, l)
	}
	s := &m.Stat
	for _, field := range []*uint64{&s.Anon, &s.File, &s.Shmem, &s.FileMapped, &s.FileDirty, &s.FileWriteback,
		&s.InactiveAnon, &s.ActiveAnon, &s.InactiveFile, &s.ActiveFile, &s.Unevictable, &s.Slab, &s.SlabReclaimable,
		&s.SlabUnreclaimable, &s.KernelStack, &s.PageTables, &s.SecPageTables, &s.Percpu, &s.Vmalloc, &s.SwapCached,
		&s.Zswap, &s.Zswapped, &s.AnonTHP, &s.FileTHP, &s.ShmemTHP, &s.KmemUsage} {
		*field = size()
	}
	for range r.IntN(3) {
		m.Hugetlb = append(m.Hugetlb, cgroup.Hugetlb{PageSize: []uint64{0, 2 * mib, gib}[r.IntN(3)],
			Limit: size(), Usage: size(), Reserved: size(), Path: "/huge"})
	}
	return m
}

func TestMeminfoProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	hosts := []*host.Snapshot{{Meminfo: []byte(smallMeminfo)}}
	for _, f := range readFixtures(t) {
		if f.host.Meminfo != nil {
			hosts = append(hosts, f.host)
		}
	}
	for i := range 5000 {
		h := hosts[i%len(hosts)]
		c := &Container{Memory: randomMemory(r), Policy: policy.Policy{NoSwap: r.IntN(8) == 0}}
		text := Meminfo(nil, h, c)
		if problem := meminfoProblem(t, h, c, text); problem != "" {
			t.Fatalf("%s\nmemory %+v\nhost\n%s\ngot\n%s", problem, c.Memory, h.Meminfo, text)
		}
	}
}

// meminfoProblem says which rule a rendered meminfo breaks.
func meminfoProblem(t *testing.T, h *host.Snapshot, c *Container, text []byte) string {
	got, machine := meminfoNumbers(t, text), meminfoNumbers(t, h.Meminfo)
	hostLines, lines := bytes.Split(h.Meminfo, []byte("\n")), bytes.Split(text, []byte("\n"))
	if len(lines) != len(hostLines) {
		return "the number of lines differs"
	}
	for i, line := range lines {
		key, _, _ := bytes.Cut(line, []byte(":"))
		if !bytes.HasPrefix(hostLines[i], append(key, ':')) && len(line) > 0 {
			return "keys differ at " + string(line)
		}
		if bytes.HasSuffix(hostLines[i], []byte(" kB")) != bytes.HasSuffix(line, []byte(" kB")) {
			return "units differ at " + string(line)
		}
	}
	limited := false
	for _, l := range c.Memory.Levels {
		limited = limited || l.Limit != cgroup.Unlimited
	}
	for key, n := range got {
		if n > 1<<40 && key != "VmallocTotal" {
			return key + " is too large"
		}
	}
	for _, n := range Explain("proc/meminfo", h, c) {
		if n.Value != got[n.Key] {
			return n.Key + " is explained as another number"
		}
	}
	size, used := swapsNumbers(t, h, c)
	switch {
	case got["MemTotal"] > machine["MemTotal"], got["MemFree"] > machine["MemFree"],
		got["MemAvailable"] > machine["MemAvailable"], got["SwapTotal"] > machine["SwapTotal"],
		got["SwapFree"] > machine["SwapFree"], got["HugePages_Total"] > machine["HugePages_Total"],
		got["Hugetlb"] > machine["Hugetlb"]:
		return "more than the machine has"
	case limited && (got["MemFree"] > got["MemAvailable"] || got["MemAvailable"] > got["MemTotal"]):
		return "not MemFree ≤ MemAvailable ≤ MemTotal"
	case !limited && (got["MemTotal"] != machine["MemTotal"] || got["MemFree"] != machine["MemFree"] ||
		got["MemAvailable"] != machine["MemAvailable"]):
		return "unlimited, and not the machine's"
	case got["MemFree"]+got["Buffers"]+got["Cached"]+got["SReclaimable"] > got["MemTotal"]:
		return "used is negative"
	case got["Slab"] != got["SReclaimable"]+got["SUnreclaim"]:
		return "Slab is not the sum of its parts"
	case got["SwapFree"] > got["SwapTotal"]:
		return "SwapFree > SwapTotal"
	case c.Policy.NoSwap && got["SwapTotal"]+got["SwapFree"]+got["SwapCached"]+got["Zswap"]+got["Zswapped"] != 0:
		return "swap is not off"
	case size != got["SwapTotal"] || used != got["SwapTotal"]-got["SwapFree"]:
		return fmt.Sprintf("swaps says size %d, used %d", size, used)
	case got["HugePages_Free"] > got["HugePages_Total"] || got["HugePages_Rsvd"] > got["HugePages_Free"]:
		return "not HugePages_Rsvd ≤ Free ≤ Total"
	}
	return ""
}

// swapsNumbers renders /proc/swaps and gives size and used of its line, 0 if it has none.
func swapsNumbers(t *testing.T, h *host.Snapshot, c *Container) (size, used uint64) {
	t.Helper()
	withSwaps := *h
	withSwaps.Swaps = []byte("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
	lines := strings.SplitAfter(string(Swaps(nil, &withSwaps, c)), "\n")
	if len(lines) == 2 {
		return 0, 0
	}
	var name, kind string
	var priority int
	if n, err := fmt.Sscan(lines[1], &name, &kind, &size, &used, &priority); n != 5 || len(lines) != 3 {
		t.Fatalf("swaps %q: %v", lines, err)
	}
	return size, used
}

func TestNoSwapAlone(t *testing.T) {
	want := strings.Replace(smallMeminfo, "SwapTotal:       4194304", "SwapTotal:             0", 1)
	want = strings.Replace(want, "SwapFree:        2097152", "SwapFree:              0", 1)
	h := &host.Snapshot{Meminfo: []byte(smallMeminfo), Swaps: []byte("Filename\n/dev/sda\n")}
	c := &Container{Policy: policy.Policy{NoSwap: true}}
	if got := string(Meminfo(nil, h, c)); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := string(Swaps(nil, h, c)); got != "Filename\n" {
		t.Errorf("swaps: got %q", got)
	}
}
