package view

import (
	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// A vmstatRow is a row of /proc/vmstat that says what one or two of meminfo say.
type vmstatRow struct {
	key  string
	of   *meminfoRow
	plus *meminfoRow // to be added; nil: nothing
	unit vmstatUnit
	most bool // the number is only a bound of the machine's
}

// vmstatUnit is what a row counts.
type vmstatUnit uint8

const (
	inPages vmstatUnit = iota
	inKB
	inTHPs
)

func (u vmstatUnit) String() string {
	return [...]string{inPages: "pages", inKB: "kB", inTHPs: "huge pages"}[u]
}

// number is the row's number, in its unit.
func (r *vmstatRow) number(h *host.Snapshot, m memory, c *Container) uint64 {
	kB := r.of.number(m, c)
	if r.plus != nil {
		kB = add(kB, r.plus.number(m, c))
	}
	size := uint64(1024)
	switch r.unit {
	case inPages:
		size = h.PageSize
	case inTHPs:
		size = h.THPSize
	case inKB:
	}
	if size < 1024 {
		return 0 // a kernel without such pages
	}
	return kB / (size >> 10)
}

// vmstatRows are the rows that are memory in use or free, under the names of every kernel since 4.19 (mm/vmstat.c). What
// is counted by zone (nr_zone_*) is the same again. The nodes' vmstat has most of them too.
var vmstatRows = [...]vmstatRow{
	{key: "nr_free_pages", of: rowOf("MemFree")},
	{key: "nr_free_pages_blocks", of: rowOf("MemFree"), most: true},
	{key: "nr_free_cma", of: rowOf("MemFree"), most: true},
	{key: "nr_zone_inactive_anon", of: rowOf("Inactive(anon)")},
	{key: "nr_zone_active_anon", of: rowOf("Active(anon)")},
	{key: "nr_zone_inactive_file", of: rowOf("Inactive(file)")},
	{key: "nr_zone_active_file", of: rowOf("Active(file)")},
	{key: "nr_zone_unevictable", of: rowOf("Unevictable")},
	{key: "nr_zone_write_pending", of: rowOf("Dirty"), plus: rowOf("Writeback")},
	{key: "nr_mlock", of: rowOf("Mlocked")},
	{key: "nr_bounce", of: rowOf("Bounce")},
	{key: "nr_inactive_anon", of: rowOf("Inactive(anon)")},
	{key: "nr_active_anon", of: rowOf("Active(anon)")},
	{key: "nr_inactive_file", of: rowOf("Inactive(file)")},
	{key: "nr_active_file", of: rowOf("Active(file)")},
	{key: "nr_unevictable", of: rowOf("Unevictable")},
	{key: "nr_slab_reclaimable", of: rowOf("SReclaimable")},
	{key: "nr_slab_unreclaimable", of: rowOf("SUnreclaim")},
	{key: "nr_anon_pages", of: rowOf("AnonPages")},
	{key: "nr_mapped", of: rowOf("Mapped")},
	{key: "nr_file_pages", of: rowOf("Cached"), plus: rowOf("SwapCached")},
	{key: "nr_dirty", of: rowOf("Dirty")},
	{key: "nr_writeback", of: rowOf("Writeback")},
	{key: "nr_writeback_temp", of: rowOf("WritebackTmp")},
	{key: "nr_shmem", of: rowOf("Shmem")},
	{key: "nr_shmem_hugepages", of: rowOf("ShmemHugePages"), unit: inTHPs},
	{key: "nr_shmem_pmdmapped", of: rowOf("ShmemPmdMapped"), unit: inTHPs},
	{key: "nr_file_hugepages", of: rowOf("FileHugePages"), unit: inTHPs},
	{key: "nr_file_pmdmapped", of: rowOf("FilePmdMapped"), unit: inTHPs},
	{key: "nr_anon_transparent_hugepages", of: rowOf("AnonHugePages"), unit: inTHPs},
	{key: "nr_kernel_misc_reclaimable", of: &uncounted}, // in KReclaimable, which is SReclaimable alone,
	{key: "nr_kernel_stack", of: rowOf("KernelStack"), unit: inKB},
	{key: "nr_vmalloc", of: rowOf("VmallocUsed")},
	{key: "nr_page_table_pages", of: rowOf("PageTables")},
	{key: "nr_sec_page_table_pages", of: rowOf("SecPageTables")},
	{key: "nr_swapcached", of: rowOf("SwapCached")},
	{key: "nr_balloon_pages", of: rowOf("Balloon")},
	{key: "nr_unstable", of: rowOf("NFS_Unstable")},
}

// uncounted is the source of a row that meminfo does not have by itself.
var uncounted = meminfoRow{value: zero, rule: ruleNone}

// A vmstatSource is where the number of a row of /proc/vmstat is from.
type vmstatSource struct {
	kind  vmstatKind
	row   *vmstatRow   // of vmstatMemory
	event cgroup.Event // of vmstatEvent
}

type vmstatKind uint8

const (
	vmstatMemory vmstatKind = iota
	vmstatEvent
	vmstatRead    // pgpgin
	vmstatWritten // pgpgout
)

// vmstatSources are the sources of all rows that can be a container's, and vmstatIndex where each key has its own.
var vmstatSources, vmstatIndex = func() (sources []vmstatSource, index map[string]int) {
	index = map[string]int{}
	add := func(key string, source vmstatSource) {
		index[key] = len(sources)
		sources = append(sources, source)
	}
	for e := range cgroup.Event(cgroup.EventCount) {
		add(e.String(), vmstatSource{kind: vmstatEvent, event: e})
	}
	add("pgpgin", vmstatSource{kind: vmstatRead})
	add("pgpgout", vmstatSource{kind: vmstatWritten})
	for i := range vmstatRows {
		add(vmstatRows[i].key, vmstatSource{kind: vmstatMemory, row: &vmstatRows[i]})
	}
	return sources, index
}()

func rowOf(key string) *meminfoRow { return &meminfoRows[meminfoIndex[key]] }
