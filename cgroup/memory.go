package cgroup

import (
	"bytes"
	"fmt"
	"math"
)

// ReadMemory fills m, whose slices are reused. Usage and statistics are those of the Group's own cgroup or, where the
// memory controller is off there, of the nearest ancestor that has it.
func (g *Group) ReadMemory(m *Memory) error { return g.readMemory(m, nil) }

// ReadMemoryAndEvents is ReadMemory, and fills e with the counters of the cgroup that m has the statistics of: both are in
// memory.stat, which is by far the most expensive file of the controller.
func (g *Group) ReadMemoryAndEvents(m *Memory, e *MemoryEvents) error {
	*e = MemoryEvents{}
	return g.readMemory(m, e)
}

func (g *Group) readMemory(m *Memory, e *MemoryEvents) error {
	*m = Memory{Levels: m.Levels[:0], Hugetlb: m.Hugetlb[:0], Swappiness: -1}
	if err := g.check(); err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	r := memoryReading{s: s, m: m, events: e, room: math.MaxUint64}
	d := g.own[memory]
	for ; d != nil && len(m.Levels) == 0; d = d.parent {
		if err := r.readOwn(g, d); err != nil {
			return err
		}
	}
	for ; d != nil; d = d.parent {
		if last, err := r.readAbove(d); err != nil {
			return err
		} else if last {
			break
		}
	}
	m.bindHidden()
	return g.readHugetlb(s, m)
}

// bindHidden puts a limit of a level that is not mounted here, which v1 tells of, on the Group's own.
func (m *Memory) bindHidden() {
	hidden := m.Stat.HierarchicalLimit
	if hidden == 0 || len(m.Levels) == 0 {
		return
	}
	for i := range m.Levels {
		if m.Levels[i].Limit <= hidden {
			return
		}
	}
	if hidden < v1Unlimited {
		m.Levels[0].Limit = hidden
	}
}

// memoryReading is one reading of the memory controller, level by level from the Group's own on.
type memoryReading struct {
	s      *scratch
	m      *Memory
	events *MemoryEvents // nil: not wanted
	stat   memoryStatText
	room   uint64 // the least that the levels so far leave, with what can be reclaimed
}

// readOwn reads the level that usage and statistics are of, unless the controller is off there.
func (r *memoryReading) readOwn(g *Group, d *dir) (err error) {
	level := MemoryLevel{Path: d.cgroup()}
	var ok bool
	if level.Usage, ok, err = d.number(memoryUsage, r.s, parseNumber); !ok {
		if err == nil && d.version == V1 {
			// No v1 cgroup is without it, but one that is being made or removed.
			err = fmt.Errorf("%w: %s", ErrGone, d.path)
		}
		return err
	}
	if err := r.readStat(d, &level); err != nil {
		return err
	}
	if level.Limit, ok, err = r.limit(d, memoryLimit, r.stat.memory); !ok {
		return err
	}
	if level.SwapUsage, level.HasSwap, err = d.number(swapUsage, r.s, parseNumber); err != nil {
		return err
	}
	if level.HasSwap {
		if level.SwapLimit, level.HasSwap, err = r.limit(d, swapLimit, r.stat.memorySwap); err != nil {
			return err
		}
	}
	if level.Limit != Unlimited {
		r.room = sub(add(level.Limit, level.Reclaimable), level.Usage)
	}
	if d.version == V1 {
		if r.m.Stat.KmemUsage, err = d.optional(kmemUsage, r.s); err != nil {
			return err
		}
		if r.m.Swappiness, err = g.readSwappiness(d, r.s); err != nil {
			return err
		}
	}
	r.m.Version = d.version
	r.m.Levels = append(r.m.Levels, level)
	return nil
}

