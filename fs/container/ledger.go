package container

import (
	"slices"
	"sync"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/view"
)

// Ledger turns a container's CPU usage into the counters of /proc/stat, which tell for each visible CPU how its time
// was spent, and which only grow.
//
// Capacity is what the visible CPUs could have done: their number times the wall time. Usage is what the kernel counted.
// Of the rest, as much as the quota held tasks back is steal, what remains is idle. Closed over the whole life of a
// container that sum could step back: a throttled container on a large machine is held back on more CPUs than it sees,
// which would turn idle time already shown into steal. So time is cut into windows. Within a window the sums are a
// closed form of what the kernel counted since its start; a window is closed, and its result kept, when it is older than
// windowLength or when the visible CPUs change. No thread samples anything.
//
// The record may lie in a file that outlives the process, see openLedger.
type Ledger struct {
	mu  sync.Mutex
	rec *record
	// scratch is the current window's share of each row.
	scratch []row
	close   func() error
}

// windowLength is long against the quota's period, as the kernel adds throttled time when a period ends, and short
// against the intervals at which people read.
const windowLength = time.Second

// carryLimit bounds the throttled time, per visible CPU, that may move into the next window: a period that ended just
// before the window did.
const carryLimit = uint64(100 * time.Millisecond)

// record is the state of a ledger: fixed-size numbers only, as it may be a mapped file. Times are in ns.
type record struct {
	head *recordHead
	rows []row
}

type recordHead struct {
	Magic   uint64
	Visible uint64 // CPUs in the current window; 0: nothing was seen yet
	Shown   uint64 // rows that ever were visible
	At      uint64 // start of the window, CLOCK_BOOTTIME
	// What the kernel had counted at the start of the window.
	User, System, Throttled uint64
	// Debt is usage beyond capacity, from bursts, that later idle time has to make up for.
	Debt uint64
	// Carry is throttled time of the last window that did not fit into it.
	Carry uint64
}

// row is one CPU's time.
type row struct {
	// Kept is the sum of the closed windows, Shown the most that was ever shown.
	Kept, Shown spent
	// CPU is the physical CPU behind the row in the current window, Base its usage at the window's start.
	CPU  uint64
	Base cgroup.CPUUsage
}

type spent struct{ User, System, Idle, Steal uint64 }

// ledgerInput is what the kernel counts now.
type ledgerInput struct {
	now       time.Duration // CLOCK_BOOTTIME
	start     time.Duration // of the container
	cpus      []int         // physical CPUs behind the visible ones
	user      uint64        // ns
	system    uint64        // ns
	throttled uint64        // ns, of the level whose quota binds
	// perCPU is the usage on each physical CPU, where the kernel counts it and the visible CPUs are the whole cpuset,
	// so that nothing ran elsewhere.
	perCPU []cgroup.CPUUsage
}

func newRecord(rows int) *record { return &record{head: &recordHead{}, rows: make([]row, rows)} }

// Times advances the ledger to now and fills dst with what to show.
func (l *Ledger) times(in *ledgerInput, dst *view.CPUTimes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(in.cpus), len(l.rec.rows))
	h := l.rec.head
	if h.Visible == 0 {
		l.open(in, n)
	}
	if in.user < h.User || in.system < h.System || in.throttled < h.Throttled {
		// The kernel's counters started anew (or another level's quota binds now): only differences count.
		h.User, h.System = min(h.User, in.user), min(h.System, in.system)
		h.Throttled = in.throttled
	}
	l.window(in)
	for i := range l.scratch {
		l.rec.rows[i].show(l.scratch[i].Kept)
	}
	if in.now >= time.Duration(h.At)+windowLength || !l.standsOn(in.cpus[:n]) {
		l.closeWindow(in, n)
	}

	dst.Rows = slices.Grow(dst.Rows[:0], n)[:n]
	dst.Total = view.CPURow{}
	for i := range l.rec.rows[:max(int(h.Shown), n)] {
		t := l.rec.rows[i].Shown.ticks()
		if i < n {
			dst.Rows[i] = t
		}
		dst.Total.User += t.User
		dst.Total.System += t.System
		dst.Total.Idle += t.Idle
		dst.Total.Steal += t.Steal
	}
}

// open is the first sight: what happened before is taken as one window since the container's start.
func (l *Ledger) open(in *ledgerInput, n int) {
	h := l.rec.head
	*h = recordHead{Magic: h.Magic, Visible: uint64(n), Shown: uint64(n), At: uint64(in.start)}
	for i, cpu := range in.cpus[:n] {
		l.rec.rows[i] = row{CPU: uint64(cpu)}
	}
	l.window(in)
	l.closeWindow(in, n)
	// A cgroup older than the container's init used more than its capacity; that is nothing to make up for.
	h.Debt = 0
}

