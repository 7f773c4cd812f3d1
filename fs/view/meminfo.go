package view

import (
	"bytes"
	"strconv"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// Meminfo renders /proc/meminfo: the lines that meminfoRows knows with the container's numbers, every other line as the
// machine's. It needs NeedMeminfo and, for CommitLimit, NeedOvercommit.
func Meminfo(dst []byte, h *host.Snapshot, c *Container) []byte {
	if !hasMemory(c) && !noSwap(c) {
		return append(dst, h.Meminfo...)
	}
	m := newMemory(h, c)
	var rows rowCursor
	for rest := h.Meminfo; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		key := meminfoKey(line)
		if row := rows.find(key); row != nil && row.applies(c) {
			dst = appendMeminfo(dst, line, key, row.number(m, c))
		} else {
			dst = append(dst, line...)
		}
	}
	return dst
}

func noSwap(c *Container) bool { return c != nil && c.Policy.NoSwap }

func hasMemory(c *Container) bool { return c != nil && c.Memory != nil && len(c.Memory.Levels) > 0 }

// meminfoEnd is the column where the kernel's numbers end, unless they are too long for it: every line of
// fs/proc/meminfo.c is a name padded to 16 columns and a number of 8, or as many columns in another split.
const meminfoEnd = 24

// meminfoKey is what stands before the colon of a "Key:   number[ kB]" line, nil if there is none.
func meminfoKey(line []byte) []byte {
	if i := bytes.IndexByte(line, ':'); i >= 0 {
		return line[:i]
	}
	return nil
}

// meminfoStart is where the number of the line of a key starts.
func meminfoStart(line, key []byte) int {
	start := len(key) + 1
	for start < len(line) && line[start] == ' ' {
		start++
	}
	return start
}

// appendMeminfo appends the line of a key with another number, right-aligned in the field of the old one. A line without
// a number stays.
func appendMeminfo(dst, line, key []byte, value uint64) []byte {
	start := meminfoStart(line, key)
	end := start
	for end < len(line) && isDigit(line[end]) {
		end++
	}
	if end == start {
		return append(dst, line...)
	}
	tail := line[end:]
	var buf [20]byte
	digits := strconv.AppendUint(buf[:0], value, 10)
	// The first column that a number may take which is too long for the field of the old one.
	first := max(len(key)+2, 16)
	if end > meminfoEnd {
		end, first = meminfoEnd, start
	}
	column := max(end-len(digits), first)
	dst = append(dst, line[:min(column, start)]...)
	for range column - start {
		dst = append(dst, ' ')
	}
	dst = append(dst, digits...)
	return append(dst, tail...)
}

// hostMemory are the numbers of the machine's /proc/meminfo, or a node's, that a container's are held against, in bytes.
type hostMemory struct {
	total, free, available uint64
	swapTotal, swapFree    uint64
	hugeSize, hugetlb      uint64
	// In pages of hugeSize.
	hugeTotal, hugeFree, hugeReserved, hugeSurplus uint64
}

func parseHostMemory(meminfo []byte) (m hostMemory) {
	m.available = cgroup.Unlimited // a kernel before 3.14 does not estimate it, and sets no bound
	for len(meminfo) > 0 {
		var line []byte
		line, meminfo = cutLine(meminfo)
		_, line = cutNode(line)
		key := meminfoKey(line)
		to, unit := &m.total, uint64(1024)
		switch string(key) {
		case "MemTotal":
		case "MemFree":
			to = &m.free
		case "MemAvailable":
			to = &m.available
		case "SwapTotal":
			to = &m.swapTotal
		case "SwapFree":
			to = &m.swapFree
		case "Hugepagesize":
			to = &m.hugeSize
		case "Hugetlb":
			to = &m.hugetlb
		case "HugePages_Total":
			to, unit = &m.hugeTotal, 1
		case "HugePages_Free":
			to, unit = &m.hugeFree, 1
		case "HugePages_Rsvd":
			to, unit = &m.hugeReserved, 1
		case "HugePages_Surp":
			to, unit = &m.hugeSurplus, 1
		default:
			continue
		}
		n, digits := number(line[meminfoStart(line, key):])
		switch {
		case digits == 0:
		case unit == 1:
			*to = n
		default:
			*to = min(n, 1<<50) * unit
		}
	}
	return m
}

