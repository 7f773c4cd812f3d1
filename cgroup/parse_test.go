package cgroup

import (
	"math"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]uint64{
		"max\n":                 Unlimited,
		"9223372036854771712\n": Unlimited, // v1, 4 KiB pages
		"9223372036854710272\n": Unlimited, // v1, 64 KiB pages
		"18446744073709551615":  Unlimited, // v1 before Linux 3.19
		"1152921504606846976\n": Unlimited, // 1<<60
		"1152921504606846975\n": 1<<60 - 1,
		"134217728\n":           128 << 20,
		"0\n":                   0,
	} {
		if got, err := parseLimit([]byte(text)); got != want || err != nil {
			t.Errorf("parseLimit(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "\n", "-1", "maximum", "1 2", "0x10", "18446744073709551616"} {
		if got, err := parseLimit([]byte(text)); err == nil {
			t.Errorf("parseLimit(%q) = %d", text, got)
		}
	}
}

func TestParseCPUMax(t *testing.T) {
	for _, tt := range []struct {
		text          string
		quota, period uint64
		bad           bool
	}{
		{"max 100000\n", Unlimited, 100000, false},
		{"150000 100000\n", 150000, 100000, false},
		{"1000 1000000\n", 1000, 1000000, false},
		{"0 100000\n", 0, 0, true},
		{"150000 0\n", 0, 0, true}, // a division by zero for whoever counts CPUs
		{"150000 1000001\n", 0, 0, true},
		{"150000\n", 0, 0, true},
		{"\n", 0, 0, true},
		{"-5 100000\n", 0, 0, true},
	} {
		quota, period, err := parseCPUMax([]byte(tt.text))
		if quota != tt.quota || period != tt.period || (err != nil) != tt.bad {
			t.Errorf("parseCPUMax(%q) = %d, %d, %v", tt.text, quota, period, err)
		}
	}
}

func TestSharesOf(t *testing.T) {
	// 2 CPUs are a weight of 174, 4 of 303 and so on; 39 and 79 are what older runtimes made of 1024 and 2048.
	for weight, want := range map[uint64]uint64{
		0: 2, 1: 2, 39: 305, 59: 521, 79: 758, 100: 1024, 174: 2048, 303: 4096, 532: 8192, 10000: 262144, math.MaxUint64: 262144,
	} {
		if got := sharesOf(weight); got != want {
			t.Errorf("sharesOf(%d) = %d, want %d", weight, got, want)
		}
	}
	for weight, last := uint64(1), uint64(0); weight <= 10000; weight++ {
		shares := sharesOf(weight)
		if weightOf(shares) != weight || shares <= last {
			t.Fatalf("weight %d is %d shares, which are a weight of %d; the weight below is %d shares", weight, shares, weightOf(shares), last)
		}
		last = shares
	}
	// What Kubernetes' documentation says of a request of 0.1 CPUs.
	if got := weightOf(102); got != 17 {
		t.Errorf("102 shares are a weight of %d, want 17", got)
	}
	for cpus := uint64(1); cpus <= 256; cpus++ {
		if got := sharesOf(weightOf(1024 * cpus)); got != 1024*cpus {
			t.Errorf("%d CPUs come back as %d shares", cpus, got)
		}
	}
}

// FuzzNumbers checks every parser of a single number against math/big.
func FuzzNumbers(f *testing.F) {
	for _, seed := range []string{"0\n", "max", "-1\n", "18446744073709551615", "18446744073709551616", "007", "1 2", " 3 "} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		trimmed := strings.TrimSpace(string(text))
		isNumber := trimmed != "" && strings.Trim(trimmed, "0123456789") == ""
		want, _ := new(big.Int).SetString(trimmed, 10)
		got, err := parseNumber(text)
		if ok := isNumber && want.IsUint64(); ok != (err == nil) || ok && got != want.Uint64() {
			t.Fatalf("parseNumber(%q) = %d, %v", text, got, err)
		}
		if limit, err := parseLimit(text); err == nil && limit != Unlimited && limit != got {
			t.Fatalf("parseLimit(%q) = %d", text, limit)
		}
		if quota, err := parseQuota(text); err == nil && (quota == 0 || quota != Unlimited && quota != got) {
			t.Fatalf("parseQuota(%q) = %d", text, quota)
		}
		if period, err := parsePeriod(text); err == nil && (period == 0 || period > maxPeriod) {
			t.Fatalf("parsePeriod(%q) = %d", text, period)
		}
	})
}

func FuzzCPUMax(f *testing.F) {
	for _, seed := range []string{"max 100000\n", "150000 100000\n", "0 0", "max", "1 99999999999999999999"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		quota, period, err := parseCPUMax(text)
		if err == nil && (quota == 0 || period == 0 || period > maxPeriod) {
			t.Fatalf("%q: quota %d, period %d", text, quota, period)
		}
		if err != nil && (quota != 0 || period != 0) {
			t.Fatalf("%q: %v, but quota %d, period %d", text, err, quota, period)
		}
	})
}

func FuzzCPUStat(f *testing.F) {
	f.Add([]byte("usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 1\nnr_throttled 7\nthrottled_usec 9\n"))
	f.Add([]byte("nr_periods 1\nthrottled_time 99\n"))
	f.Add([]byte("user 18446744073709551615\nsystem 184467440737095516150\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var st cpuStat
		if err := st.parse(text); err != nil {
			return
		}
		// Units are multiplied in: a wrap would leave something that is no multiple and not the largest number.
		for _, ns := range []uint64{st.usage, st.user, st.system, st.nice} {
			if ns%1000 != 0 && ns != math.MaxUint64 {
				t.Fatalf("%q: %d ns from µs", text, ns)
			}
		}
		for _, ns := range []uint64{st.userTicks, st.systemTicks} {
			if ns%tick != 0 && ns != math.MaxUint64 {
				t.Fatalf("%q: %d ns from ticks", text, ns)
			}
		}
	})
}

