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

// eventsOf are the counters of a v2 container.
func eventsOf(t testing.TB, counts map[string]uint64) *cgroup.MemoryEvents {
	t.Helper()
	e := &cgroup.MemoryEvents{Version: cgroup.V2, Path: "/c"}
	for name, n := range counts {
		event, ok := cgroup.FindEvent([]byte(name))
		if !ok {
			t.Fatal(name)
		}
		e.Count[event], e.Known[event] = n, true
	}
	return e
}

func randomEvents(r *rand.Rand) *cgroup.MemoryEvents {
	if r.IntN(6) == 0 {
		return nil
	}
	e := &cgroup.MemoryEvents{Version: cgroup.Version(1 + r.IntN(2)), Path: "/events"}
	for i := range e.Count {
		if e.Known[i] = r.IntN(2) == 0; e.Known[i] {
			e.Count[i] = r.Uint64() >> r.IntN(64)
		}
	}
	return e
}

func vmstatNumbers(t testing.TB, text []byte) map[string]uint64 {
	t.Helper()
	numbers := map[string]uint64{}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			t.Fatalf("line %q: %v", line, err)
		}
		numbers[key] = uint64(n)
	}
	return numbers
}

func TestVMStatRows(t *testing.T) {
	// 256 MiB, of which 100 are used: 60 MiB of files, 32 MiB of anonymous memory, of which 8 MiB are huge pages.
	memory := &cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{withSwap(level("/c", 256*mib, 100*mib, 40*mib), 64*mib, 8*mib)},
		Stat: cgroup.MemoryStat{File: 60 * mib, Anon: 32 * mib, AnonTHP: 8 * mib, Shmem: 4 * mib, FileMapped: 3 * mib, FileDirty: 2 * mib,
			FileWriteback: mib, SwapCached: mib, KernelStack: 64 << 10, PageTables: 8 << 10, SlabReclaimable: 2 * mib, SlabUnreclaimable: mib,
			Unevictable: 5 * mib, ActiveFile: 20 * mib, InactiveFile: 30 * mib, ActiveAnon: 12 * mib, InactiveAnon: 10 * mib}}
	c := &Container{Memory: memory, IO: ioOf(disk(8, 0, 1, 3*mib, 1, 5*mib+1023)), Events: eventsOf(t, map[string]uint64{
		"pgfault": 77, "pgmajfault": 3, "workingset_refault_file": 9, "pswpin": 4, "pswpout": 6})}
	for _, test := range []struct {
		name string
		c    *Container
		want map[string]uint64
	}{
		{"v2", c, map[string]uint64{
			"nr_free_pages": 39936, "nr_free_cma": 100, "nr_free_pages_blocks": 39936, "nr_file_pages": 15360 + 256, "nr_anon_pages": 8192,
			"nr_anon_transparent_hugepages": 4, "nr_shmem": 1024, "nr_mapped": 768, "nr_dirty": 512, "nr_writeback": 256,
			"nr_zone_write_pending": 768, "nr_swapcached": 256, "nr_kernel_stack": 64, "nr_page_table_pages": 2, "nr_slab_reclaimable": 512,
			"nr_slab_unreclaimable": 256, "nr_unevictable": 1280, "nr_zone_unevictable": 1280, "nr_mlock": 1280, "nr_active_file": 5120,
			"nr_zone_active_file": 5120, "nr_inactive_anon": 2560, "nr_zone_inactive_anon": 2560, "nr_kernel_misc_reclaimable": 0,
			"pgpgin": 3072, "pgpgout": 5120, "pgfault": 77, "pgmajfault": 3, "workingset_refault_file": 9, "pswpin": 4, "pswpout": 6,
			"pgscan_kswapd": 1000, "pgalloc_normal": 1000, "nr_dirtied": 1000, "oom_kill": 1000}},
		{"no block I/O controller, no events", &Container{Memory: memory}, map[string]uint64{
			"nr_free_pages": 39936, "pgpgin": 1000, "pgpgout": 1000, "pgfault": 1000, "pswpin": 1000}},
		{"no memory controller", &Container{IO: c.IO}, map[string]uint64{
			"nr_free_pages": 1000000, "pgpgin": 3072, "pgpgout": 5120, "pgfault": 1000}},
		{"swap is turned off", &Container{Memory: memory, IO: c.IO, Events: c.Events, Policy: policy.Policy{NoSwap: true}}, map[string]uint64{
			"pswpin": 0, "pswpout": 0, "zswpin": 0, "nr_swapcached": 0, "nr_file_pages": 15360, "pgfault": 77}},
	} {
		var text strings.Builder
		for key := range test.want {
			n := 1000
			switch key {
			case "nr_free_pages", "nr_free_pages_blocks":
				n = 1000000
			case "nr_free_cma":
				n = 100
			}
			fmt.Fprintf(&text, "%s %d\n", key, n)
		}
		h := &host.Snapshot{VMStat: []byte(text.String()), Meminfo: []byte(smallMeminfo), PageSize: 4 << 10, THPSize: 2 << 20}
		got := vmstatNumbers(t, VMStat(nil, h, test.c))
		for key, want := range test.want {
			if got[key] != want {
				t.Errorf("%s: %s is %d, want %d", test.name, key, got[key], want)
			}
		}
	}
}

