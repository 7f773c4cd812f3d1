package container

import (
	"slices"
	"sync"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/view"
)

// ledger turns a container's CPU usage into the counters of /proc/stat, which tell for each visible CPU how its time
// was spent, and which only grow.
//
// Capacity is what the visible CPUs could have done: their number times the wall time. Usage is what the kernel counted.
// Of the rest, as much as the quota held tasks back is steal, what remains is idle. Closed over the whole life of a
// container that sum could step back: a container is held back on every CPU that it has tasks on, which may be more than
// it sees, and idle time already shown would turn into steal. So each read adds what happened since the last one, and
// what the kernel counts late or in lumps is carried: usage beyond capacity as a debt that idle time pays, throttled time
// beyond the room that was left as steal to come. No thread samples anything.
type ledger struct {
	rec *record
	mu  sync.Mutex // of all but the counts
	// ioMu and eventsMu are of their part of the counts, and held while it is read.
	ioMu, eventsMu sync.Mutex

	close func() error
	users int // containers that have it open; the registry's
}

// record is the state of a ledger: fixed-size numbers only, as it may be a mapped file. Times are in ns.
type record struct {
	head *recordHead
	path []byte // of the cgroup directory, in a file
	rows []row
	// counts have nothing to do with the CPUs, but live as long.
	counts *counts
}

type recordHead struct {
	Magic   uint64
	Rows    uint64 // how many there are in the file
	Visible uint64 // CPUs at the last read; 0: there was none
	Shown   uint64 // rows that ever were visible
	At      uint64 // the last read, CLOCK_BOOTTIME
	// What the kernel had counted by then.
	Usage, User, Nice, System, Throttled uint64
	// Level tells whose Throttled it is: the level that bound then, 0 for none.
	Level uint64
	// Debt is usage beyond capacity, from bursts or from what the kernel adds at the end of a tick.
	Debt uint64
	// Carry is throttled time that did not fit: the kernel adds it at the end of a period.
	Carry uint64
}

// row is one visible CPU: how it spent its time, the physical CPU behind it and what that had used at the last read.
type row struct {
	User, Nice, System, Idle, Steal uint64
	CPU                             uint64
	Base                            cgroup.CPUUsage
}

// ledgerInput is what the kernel counts now.
type ledgerInput struct {
	now       time.Duration // CLOCK_BOOTTIME
	start     time.Duration // of the container
	cpus      []int         // physical CPUs behind the visible ones
	usage     uint64        // ns
	user      uint64        // ns, how usage was spent
	nice      uint64        // ns, a part of user
	system    uint64        // ns
	throttled uint64        // ns, of the level whose quota binds
	period    time.Duration // of that quota; 0 without one
	level     uint64        // a number for that level, see levelID; 0 without one
	// perCPU is the usage on each physical CPU, where the kernel counts it and the visible CPUs are the whole cpuset,
	// so that nothing ran elsewhere.
	perCPU []cgroup.CPUUsage
}

func newRecord(rows int) *record {
	return &record{head: &recordHead{}, rows: make([]row, rows), counts: &counts{}}
}

// io reads a container's block I/O and makes it what to show. One reader at a time: a reading that came late would look
// like a counter that fell.
func (l *ledger) io(g *cgroup.Group, dst *view.IO) error {
	l.ioMu.Lock()
	defer l.ioMu.Unlock()
	err := g.ReadIO(&dst.IO)
	if err == nil && dst.Version != cgroup.V0 {
		l.rec.counts.io(dst)
	}
	return err
}

// memory is io for the counters of memory.stat, with all else that is read of the memory controller.
func (l *ledger) memory(g *cgroup.Group, m *cgroup.Memory, e *cgroup.MemoryEvents) error {
	l.eventsMu.Lock()
	defer l.eventsMu.Unlock()
	err := g.ReadMemoryAndEvents(m, e)
	if err == nil && e.Version != cgroup.V0 {
		l.rec.counts.events(e)
	}
	return err
}

// times advances the ledger to now and fills dst with what to show.
func (l *ledger) times(in *ledgerInput, dst *view.CPUTimes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(in.cpus), len(l.rec.rows))
	h := l.rec.head
	if h.Visible == 0 {
		// The first sight takes all that happened since the start as one interval. A cgroup that is older than its
		// container used more than its capacity; that is nothing to make up for.
		h.Visible, h.At, h.Level = uint64(n), uint64(in.start), in.level
		l.place(in.cpus[:n], nil)
		l.advance(in)
		h.Debt = 0
	} else {
		l.advance(in)
	}
	l.place(in.cpus[:n], in.perCPU)
	l.fill(n, dst)
}

// show fills dst with what was shown last, for n visible CPUs.
func (l *ledger) show(n int, dst *view.CPUTimes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill(min(n, len(l.rec.rows)), dst)
}

// fill is show with l.mu held.
func (l *ledger) fill(n int, dst *view.CPUTimes) {
	dst.Rows = slices.Grow(dst.Rows[:0], n)[:n]
	dst.Total = view.CPURow{}
	for i := range l.rec.rows[:l.rec.head.Shown] {
		t := l.rec.rows[i].ticks()
		if i < n {
			dst.Rows[i] = t
		}
		dst.Total.User += t.User
		dst.Total.Nice += t.Nice
		dst.Total.System += t.System
		dst.Total.Idle += t.Idle
		dst.Total.Steal += t.Steal
	}
}