// readStat reads memory.stat of the Group's own level.
func (r *memoryReading) readStat(d *dir, level *MemoryLevel) error {
	text, err := d.read(memoryStat, r.s)
	if err == errMissing {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.stat.parse(text, d.version); err != nil {
		return d.wrap("parse", memoryStat, err)
	}
	r.m.Stat = r.stat.MemoryStat
	level.Reclaimable = r.stat.reclaimable()
	if e := r.events; e != nil {
		e.Version, e.Path = d.version, d.cgroup()
		if err := e.parse(text); err != nil {
			return d.wrap("parse", memoryStat, err)
		}
	}
	return nil
}

// limit reads a limit of the Group's own level. smallest is what memory.stat of v1 says of the whole path, 0 where it does
// not: where that is none, or there is no other level, it is the limit.
func (r *memoryReading) limit(d *dir, k kind, smallest uint64) (n uint64, ok bool, err error) {
	if smallest >= v1Unlimited {
		return Unlimited, true, nil
	}
	if smallest > 0 && d.parent == nil {
		return smallest, true, nil
	}
	return d.number(k, r.s, parseLimit)
}

// readSwappiness is memory.swappiness, -1 without one. It may be as old as recheck.
func (g *Group) readSwappiness(d *dir, s *scratch) (int, error) {
	if s.now < g.swappinessUntil.Load() {
		return int(g.swappiness.Load()), nil
	}
	n, ok, err := d.number(swappiness, s, parseNumber)
	if err != nil {
		return -1, err
	}
	value := -1
	if ok {
		value = int(min(n, 200)) // the most that the kernel takes
	}
	g.swappiness.Store(int32(value))
	g.swappinessUntil.Store(s.now + int64(recheck))
	return value, nil
}

// readAbove appends one level above the Group's own to m, or says that it and those above it do not bind.
func (r *memoryReading) readAbove(d *dir) (last bool, err error) {
	own := &r.m.Levels[0]
	if r.stat.memory >= v1Unlimited && (!own.HasSwap || r.stat.memorySwap >= v1Unlimited) {
		level := MemoryLevel{Path: d.cgroup(), Limit: Unlimited, HasSwap: own.HasSwap}
		if level.HasSwap {
			level.SwapLimit = Unlimited
		}
		r.m.Levels = append(r.m.Levels, level)
		return false, nil
	}
	if d.version == V1 && !d.hierarchical.Load() {
		// Before Linux 5.11 the limit of a v1 cgroup could be for its own tasks only. Where one is so, all above are:
		// the flag is inherited.
		on, ok, err := d.number(useHierarchy, r.s, parseNumber)
		if err != nil || ok && on == 0 {
			return true, err
		}
		d.hierarchical.Store(true)
	}
	level, ok, err := d.memoryAbove(r.s, r.room)
	if !ok || err != nil {
		return false, err
	}
	if level.Limit != Unlimited {
		r.room = min(r.room, sub(add(level.Limit, level.Reclaimable), level.Usage))
	}
	r.m.Levels = append(r.m.Levels, level)
	return false, nil
}

// memoryStatText is what memory.stat says. The limits are the smallest of the path, of memory and of memory and swap;
// only v1 has them, and they are 0 where it does not.
type memoryStatText struct {
	MemoryStat
	memory, memorySwap uint64
}

func (st *memoryStatText) reclaimable() uint64 {
	return add(add(st.ActiveFile, st.InactiveFile), st.SlabReclaimable)
}

// parse reads memory.stat, skipping keys that there is no field for. It stops behind the last that it needs: the events of
// v2, and what follows the last of v1's LRU lists.
func (st *memoryStatText) parse(text []byte, version Version) error {
	if version == V1 {
		text = hierarchicalPart(text)
	}
	for len(text) > 0 {
		key, n, ok, rest := nextNumber(text)
		text = rest
		var dst *uint64
		if version == V2 {
			if isFirstEvent(key) {
				break
			}
			dst = st.v2Field(key)
		} else {
			dst = st.v1Field(key)
		}
		if dst == nil {
			continue
		}
		if !ok {
			return errNoNumber(key)
		}
		*dst = n
		if version == V1 && dst == &st.Unevictable {
			break
		}
	}
	st.HierarchicalLimit = st.memory
	return nil
}

// hierarchicalPart is the part of v1's memory.stat that counts what is below the cgroup, too.
func hierarchicalPart(text []byte) []byte {
	if start := bytes.Index(text, []byte("hierarchical_memory_limit ")); start > 0 {
		return text[start:]
	}
	return text
}

// isFirstEvent says that a key is where the events begin that v2's memory.stat ends with.
func isFirstEvent(key []byte) bool {
	return bytes.HasPrefix(key, []byte("workingset_")) || string(key) == "pgfault"
}

// v2Field is the field of a key of cgroup v2's memory.stat, nil for a key without one.
func (s *MemoryStat) v2Field(key []byte) *uint64 {
	switch string(key) {
	case "anon":
		return &s.Anon
	case "file":
		return &s.File
	case "shmem":
		return &s.Shmem
	case "file_mapped":
		return &s.FileMapped
	case "file_dirty":
		return &s.FileDirty
	case "file_writeback":
		return &s.FileWriteback
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_file":
		return &s.InactiveFile
	case "active_file":
		return &s.ActiveFile
	case "unevictable":
		return &s.Unevictable
	case "slab":
		return &s.Slab
	case "slab_reclaimable":
		return &s.SlabReclaimable
	case "slab_unreclaimable":
		return &s.SlabUnreclaimable
	case "kernel_stack":
		return &s.KernelStack
	case "pagetables":
		return &s.PageTables
	case "sec_pagetables":
		return &s.SecPageTables
	case "percpu":
		return &s.Percpu
	case "vmalloc":
		return &s.Vmalloc
	case "swapcached":
		return &s.SwapCached
	case "zswap":
		return &s.Zswap
	case "zswapped":
		return &s.Zswapped
	case "anon_thp":
		return &s.AnonTHP
	case "file_thp":
		return &s.FileTHP
	case "shmem_thp":
		return &s.ShmemTHP
	}
	return nil
}

// v1Field is the field of a hierarchical counter of cgroup v1's memory.stat.
func (s *memoryStatText) v1Field(key []byte) *uint64 {
	switch string(key) {
	case "hierarchical_memory_limit":
		return &s.memory
	case "hierarchical_memsw_limit":
		return &s.memorySwap
	}
	key, total := bytes.CutPrefix(key, []byte("total_"))
	if !total {
		return nil
	}
	switch string(key) {
	case "cache":
		return &s.File
	case "rss":
		return &s.Anon
	case "rss_huge":
		return &s.AnonTHP
	case "mapped_file":
		return &s.FileMapped
	case "dirty":
		return &s.FileDirty
	case "writeback":
		return &s.FileWriteback
	case "shmem", "swapcached", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable":
		return s.v2Field(key) // the same name and meaning
	}
	return nil
}