// Pages have the machine's size, and huge ones too.
func TestVMStatPageSize(t *testing.T) {
	h := &host.Snapshot{VMStat: []byte("nr_anon_pages 5\nnr_anon_transparent_hugepages 5\n"), Meminfo: []byte(smallMeminfo), PageSize: 64 << 10, THPSize: 512 << 20}
	c := &Container{Memory: &cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/c", 4*gib, 2*gib, 0)},
		Stat: cgroup.MemoryStat{Anon: gib, AnonTHP: gib}}}
	if got := string(VMStat(nil, h, c)); got != "nr_anon_pages 16384\nnr_anon_transparent_hugepages 2\n" {
		t.Errorf("got\n%s", got)
	}
	h.THPSize = 0
	if got := string(VMStat(nil, h, c)); got != "nr_anon_pages 16384\nnr_anon_transparent_hugepages 0\n" {
		t.Errorf("a kernel without huge pages: got\n%s", got)
	}
}

// Lines that are none of the format pass through.
func TestVMStatOddLines(t *testing.T) {
	const odd = "nr_free_pages\nnr_free_pages -1\nnr_free_pages 5x\npgfault \n\nnew_row 5"
	h := &host.Snapshot{VMStat: []byte(odd), Meminfo: []byte(smallMeminfo), PageSize: 4096}
	c := &Container{Memory: &cgroup.Memory{Version: cgroup.V2, Levels: []cgroup.MemoryLevel{level("/c", gib, mib, 0)}},
		Events: eventsOf(t, map[string]uint64{"pgfault": 1})}
	if got := string(VMStat(nil, h, c)); got != odd {
		t.Errorf("got %q", got)
	}
}

// The rows stay the machine's, in order; what meminfo says too is the same there; Explain says the same numbers.
func TestVMStatProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var hosts []*host.Snapshot
	for _, f := range readFixtures(t) {
		if f.host.VMStat != nil {
			hosts = append(hosts, f.host)
		}
	}
	if len(hosts) < 3 {
		t.Fatalf("%d machines with a vmstat", len(hosts))
	}
	for i := range 3000 {
		h := hosts[i%len(hosts)]
		c := &Container{Memory: randomMemory(r), IO: randomIO(r), Events: randomEvents(r), Policy: policy.Policy{NoSwap: r.IntN(8) == 0}}
		text := VMStat(nil, h, c)
		if got, want := keys(text), keys(h.VMStat); got != want {
			t.Fatalf("rows\n%s\nwant\n%s", got, want)
		}
		got, meminfo := vmstatNumbers(t, text), meminfoNumbers(t, Meminfo(nil, h, c))
		for row, key := range map[string]string{"nr_free_pages": "MemFree", "nr_anon_pages": "AnonPages", "nr_mapped": "Mapped",
			"nr_dirty": "Dirty", "nr_shmem": "Shmem", "nr_slab_reclaimable": "SReclaimable", "nr_page_table_pages": "PageTables",
			"nr_unevictable": "Unevictable", "nr_zone_active_anon": "Active(anon)"} {
			if kB := meminfo[key]; got[row] != kB/4 {
				t.Fatalf("%s is %d pages, %s %d kB", row, got[row], key, kB)
			}
		}
		if kB := meminfo["Cached"] + meminfo["SwapCached"]; got["nr_file_pages"] != kB/4 {
			t.Fatalf("nr_file_pages is %d, Cached + SwapCached %d kB", got["nr_file_pages"], kB)
		}
		for _, n := range Explain("proc/vmstat", h, c) {
			if n.Value != got[n.Key] || n.Rule == "" {
				t.Fatalf("shown is %d, explained %+v", got[n.Key], n)
			}
		}
	}
}

func keys(text []byte) string {
	var all strings.Builder
	for line := range bytes.Lines(text) {
		key, _, _ := bytes.Cut(line, []byte(" "))
		all.WriteString(string(key) + "\n")
	}
	return all.String()
}
