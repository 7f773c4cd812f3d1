package cgroup

import (
	"bytes"
	"fmt"
)

// memoryFiles are the files of the memory controller along a Group's path.
type memoryFiles struct {
	version Version
	levels  []memoryLevelFiles
}

type memoryLevelFiles struct {
	path                                     string
	limit, usage, stat, swapLimit, swapUsage *file
	hierarchy, swappiness, kmem              *file // v1 only
}

func newMemoryFiles(levels []level, version Version) memoryFiles {
	m := memoryFiles{version: version}
	for _, l := range levels {
		if version == V2 {
			m.levels = append(m.levels, memoryLevelFiles{
				path:      l.path,
				limit:     l.dir.file("memory.max"),
				usage:     l.dir.file("memory.current"),
				stat:      l.dir.file("memory.stat"),
				swapLimit: l.dir.file("memory.swap.max"),
				swapUsage: l.dir.file("memory.swap.current"),
			})
			continue
		}
		m.levels = append(m.levels, memoryLevelFiles{
			path:       l.path,
			limit:      l.dir.file("memory.limit_in_bytes"),
			usage:      l.dir.file("memory.usage_in_bytes"),
			stat:       l.dir.file("memory.stat"),
			swapLimit:  l.dir.file("memory.memsw.limit_in_bytes"),
			swapUsage:  l.dir.file("memory.memsw.usage_in_bytes"),
			hierarchy:  l.dir.file("memory.use_hierarchy"),
			swappiness: l.dir.file("memory.swappiness"),
			kmem:       l.dir.file("memory.kmem.usage_in_bytes"),
		})
	}
	return m
}

// ReadMemory fills m, whose slices are reused. Usage and statistics are those of the Group's own cgroup or, where the
// memory controller is off there, of the nearest ancestor that has it.
func (g *Group) ReadMemory(m *Memory) error {
	*m = Memory{Levels: m.Levels[:0], Hugetlb: m.Hugetlb[:0], Swappiness: -1}
	if err := g.check(); err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	for i := range g.memory.levels {
		last, err := g.memory.readLevel(&g.memory.levels[i], s, m)
		if err != nil {
			return err
		}
		if last {
			break
		}
	}
	m.bindHidden()
	for i := range g.hugetlb {
		if err := g.hugetlb[i].read(s, m); err != nil {
			return err
		}
	}
	return nil
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

// readLevel appends one level to m, or says that it and those above it do not bind.
func (f *memoryFiles) readLevel(l *memoryLevelFiles, s *scratch, m *Memory) (last bool, err error) {
	own := len(m.Levels) == 0
	level := MemoryLevel{Path: l.path}
	var ok bool
	if own {
		if level.Usage, ok, err = parse(l.usage, s, parseNumber); !ok {
			if err == nil && f.version == V1 {
				// No v1 cgroup is without it, but one that is being made or removed.
				err = fmt.Errorf("%w: %s", ErrGone, l.path)
			}
			return false, err
		}
	} else if f.version == V1 {
		// Before Linux 5.11 the limit of a v1 cgroup could be for its own tasks only. Where one is so, all above are:
		// the flag is inherited.
		if on, ok, err := parse(l.hierarchy, s, parseNumber); err != nil || ok && on == 0 {
			return true, err
		}
	}
	if level.Limit, ok, err = parse(l.limit, s, parseLimit); !ok {
		return false, err
	}
	if level.SwapLimit, level.HasSwap, err = parse(l.swapLimit, s, parseLimit); err != nil {
		return false, err
	}
	if level.HasSwap && (own || level.SwapLimit != Unlimited || level.Limit != Unlimited) {
		if level.SwapUsage, err = optional(l.swapUsage, s, parseNumber); err != nil {
			return false, err
		}
	}
	if !own && level.Limit != Unlimited {
		if level.Usage, err = optional(l.usage, s, parseNumber); err != nil {
			return false, err
		}
	}
	if own || level.Limit != Unlimited {
		stat, err := f.readStat(l, s)
		if err != nil {
			return false, err
		}
		level.Reclaimable = add(add(stat.ActiveFile, stat.InactiveFile), stat.SlabReclaimable)
		if own {
			m.Version = f.version
			m.Stat = stat
			if err := f.readOwn(l, s, m); err != nil {
				return false, err
			}
		}
	}
	m.Levels = append(m.Levels, level)
	return false, nil
}

// readStat reads memory.stat of one level.
func (f *memoryFiles) readStat(l *memoryLevelFiles, s *scratch) (stat MemoryStat, err error) {
	text, err := l.stat.read(s)
	if err == errMissing {
		return stat, nil
	}
	if err == nil {
		if err = parseMemoryStat(&stat, text, f.version); err != nil {
			err = l.stat.wrap("parse", err)
		}
	}
	return stat, err
}

// readOwn reads what v1 has outside of memory.stat.
func (f *memoryFiles) readOwn(l *memoryLevelFiles, s *scratch, m *Memory) error {
	if f.version != V1 {
		return nil
	}
	swappiness, ok, err := parse(l.swappiness, s, parseNumber)
	if err != nil {
		return err
	}
	if ok {
		m.Swappiness = int(min(swappiness, 200)) // 200 is the most that the kernel takes
	}
	m.Stat.KmemUsage, err = optional(l.kmem, s, parseNumber)
	return err
}

// parseMemoryStat reads memory.stat into st, skipping keys that st has no field for.
func parseMemoryStat(st *MemoryStat, text []byte, version Version) error {
	for len(text) > 0 {
		var key, value []byte
		key, value, text = nextField(text)
		var dst *uint64
		if version == V2 {
			dst = st.v2Field(key)
		} else {
			dst = st.v1Field(key)
		}
		if dst == nil {
			continue
		}
		if err := setField(dst, key, value); err != nil {
			return err
		}
	}
	return nil
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
func (s *MemoryStat) v1Field(key []byte) *uint64 {
	if string(key) == "hierarchical_memory_limit" {
		return &s.HierarchicalLimit
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