func FuzzUsageAll(f *testing.F) {
	f.Add([]byte("cpu user system\n0 87763829064 25954674098\n1 92332579157 29355637159\n"))
	f.Add([]byte("cpu user system\n8192 1 1\n"))
	f.Add([]byte("cpu user system\n8191 1 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := parseUsageAll(nil, text); len(got) > maxCPUs {
			t.Fatalf("%q: %d CPUs, %v", text, len(got), err)
		}
	})
}

// simpleMemoryStat is memory.stat's parser without a thought of its cost: it looks each key up in a map of them all.
func simpleMemoryStat(text string, version Version) (st memoryStatText, ok bool) {
	if version == V1 {
		if at := strings.Index(text, "hierarchical_memory_limit "); at >= 0 {
			text = text[at:]
		}
	}
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " ")
		if version == V2 && (strings.HasPrefix(key, "workingset_") || key == "pgfault") {
			break
		}
		fields := map[string]*uint64{
			"anon": &st.Anon, "file": &st.File, "shmem": &st.Shmem, "file_mapped": &st.FileMapped,
			"file_dirty": &st.FileDirty, "file_writeback": &st.FileWriteback, "inactive_anon": &st.InactiveAnon,
			"active_anon": &st.ActiveAnon, "inactive_file": &st.InactiveFile, "active_file": &st.ActiveFile,
			"unevictable": &st.Unevictable, "slab": &st.Slab, "slab_reclaimable": &st.SlabReclaimable,
			"slab_unreclaimable": &st.SlabUnreclaimable, "kernel_stack": &st.KernelStack, "pagetables": &st.PageTables,
			"sec_pagetables": &st.SecPageTables, "percpu": &st.Percpu, "vmalloc": &st.Vmalloc,
			"swapcached": &st.SwapCached, "zswap": &st.Zswap, "zswapped": &st.Zswapped, "anon_thp": &st.AnonTHP,
			"file_thp": &st.FileTHP, "shmem_thp": &st.ShmemTHP,
		}
		if version == V1 {
			fields = map[string]*uint64{
				"hierarchical_memory_limit": &st.memory, "hierarchical_memsw_limit": &st.memorySwap,
				"total_cache": &st.File, "total_rss": &st.Anon, "total_rss_huge": &st.AnonTHP,
				"total_mapped_file": &st.FileMapped, "total_dirty": &st.FileDirty, "total_writeback": &st.FileWriteback,
				"total_shmem": &st.Shmem, "total_swapcached": &st.SwapCached, "total_inactive_anon": &st.InactiveAnon,
				"total_active_anon": &st.ActiveAnon, "total_inactive_file": &st.InactiveFile,
				"total_active_file": &st.ActiveFile, "total_unevictable": &st.Unevictable,
			}
		}
		field := fields[key]
		if field == nil {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || strings.HasPrefix(value, "+") {
			return st, false
		}
		*field = n
		if field == &st.Unevictable && version == V1 {
			break
		}
	}
	st.HierarchicalLimit = st.memory
	return st, true
}

func FuzzMemoryStat(f *testing.F) {
	f.Add("anon 4096\nfile 8192\nslab_reclaimable 1\nnew_key 5\n", true)
	f.Add("anon 4096\nslab 1\nworkingset_refault_anon 1\nshmem 3\n", true)
	f.Add("cache 1\ntotal_cache 4096\ntotal_rss 8192\ntotal_shmem 1\n", false)
	f.Add("anon 18446744073709551616\n", true)
	f.Add("total_anon 1\ntotal_slab 3\n", false)
	f.Add("total_rss 1\nhierarchical_memory_limit 5\nhierarchical_memsw_limit 6\ntotal_unevictable 4\ntotal_rss 3", false)
	f.Add("anon\n\n 1\nfile 1 2\n", true)
	for _, name := range fixtures {
		root := fixture(f, name)
		p := container(f, root)
		fs := newFS(f, root)
		g := open(f, fs, p)
		for d := g.own[memory]; d != nil; d = d.parent {
			if text, err := os.ReadFile(d.path + "/memory.stat"); err == nil {
				f.Add(string(text), d.version == V2)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string, v2 bool) {
		version := V1
		if v2 {
			version = V2
		}
		want, ok := simpleMemoryStat(text, version)
		var got memoryStatText
		err := got.parse([]byte(text), version)
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("%q of version %d: %+v, %v; want %+v, %v", text, version, got, err, want, ok)
		}
	})
}

// A limit above what is mounted here, as in a container that runs a daemon of its own, is seen in memory.stat alone.
func TestHiddenLimitBinds(t *testing.T) {
	for _, test := range []struct{ own, parent, hidden, want uint64 }{
		{Unlimited, Unlimited, 1 << 28, 1 << 28},
		{1 << 30, Unlimited, 1 << 28, 1 << 28},
		{1 << 30, 1 << 28, 1 << 28, 1 << 30}, // the parent's, which is on the path
		{1 << 27, Unlimited, 1 << 27, 1 << 27},
		{Unlimited, Unlimited, 0x7ffffffffffff000, Unlimited},
		{Unlimited, Unlimited, 0, Unlimited}, // v2
	} {
		m := Memory{Levels: []MemoryLevel{{Limit: test.own}, {Limit: test.parent}}}
		m.Stat.HierarchicalLimit = test.hidden
		if m.bindHidden(); m.Levels[0].Limit != test.want {
			t.Errorf("%+v: the own level's limit is %d", test, m.Levels[0].Limit)
		}
	}
}