// A memory is what /proc/meminfo is rendered from: the numbers of several sources held against each other, in bytes. It
// is passed by value, so that the functions of meminfoRows do not make it escape to the heap.
type memory struct {
	stat *cgroup.MemoryStat

	total, free, available         bound
	cached, reclaimable, unreclaim uint64 // page cache; slab of both kinds
	swapTotal, swapFree            bound
	swapUsed                       uint64
	swapAccounted                  bool // by the kernel, at any level
	commitLimit                    uint64
	huge                           hugePages
}

// A bound is a number that the hierarchy decides, and the index of the level that does.
type bound struct {
	bytes uint64
	level int
}

// Levels that are none of the memory hierarchy: the machine itself, and the one that hugePages.path names.
const (
	machine = -1 - iota
	hugetlb
)

// lower takes a smaller number over.
func (b *bound) lower(bytes uint64, level int) {
	if bytes < b.bytes {
		*b = bound{bytes, level}
	}
}

// newMemory computes a container's memory; it is zero where the container has no memory cgroup.
func newMemory(h *host.Snapshot, c *Container) (m memory) {
	if !hasMemory(c) {
		return m
	}
	hm := parseHostMemory(h.Meminfo)
	m.stat = &c.Memory.Stat
	m.setRoom(&hm, c.Memory.Levels)

	m.setCache(c.Memory.Version)
	m.setSwap(&hm, c)
	m.commitLimit = commitLimit(m.total.bytes, m.swapTotal.bytes, h.Overcommit)
	m.huge = newHugePages(&hm, c.Memory.Hugetlb)
	return m
}

// setRoom sets total, free and available: of each the smallest along the path.
func (m *memory) setRoom(h *hostMemory, levels []cgroup.MemoryLevel) {
	m.total = bound{h.total, machine}
	m.free = bound{min(h.free, h.total), machine}
	m.available = bound{min(h.available, h.total), machine}
	limited := false
	for i := range levels {
		l := &levels[i]
		if l.Limit == cgroup.Unlimited {
			continue
		}
		limited = true
		m.total.lower(l.Limit, i)
		m.free.lower(sub(l.Limit, l.Usage), i)
		m.available.lower(sub(add(l.Limit, l.Reclaimable), l.Usage), i)
	}
	if !limited {
		return
	}
	// Reclaimable may be larger than Usage for a moment, for the kernel counts them apart; and the machine's own
	// MemAvailable may be below its MemFree, for it leaves out the reserves.
	m.available.lower(m.total.bytes, m.total.level)
	m.free.lower(h.available, machine)
}

// setCache sets what is shown as page cache and slab. It must fit into what is not free: readers subtract it from that.
func (m *memory) setCache(version cgroup.Version) {
	busy := sub(m.total.bytes, m.free.bytes)
	m.cached = min(m.stat.File, busy)
	m.reclaimable = min(m.stat.SlabReclaimable, busy-m.cached)
	m.unreclaim = min(unreclaimable(m.stat, version), m.total.bytes-m.reclaimable)
}

// unreclaimable is the kernel memory that can't be reclaimed: v1 counts all kernel memory in one.
func unreclaimable(s *cgroup.MemoryStat, version cgroup.Version) uint64 {
	if version == cgroup.V1 {
		return s.KmemUsage
	}
	return s.SlabUnreclaimable
}