// advance adds what happened since the last read to the CPUs that were visible then.
func (l *ledger) advance(in *ledgerInput) {
	h := l.rec.head
	rows := l.rec.rows[:h.Visible]
	wall := sub(uint64(max(in.now, 0)), h.At)
	// The base moves before the rows: a crash in the midst of this loses an interval rather than count it twice.
	h.At = max(h.At, uint64(max(in.now, 0)))
	if in.level != h.Level {
		// What another level, or this one before it was unlimited for a while, held back is not of this interval.
		h.Level, h.Throttled, h.Carry = in.level, in.throttled, 0
	}
	used, throttled := since(&h.Usage, in.usage), since(&h.Throttled, in.throttled)
	user, system := split(used, since(&h.User, in.user), since(&h.System, in.system), in)
	grown := since(&h.Nice, in.nice)
	nice := min(grown, user)
	h.Nice -= grown - nice // what did not fit, as some kernels count it in ticks, is of the next interval

	capacity := wall * h.Visible
	room := sub(capacity, used)
	paid := min(h.Debt, room)
	h.Debt = h.Debt - paid + sub(used, capacity)
	room -= paid
	held := throttled + h.Carry
	steal := min(held, room)
	h.Carry = min(held-steal, uint64(in.period)*h.Visible)
	spread(rows, wall, user, system, steal, room-steal, in.perCPU)
	for i := range rows {
		// Moved from user, where it was counted: as much of it as this row has.
		moved := min(share(nice, len(rows), i), rows[i].User)
		rows[i].User -= moved
		rows[i].Nice += moved
	}
}

// split shares usage between user and system in the proportion in which these grew, as the kernel does itself. Where they
// are sampled and did not grow, the proportion is that of all time.
func split(used, user, system uint64, in *ledgerInput) (u, s uint64) {
	if user+system < uint64(time.Second/view.Hz) {
		user, system = in.user, in.system
	}
	if user+system == 0 {
		return used, 0
	}
	u = min(uint64(float64(used)*(float64(user)/float64(user+system))+0.5), used)
	return u, used - u
}

// levelID is a number for the cgroup that a quota is from.
func levelID(path string) uint64 {
	id := uint64(14695981039346656037) // FNV-1a
	for i := range len(path) {
		id = (id ^ uint64(path[i])) * 1099511628211
	}
	return max(id, 1)
}

// since is what a counter grew by, and moves its base on. One that is a little behind was read before another reader's
// was; one that is far behind is another one, of a cgroup made anew, and starts here.
func since(base *uint64, now uint64) uint64 {
	if now < *base {
		if *base-now > uint64(time.Second) {
			*base = now
		}
		return 0
	}
	grown := now - *base
	*base = now
	return grown
}

// spread shares an interval among the rows: usage by the physical CPU where that is known and evenly where not, steal and
// idle time by the room that a row has left.
func spread(rows []row, wall, user, system, steal, idle uint64, perCPU []cgroup.CPUUsage) {
	n := len(rows)
	free := uint64(0) // what the rows have left of the wall time
	used := func(i int) (u, s uint64) {
		if perCPU == nil {
			return 0, 0
		}
		return rows[i].usedSince(perCPU, wall)
	}
	var knownUser, knownSystem uint64
	for i := range rows {
		u, s := used(i)
		knownUser, knownSystem = knownUser+u, knownSystem+s
	}
	if knownUser > user || knownSystem > system {
		used = func(int) (u, s uint64) { return 0, 0 } // the two were not read at one moment: share evenly
		knownUser, knownSystem = 0, 0
	}
	part := func(i int) (u, s uint64) {
		u, s = used(i)
		return u + share(user-knownUser, n, i), s + share(system-knownSystem, n, i)
	}
	for i := range rows {
		u, s := part(i)
		free += sub(wall, u+s)
	}
	for i := range rows {
		u, s := part(i)
		weight := 1 / float64(n)
		if free > 0 {
			weight = float64(sub(wall, u+s)) / float64(free)
		}
		r := &rows[i]
		r.User += u
		r.System += s
		r.Steal += uint64(float64(steal) * weight)
		r.Idle += uint64(float64(idle) * weight)
	}
}

// place puts the rows on the CPUs that are visible from now on.
func (l *ledger) place(cpus []int, perCPU []cgroup.CPUUsage) {
	h := l.rec.head
	h.Visible = uint64(len(cpus))
	h.Shown = max(h.Shown, h.Visible)
	for i, cpu := range cpus {
		r := &l.rec.rows[i]
		r.CPU, r.Base = uint64(cpu), cgroup.CPUUsage{}
		if cpu < len(perCPU) {
			r.Base = perCPU[cpu]
		}
	}
}

// usedSince is what the row's CPU used since the last read, at most the wall time.
func (r *row) usedSince(perCPU []cgroup.CPUUsage, wall uint64) (user, system uint64) {
	if r.CPU >= uint64(len(perCPU)) {
		return 0, 0
	}
	now := perCPU[r.CPU]
	user = min(sub(now.User, r.Base.User), wall)
	return user, min(sub(now.System, r.Base.System), wall-user)
}

func (r *row) ticks() view.CPURow {
	const tick = uint64(time.Second / view.Hz)
	return view.CPURow{
		User: r.User / tick, Nice: r.Nice / tick, System: r.System / tick, Idle: r.Idle / tick, Steal: r.Steal / tick,
	}
}

// share is part i of total in n parts whose sum is total.
func share(total uint64, n, i int) uint64 {
	s := total / uint64(n)
	if uint64(i) < total%uint64(n) {
		s++
	}
	return s
}

// sub is a - b, 0 where that would be negative.
func sub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
