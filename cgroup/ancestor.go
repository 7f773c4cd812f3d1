package cgroup

import "sync"

// ancestor is what the Groups below a cgroup share of it: its numbers, for the time that FS.SetMaxAge allows.
type ancestor struct {
	mu     sync.Mutex
	memory struct {
		shared
		level MemoryLevel
		stat  bool // memory.stat was read
	}
	cpu struct {
		shared
		level CPULevel
	}
}

// shared says when something was read, and whether the controller is on there.
type shared struct {
	read bool
	at   int64 // as scratch.now
	on   bool
}

// fresh says that it need not be read again.
func (c *shared) fresh(now, maxAge int64) bool { return c.read && now-c.at < maxAge }

// memoryAbove is the level of a cgroup above a Group's own; ok is false where the controller is off. Its Reclaimable is
// only asked for where the level's free memory is below room: else it cannot be the one that binds.
func (d *dir) memoryAbove(s *scratch, room uint64) (level MemoryLevel, ok bool, err error) {
	maxAge := d.fs.maxAge.Load()
	if maxAge == 0 {
		if level, ok, err = d.readMemoryLevel(s); ok && level.wantsStat(room) {
			level.Reclaimable, err = d.readReclaimable(s)
		}
		return level, ok, err
	}
	d.above.mu.Lock()
	defer d.above.mu.Unlock()
	m := &d.above.memory
	if !m.fresh(s.now, maxAge) {
		m.read, m.stat = false, false
		if m.level, m.on, err = d.readMemoryLevel(s); err != nil {
			return level, false, err
		}
		m.read, m.at = true, s.now
	}
	if m.on && !m.stat && m.level.wantsStat(room) {
		if m.level.Reclaimable, err = d.readReclaimable(s); err != nil {
			return level, false, err
		}
		m.stat = true
	}
	return m.level, m.on, nil
}

// wantsStat says that what can be reclaimed may matter where the levels below leave room.
func (l *MemoryLevel) wantsStat(room uint64) bool {
	return l.Limit != Unlimited && sub(l.Limit, l.Usage) < room
}

// readMemoryLevel reads limits and usage, the latter where there is a limit.
func (d *dir) readMemoryLevel(s *scratch) (level MemoryLevel, ok bool, err error) {
	level.Path = d.cgroup()
	if level.Limit, ok, err = d.number(memoryLimit, s, parseLimit); !ok {
		return level, false, err
	}
	if level.SwapLimit, level.HasSwap, err = d.number(swapLimit, s, parseLimit); err != nil {
		return level, false, err
	}
	if level.Limit != Unlimited {
		if level.Usage, err = d.optional(memoryUsage, s); err != nil {
			return level, false, err
		}
	}
	if d.version == V2 && level.HasSwap && level.SwapLimit != Unlimited {
		if level.SwapUsage, err = d.optional(swapUsage, s); err != nil {
			return level, false, err
		}
	}
	return level, true, nil
}

func (d *dir) readReclaimable(s *scratch) (uint64, error) {
	text, err := d.read(memoryStat, s)
	if err == errMissing {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var stat memoryStatText
	if err := stat.parse(text, d.version); err != nil {
		return 0, d.wrap("parse", memoryStat, err)
	}
	return stat.reclaimable(), nil
}

// quotaAbove is the level of a cgroup above a Group's own; ok is false where the controller is off.
func (d *dir) quotaAbove(s *scratch) (level CPULevel, ok bool, err error) {
	maxAge := d.fs.maxAge.Load()
	if maxAge == 0 {
		return d.readQuota(s)
	}
	d.above.mu.Lock()
	defer d.above.mu.Unlock()
	c := &d.above.cpu
	if !c.fresh(s.now, maxAge) {
		c.read = false
		if c.level, c.on, err = d.readQuota(s); err != nil {
			return level, false, err
		}
		c.read, c.at = true, s.now
	}
	return c.level, c.on, nil
}