// setSwap sets the swap: the smallest limit along the path, of which the container's usage is not free.
func (m *memory) setSwap(h *hostMemory, c *Container) {
	m.swapTotal.level, m.swapFree.level = machine, machine
	levels := c.Memory.Levels
	for i := range levels {
		m.swapAccounted = m.swapAccounted || levels[i].HasSwap
	}
	if c.Policy.NoSwap || !m.swapAccounted {
		return
	}
	m.swapTotal.bytes = h.swapTotal
	if c.Memory.Version == cgroup.V1 {
		m.setSwapV1(h, c.Memory)
	} else {
		m.swapUsed = levels[0].SwapUsage
		for i := range levels {
			if levels[i].HasSwap {
				m.swapTotal.lower(levels[i].SwapLimit, i)
			}
		}
	}
	m.swapUsed = min(m.swapUsed, m.swapTotal.bytes)
	m.swapFree = m.swapTotal
	m.swapFree.lower(m.swapTotal.bytes-m.swapUsed, 0)
	m.swapFree.lower(h.swapFree, machine)
	if c.Memory.Version == cgroup.V1 {
		return // memsw's room is not one of swap alone
	}
	for i := range levels {
		if l := &levels[i]; l.HasSwap && l.SwapLimit != cgroup.Unlimited {
			m.swapFree.lower(sub(l.SwapLimit, l.SwapUsage), i)
		}
	}
}

// setSwapV1 sets swapTotal and swapUsed from memory.memsw.*, which count memory and swap together. Memory and swap
// shown make up the smallest memsw limit: what is not memory can be swap, whichever level either limit is set at.
func (m *memory) setSwapV1(h *hostMemory, mem *cgroup.Memory) {
	if own := &mem.Levels[0]; own.HasSwap {
		m.swapUsed = sub(own.SwapUsage, own.Usage)
	}
	if mem.Swappiness == 0 && m.swapUsed == 0 {
		m.swapTotal = bound{0, 0}
		return
	}
	for i := range mem.Levels {
		if l := &mem.Levels[i]; l.HasSwap && l.SwapLimit != cgroup.Unlimited {
			m.swapTotal.lower(sub(l.SwapLimit, m.total.bytes), i)
		}
	}
	m.swapTotal.bytes = max(m.swapTotal.bytes, min(m.swapUsed, h.swapTotal))
}

// commitLimit is vm_commit_limit of mm/util.c, in bytes.
func commitLimit(total, swap uint64, o host.Overcommit) uint64 {
	if o.Kbytes != 0 {
		return min(o.Kbytes, 1<<50)<<10 + swap
	}
	// The kernel counts in pages; a ratio above 1000 % is as good as none.
	const page = 4096
	return total/page*min(o.Ratio, 1000)/100*page + swap
}

// hugePages are the pages of the default huge page size, that size, and the size of the pages of all sizes, in bytes.
type hugePages struct {
	total, free, reserved, surplus uint64
	size, bytes                    uint64
	path                           string // of the level that limits the default size
	level                          int    // hugetlb, or machine
}

// newHugePages takes the container's numbers where the hugetlb controller limits the default size, else the machine's.
func newHugePages(h *hostMemory, limits []cgroup.Hugetlb) hugePages {
	p := hugePages{total: h.hugeTotal, free: h.hugeFree, reserved: h.hugeReserved, surplus: h.hugeSurplus, size: h.hugeSize,
		level: machine}
	others, othersLimited := uint64(0), false
	for i := range limits {
		l := &limits[i]
		if l.PageSize == 0 || l.PageSize != h.hugeSize {
			others, othersLimited = add(others, l.Limit), true
			continue
		}
		pages := l.Limit / l.PageSize
		used := l.Usage / l.PageSize
		p.total = min(p.total, pages)
		p.free = min(p.free, sub(pages, used))
		// rsvd counts a reserved page also when it is in use (Documentation/admin-guide/cgroup-v2.rst), the kernel's
		// HugePages_Rsvd only until then.
		p.reserved = min(p.reserved, sub(l.Reserved/l.PageSize, used), p.free)
		p.surplus = 0 // the machine's, and not told per cgroup
		p.level, p.path = hugetlb, l.Path
	}
	rest := sub(h.hugetlb, mul(h.hugeTotal, h.hugeSize)) // of the other sizes
	if othersLimited {
		rest = min(rest, others)
	}
	p.bytes = min(add(mul(p.total, h.hugeSize), rest), h.hugetlb)
	return p
}
