package view

import (
	"bytes"

	"github.com/scopefs/scopefs/cgroup"
)

// A meminfoRow is one line of /proc/meminfo that is the container's: how to compute it, and how to explain it.
type meminfoRow struct {
	key   string
	value func(memory) uint64 // kB, or pages for HugePages_*

	v2, v1 string // the source of the number in the cgroup; "" where there is none and the number is 0
	rule   string
	level  func(memory) int // that the number is from; nil: the container's own
	swap   bool             // is shown as 0 where swap is turned off, without a memory cgroup too
}

// applies says whether the row has a number of the container's.
func (r *meminfoRow) applies(c *Container) bool { return hasMemory(c) || r.swap && noSwap(c) }

// number is the value of the row for a container, in kB or pages.
func (r *meminfoRow) number(m memory, c *Container) uint64 {
	if r.swap && c.Policy.NoSwap {
		return 0
	}
	return r.value(m)
}

const (
	ruleLimit     = "smallest limit on the path, at most the machine's"
	ruleRoom      = "smallest room (limit − usage) on the path, at most the machine's"
	ruleAvailable = "smallest room on the path with what can be reclaimed (page cache, slab), between MemFree and MemTotal"
	ruleSwapTotal = "smallest swap limit on the path, at most the machine's"
	ruleSwapFree  = "SwapTotal less the swap used, at most the room on the path and the machine's"
	ruleOwn       = "the container's own counter, at most MemTotal"
	ruleFits      = "the container's own counter, at most what is not free"
	ruleNone      = "no cgroup counts it"
	ruleHuge      = "what the hugetlb controller limits, at most the machine's"
)

// part is the value function of a counter of memory.stat, in bytes: a part of the memory, so never more than all of it.
func part(bytes func(*cgroup.MemoryStat) uint64) func(memory) uint64 {
	return func(m memory) uint64 { return min(bytes(m.stat), m.total.bytes) >> 10 }
}

// swapPart is part for what lies in swap or comes from there.
func swapPart(bytes func(*cgroup.MemoryStat) uint64) func(memory) uint64 {
	return func(m memory) uint64 { return min(bytes(m.stat), m.swapTotal.bytes) >> 10 }
}

func zero(memory) uint64 { return 0 }

func memTotal(m memory) uint64        { return m.total.bytes >> 10 }
func memFree(m memory) uint64         { return m.free.bytes >> 10 }
func totalLevel(m memory) int         { return m.total.level }
func freeLevel(m memory) int          { return m.free.level }
func hugeLevel(m memory) int          { return m.huge.level }
func slabReclaimable(m memory) uint64 { return m.reclaimable >> 10 }