// window puts into scratch how each row of the current window spent its time.
func (l *Ledger) window(in *ledgerInput) {
	h := l.rec.head
	n := int(h.Visible)
	l.scratch = slices.Grow(l.scratch[:0], n)[:n]
	wall := uint64(max(in.now-time.Duration(h.At), 0))
	user, system := in.user-h.User, in.system-h.System
	rest := spent{User: user, System: system}
	for i := range l.scratch {
		l.scratch[i] = row{}
		if w := &l.scratch[i].Kept; in.perCPU != nil {
			w.User, w.System = l.rec.rows[i].usedSince(in.perCPU, wall)
			w.User, w.System = min(w.User, rest.User), min(w.System, rest.System)
			rest.User -= w.User
			rest.System -= w.System
		}
	}
	// What is known only as a sum is shared evenly, the remainder by the first rows.
	for i := range l.scratch {
		w := &l.scratch[i].Kept
		w.User += share(rest.User, n, i)
		w.System += share(rest.System, n, i)
	}
	room := sub(wall*uint64(n), user+system)
	room = sub(room, h.Debt)
	steal := min(in.throttled-h.Throttled+h.Carry, room)
	idle := room - steal
	l.spread(wall, steal, idle)
}

// spread shares steal and idle time by the room that each row has left.
func (l *Ledger) spread(wall, steal, idle uint64) {
	n := len(l.scratch)
	var room uint64
	for i := range l.scratch {
		w := &l.scratch[i].Kept
		room += sub(wall, w.User+w.System)
	}
	if room == 0 {
		return
	}
	for i := range l.scratch {
		w := &l.scratch[i].Kept
		part := float64(sub(wall, w.User+w.System)) / float64(room)
		if n == 1 {
			part = 1
		}
		w.Steal = uint64(float64(steal) * part)
		w.Idle = uint64(float64(idle) * part)
	}
}

// closeWindow keeps the window's result and starts the next one, over n CPUs.
func (l *Ledger) closeWindow(in *ledgerInput, n int) {
	h := l.rec.head
	wall := uint64(max(in.now-time.Duration(h.At), 0))
	capacity := wall * h.Visible
	used := in.user - h.User + in.system - h.System
	throttled := in.throttled - h.Throttled + h.Carry
	room := sub(capacity, used)
	// The base moves first: a crash in the midst of this loses a window rather than count it twice.
	h.At = uint64(in.now)
	h.User, h.System, h.Throttled = in.user, in.system, in.throttled
	h.Carry = min(sub(throttled, room), carryLimit*h.Visible)
	h.Debt = sub(h.Debt, room) + sub(used, capacity)
	for i := range l.scratch {
		r := &l.rec.rows[i]
		r.Kept.add(l.scratch[i].Kept)
		r.show(spent{})
	}
	h.Visible = uint64(n)
	h.Shown = max(h.Shown, h.Visible)
	for i, cpu := range in.cpus[:n] {
		r := &l.rec.rows[i]
		r.CPU = uint64(cpu)
		r.Base = cgroup.CPUUsage{}
		if cpu < len(in.perCPU) {
			r.Base = in.perCPU[cpu]
		}
	}
}

// standsOn says whether the window's rows stand on these physical CPUs.
func (l *Ledger) standsOn(cpus []int) bool {
	if int(l.rec.head.Visible) != len(cpus) {
		return false
	}
	for i, cpu := range cpus {
		if l.rec.rows[i].CPU != uint64(cpu) {
			return false
		}
	}
	return true
}

// usedSince is what the row's CPU used since the window began, at most the wall time.
func (r *row) usedSince(perCPU []cgroup.CPUUsage, wall uint64) (user, system uint64) {
	if r.CPU >= uint64(len(perCPU)) {
		return 0, 0
	}
	now := perCPU[r.CPU]
	user = min(sub(now.User, r.Base.User), wall)
	return user, min(sub(now.System, r.Base.System), wall-user)
}

// show raises what is shown to the kept sum and the current window's part; it never lowers it.
func (r *row) show(current spent) {
	r.Shown.User = max(r.Shown.User, r.Kept.User+current.User)
	r.Shown.System = max(r.Shown.System, r.Kept.System+current.System)
	r.Shown.Idle = max(r.Shown.Idle, r.Kept.Idle+current.Idle)
	r.Shown.Steal = max(r.Shown.Steal, r.Kept.Steal+current.Steal)
}

func (s *spent) add(o spent) {
	s.User += o.User
	s.System += o.System
	s.Idle += o.Idle
	s.Steal += o.Steal
}

func (s spent) ticks() view.CPURow {
	const tick = uint64(time.Second / view.Hz)
	return view.CPURow{User: s.User / tick, System: s.System / tick, Idle: s.Idle / tick, Steal: s.Steal / tick}
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