// meminfoRows are the rows in the kernel's order (fs/proc/meminfo.c; DirectMap* of the architectures is directMapRow).
var meminfoRows = [...]meminfoRow{
	{key: "MemTotal", value: memTotal, level: totalLevel, v2: "memory.max", v1: "memory.limit_in_bytes", rule: ruleLimit},
	{key: "MemFree", value: memFree, level: freeLevel,
		v2: "memory.max, memory.current", v1: "memory.limit_in_bytes, memory.usage_in_bytes", rule: ruleRoom},
	{key: "MemAvailable", value: func(m memory) uint64 { return m.available.bytes >> 10 },
		level: func(m memory) int { return m.available.level },
		v2:    "memory.max, memory.current, memory.stat",
		v1:    "memory.limit_in_bytes, memory.usage_in_bytes, memory.stat", rule: ruleAvailable},
	{key: "Buffers", value: zero, rule: "part of Cached: the memory controller counts buffer pages as file"},
	{key: "Cached", value: func(m memory) uint64 { return m.cached >> 10 },
		v2: "memory.stat file", v1: "memory.stat total_cache", rule: ruleFits},
	{key: "SwapCached", value: swapPart(func(s *cgroup.MemoryStat) uint64 { return s.SwapCached }), swap: true,
		v2: "memory.stat swapcached", v1: "memory.stat total_swapcached", rule: "the container's own counter, at most SwapTotal"},
	{key: "Active", value: part(func(s *cgroup.MemoryStat) uint64 { return add(s.ActiveAnon, s.ActiveFile) }),
		v2: "memory.stat active_anon + active_file", v1: "memory.stat total_active_anon + total_active_file", rule: ruleOwn},
	{key: "Inactive", value: part(func(s *cgroup.MemoryStat) uint64 { return add(s.InactiveAnon, s.InactiveFile) }),
		v2: "memory.stat inactive_anon + inactive_file", v1: "memory.stat total_inactive_anon + total_inactive_file", rule: ruleOwn},
	{key: "Active(anon)", value: part(func(s *cgroup.MemoryStat) uint64 { return s.ActiveAnon }),
		v2: "memory.stat active_anon", v1: "memory.stat total_active_anon", rule: ruleOwn},
	{key: "Inactive(anon)", value: part(func(s *cgroup.MemoryStat) uint64 { return s.InactiveAnon }),
		v2: "memory.stat inactive_anon", v1: "memory.stat total_inactive_anon", rule: ruleOwn},
	{key: "Active(file)", value: part(func(s *cgroup.MemoryStat) uint64 { return s.ActiveFile }),
		v2: "memory.stat active_file", v1: "memory.stat total_active_file", rule: ruleOwn},
	{key: "Inactive(file)", value: part(func(s *cgroup.MemoryStat) uint64 { return s.InactiveFile }),
		v2: "memory.stat inactive_file", v1: "memory.stat total_inactive_file", rule: ruleOwn},
	{key: "Unevictable", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Unevictable }),
		v2: "memory.stat unevictable", v1: "memory.stat total_unevictable", rule: ruleOwn},
	{key: "Mlocked", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Unevictable }),
		v2: "memory.stat unevictable", v1: "memory.stat total_unevictable", rule: "at most Unevictable: no cgroup counts it apart"},
	// A 32-bit kernel with high memory. What a container has is not split.
	{key: "HighTotal", value: zero, rule: "all memory is shown as low memory"},
	{key: "HighFree", value: zero, rule: "all memory is shown as low memory"},
	{key: "LowTotal", value: memTotal, level: totalLevel, v2: "memory.max", v1: "memory.limit_in_bytes", rule: ruleLimit},
	{key: "LowFree", value: memFree, level: freeLevel,
		v2: "memory.max, memory.current", v1: "memory.limit_in_bytes, memory.usage_in_bytes", rule: ruleRoom},
	{key: "SwapTotal", value: func(m memory) uint64 { return m.swapTotal.bytes >> 10 }, swap: true,
		level: func(m memory) int { return m.swapTotal.level },
		v2:    "memory.swap.max", v1: "memory.memsw.limit_in_bytes, memory.limit_in_bytes", rule: ruleSwapTotal},
	{key: "SwapFree", value: func(m memory) uint64 { return m.swapFree.bytes >> 10 }, swap: true,
		level: func(m memory) int { return m.swapFree.level },
		v2:    "memory.swap.max, memory.swap.current",
		v1:    "memory.memsw.usage_in_bytes, memory.usage_in_bytes", rule: ruleSwapFree},
	{key: "Zswap", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Zswap }), swap: true,
		v2: "memory.stat zswap", rule: ruleOwn},
	{key: "Zswapped", value: swapPart(func(s *cgroup.MemoryStat) uint64 { return s.Zswapped }), swap: true,
		v2: "memory.stat zswapped", rule: "the container's own counter, at most SwapTotal"},
	{key: "Dirty", value: part(func(s *cgroup.MemoryStat) uint64 { return s.FileDirty }),
		v2: "memory.stat file_dirty", v1: "memory.stat total_dirty", rule: ruleOwn},
	{key: "Writeback", value: part(func(s *cgroup.MemoryStat) uint64 { return s.FileWriteback }),
		v2: "memory.stat file_writeback", v1: "memory.stat total_writeback", rule: ruleOwn},
	{key: "AnonPages", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Anon }),
		v2: "memory.stat anon", v1: "memory.stat total_rss", rule: ruleOwn},
	{key: "Mapped", value: part(func(s *cgroup.MemoryStat) uint64 { return s.FileMapped }),
		v2: "memory.stat file_mapped", v1: "memory.stat total_mapped_file", rule: ruleOwn},
	{key: "Shmem", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Shmem }),
		v2: "memory.stat shmem", v1: "memory.stat total_shmem", rule: ruleOwn},
	{key: "KReclaimable", value: slabReclaimable, v2: "memory.stat slab_reclaimable", rule: ruleFits},
	{key: "Slab", value: func(m memory) uint64 { return m.reclaimable>>10 + m.unreclaim>>10 },
		v2: "memory.stat slab_reclaimable + slab_unreclaimable", v1: "memory.kmem.usage_in_bytes", rule: "SReclaimable + SUnreclaim"},
	{key: "SReclaimable", value: slabReclaimable, v2: "memory.stat slab_reclaimable", rule: ruleFits},
	{key: "SUnreclaim", value: func(m memory) uint64 { return m.unreclaim >> 10 },
		v2: "memory.stat slab_unreclaimable", v1: "memory.kmem.usage_in_bytes", rule: ruleOwn},
	{key: "KernelStack", value: part(func(s *cgroup.MemoryStat) uint64 { return s.KernelStack }),
		v2: "memory.stat kernel_stack", rule: ruleOwn},
	{key: "PageTables", value: part(func(s *cgroup.MemoryStat) uint64 { return s.PageTables }),
		v2: "memory.stat pagetables", rule: ruleOwn},
	{key: "SecPageTables", value: part(func(s *cgroup.MemoryStat) uint64 { return s.SecPageTables }),
		v2: "memory.stat sec_pagetables", rule: ruleOwn},
	{key: "NFS_Unstable", value: zero, rule: ruleNone},
	{key: "Bounce", value: zero, rule: ruleNone},
	{key: "WritebackTmp", value: zero, rule: ruleNone},
	{key: "CommitLimit", value: func(m memory) uint64 { return m.commitLimit >> 10 }, level: totalLevel,
		v2: "memory.max, memory.swap.max", v1: "memory.limit_in_bytes, memory.memsw.limit_in_bytes",
		rule: "SwapTotal + MemTotal × vm.overcommit_ratio, or vm.overcommit_kbytes"},
	{key: "Committed_AS", value: func(m memory) uint64 {
		return min(add(m.stat.Anon, m.stat.Shmem), m.total.bytes)>>10 + m.swapUsed>>10
	}, v2: "memory.stat anon + shmem, memory.swap.current",
		v1:   "memory.stat total_rss + total_shmem, memory.memsw.usage_in_bytes",
		rule: "a lower bound, what is in use: no cgroup counts what is committed"},
	{key: "VmallocUsed", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Vmalloc }),
		v2: "memory.stat vmalloc", rule: ruleOwn},
	{key: "Percpu", value: part(func(s *cgroup.MemoryStat) uint64 { return s.Percpu }),
		v2: "memory.stat percpu", rule: ruleOwn},
	{key: "HardwareCorrupted", value: zero, rule: ruleNone},
	{key: "AnonHugePages", value: part(func(s *cgroup.MemoryStat) uint64 { return s.AnonTHP }),
		v2: "memory.stat anon_thp", v1: "memory.stat total_rss_huge", rule: ruleOwn},
	{key: "ShmemHugePages", value: part(func(s *cgroup.MemoryStat) uint64 { return s.ShmemTHP }),
		v2: "memory.stat shmem_thp", rule: ruleOwn},
	{key: "ShmemPmdMapped", value: zero, rule: ruleNone},
	{key: "FileHugePages", value: part(func(s *cgroup.MemoryStat) uint64 { return s.FileTHP }),
		v2: "memory.stat file_thp", rule: ruleOwn},
	{key: "FilePmdMapped", value: zero, rule: ruleNone},
	{key: "Balloon", value: zero, rule: ruleNone},
	{key: "HugePages_Total", value: func(m memory) uint64 { return m.huge.total }, level: hugeLevel,
		v2: "hugetlb.<size>.max", v1: "hugetlb.<size>.limit_in_bytes", rule: ruleHuge},
	{key: "HugePages_Free", value: func(m memory) uint64 { return m.huge.free }, level: hugeLevel,
		v2: "hugetlb.<size>.max, current", v1: "hugetlb.<size>.limit_in_bytes, usage_in_bytes", rule: ruleHuge},
	{key: "HugePages_Rsvd", value: func(m memory) uint64 { return m.huge.reserved }, level: hugeLevel,
		v2: "hugetlb.<size>.rsvd.current, current", v1: "hugetlb.<size>.rsvd.usage_in_bytes, usage_in_bytes", rule: ruleHuge},
	{key: "HugePages_Surp", value: func(m memory) uint64 { return m.huge.surplus }, level: hugeLevel,
		v2: "hugetlb.<size>.max", v1: "hugetlb.<size>.limit_in_bytes", rule: ruleHuge},
	{key: "Hugetlb", value: func(m memory) uint64 { return m.huge.bytes >> 10 }, level: hugeLevel,
		v2: "hugetlb.<size>.max", v1: "hugetlb.<size>.limit_in_bytes", rule: ruleHuge},
}

// directMapRow is the row of every DirectMap* key, of which each architecture has its own.
var directMapRow = meminfoRow{key: "DirectMap", value: zero, rule: "how the machine's kernel maps its memory"}

var meminfoIndex = func() map[string]int {
	index := make(map[string]int, len(meminfoRows))
	for i := range meminfoRows {
		index[meminfoRows[i].key] = i
	}
	return index
}()

// A rowCursor finds the rows of keys. Both are in the kernel's order, so most keys are at the cursor.
type rowCursor int

// find is the row of a key, nil if there is none.
func (c *rowCursor) find(key []byte) *meminfoRow {
	i := int(*c)
	if i >= len(meminfoRows) || meminfoRows[i].key != string(key) {
		var ok bool
		if i, ok = meminfoIndex[string(key)]; !ok {
			if bytes.HasPrefix(key, []byte("DirectMap")) {
				return &directMapRow
			}
			return nil
		}
	}
	*c = rowCursor(i + 1)
	return &meminfoRows[i]
}
