package container

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/view"
)

// The load averages are the kernel's: fixed point with 11 bits of fraction, one step every 5 s, decayed by
// e^(-5s/1min), e^(-5s/5min) and e^(-5s/15min) (include/linux/sched/loadavg.h).
const (
	loadFixed1 = 1 << 11
	loadStep   = 5 * time.Second
)

var (
	loadExp    = [3]uint64{1884, 2014, 2037}
	loadPeriod = [3]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}
)

// maxMissedSteps bounds the steps that are made up for after a pause, such as a suspended machine: an hour settles the
// longest average.
const maxMissedSteps = int(time.Hour / loadStep)

// The tasks of a container are looked at, which costs three system calls for each, only as far as somebody wants to know and
// there is something to see.
const (
	// watchFor is how long after its load was read the tasks of a container are counted. Beyond that its load is the CPU time
	// that it used.
	watchFor = 5 * time.Minute
	// littleUsage is what a container without runnable tasks may use before they are counted again: 0.1 % of a CPU over a step.
	littleUsage = uint64(loadStep / 1000)
	// maxUncounted is how many steps in a row that holds for a container that used something: a task that blocks in
	// uninterruptible sleep is load without using anything.
	maxUncounted = 5
)

// loadAvg holds the load of one container.
type loadAvg struct {
	mu        sync.Mutex
	avg       [3]uint64
	sampled   time.Duration // CLOCK_BOOTTIME of the last step
	usage     uint64        // ns of CPU time used by usageAt
	usageAt   time.Duration // CLOCK_BOOTTIME
	asked     bool          // somebody read it since the last step
	askedAt   time.Duration // CLOCK_BOOTTIME of the last step before which somebody had; 0: nobody yet
	counted   bool          // tasks are those of the last steps
	countedAt uint64        // usage when they were counted
	uncounted int           // steps since then in which something was used
	tasks     taskCount
	kernel    atomic.Bool // the kernel kept the load itself when it was last asked

	nsMu    sync.Mutex
	ns      heldNS       // the container's pid namespace
	lastPID atomic.Int32 // the newest in it
}

// taskCount is how many tasks of a container are in which state.
type taskCount struct{ running, blocked, total int }

// seed starts the averages of a container that has run before it was first seen: with the load that a constant one of
// its mean usage would have by now. Throttled time is load too.
func (l *loadAvg) seed(usage, throttled uint64, age, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sampled, l.usage, l.usageAt = now, usage, now
	if age <= 0 {
		return
	}
	mean := float64(usage+throttled) / float64(age) // CPUs
	for i, period := range loadPeriod {
		l.avg[i] = uint64(mean * (1 - math.Exp(-age.Seconds()/period.Seconds())) * loadFixed1)
	}
}

// step advances the averages to now with the tasks that are active, in fixed point.
func (l *loadAvg) step(now time.Duration, active uint64) {
	missed := int((now - l.sampled) / loadStep)
	if missed < 1 {
		missed = 1
	}
	for range min(missed, maxMissedSteps) {
		for i := range l.avg {
			l.avg[i] = nextLoad(l.avg[i], loadExp[i], active)
		}
	}
	l.sampled = now
}

// active are the tasks that count as load.
func (n taskCount) active() uint64 { return uint64(n.running+n.blocked) * loadFixed1 }

// nextLoad is the kernel's calc_load: rounded up while rising, so that a constant load is reached.
func nextLoad(load, exp, active uint64) uint64 {
	n := load*exp + active*(loadFixed1-exp)
	if active >= load {
		n += loadFixed1 - 1
	}
	return n / loadFixed1
}

// follow takes over what the kernel knows, so that the sampler goes on from there should the kernel stop.
func (l *loadAvg) follow(now time.Duration, k cgroup.Load) {
	for i, centi := range k.Avg {
		l.avg[i] = fixedLoad(centi)
	}
	l.tasks.running, l.tasks.blocked = clampInt(k.Running), clampInt(k.Blocked)
	l.sampled, l.counted = now, false
}

// fixedLoad is the smallest average in fixed point that is printed as the hundredths; the kernel adds half of one when it
// prints (fs/proc/loadavg.c).
func fixedLoad(centi uint64) uint64 {
	centi = min(centi, math.MaxUint64/loadFixed1)
	fixed := (centi*loadFixed1 + 99) / 100
	return fixed - min(fixed, loadFixed1/200)
}

func clampInt(n uint64) int { return int(min(n, math.MaxInt32)) }

// sampleLoad is one step of the sampler. A container costs it one read of its usage, and its tasks are counted only where
// they may be load that this does not tell. Where the kernel keeps the load itself, it follows that. seen says that something was
// read of the container's cgroup.
func (c *Container) sampleLoad(now time.Duration) (seen bool) {
	l := &c.load
	if l.kernel.Load() {
		kernel, ok, err := c.group.ReadLoad()
		if err != nil {
			return false
		}
		if l.kernel.Store(ok); ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.follow(now, kernel)
			return true
		}
	}
	usage, err := c.group.ReadUsage()
	if err != nil {
		return false
	}
	seen = usage > 0 // which it is without a controller that counts it
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked {
		l.asked, l.askedAt = false, now
	}
	used, over := sub(usage, l.usage), now-l.usageAt
	l.usage, l.usageAt = usage, now
	switch {
	case l.askedAt == 0 || now-l.askedAt > watchFor:
		l.counted, l.tasks = false, taskCount{}
	case l.counted && l.tasks.active() == 0 && usage == l.countedAt:
		// They are as they were: one that became runnable ran, or used time up to where it blocks.
	case l.counted && l.tasks.active() == 0 && sub(usage, l.countedAt) < littleUsage && l.uncounted < maxUncounted:
		l.uncounted++
	default:
		l.count(c, usage)
		l.step(now, l.tasks.active())
		return seen
	}
	mean := float64(used) / float64(max(over, time.Millisecond)) // CPUs
	l.step(now, uint64(mean*loadFixed1))
	return seen
}

// count counts the tasks, with l.mu held. usage is what had been used before.
func (l *loadAvg) count(c *Container, usage uint64) {
	l.tasks = c.countTasks()
	l.counted, l.countedAt, l.uncounted = true, usage, 0
}

// readLoad fills dst for a reader, but for LastPID.
func (c *Container) readLoad(dst *view.Load) error {
	l := &c.load
	kernel, known, err := c.group.ReadLoad()
	*dst = view.Load{Kernel: known && err == nil}
	l.kernel.Store(dst.Kernel)
	l.mu.Lock()
	first := !l.asked && l.askedAt == 0
	l.asked = true
	if dst.Kernel {
		l.follow(boottime(), kernel)
	} else if !l.counted {
		if usage, err := c.group.ReadUsage(); err == nil {
			l.count(c, usage)
			// Busy now counts as busy at once, rather than from the sampler's next step on; but a container that has just
			// started has no load yet, only a start.
			if now := boottime(); first && l.tasks.active() > 0 && now-c.start >= loadStep {
				sampled := l.sampled
				l.step(now, l.tasks.active())
				l.sampled = sampled
			}
		}
	}
	dst.Avg = l.avg
	dst.Running, dst.Blocked, dst.Total = l.tasks.running, l.tasks.blocked, l.tasks.total
	l.mu.Unlock()

	if n, ok := c.group.TaskCount(); ok {
		dst.Total = clampInt(n)
	} else if dst.Kernel {
		dst.Total = 0
		_ = c.group.Tasks(func(int) error { dst.Total++; return nil })
	}
	dst.Running = max(dst.Running, 1) // the reader itself
	dst.Total = max(dst.Total, dst.Running)
	return nil
}

// newestPID is the newest pid that was seen in the reader's pid namespace. The container's readers each bring a new one; who
// entered from another namespace has only his own.
func (c *Container) newestPID(reader int) int {
	l := &c.load
	if reader <= 0 {
		return int(l.lastPID.Load())
	}
	ns, err := c.proc.pidNS(reader)
	if err != nil {
		return 0
	}
	if ns != c.pidNS {
		other := heldNS{inode: ns}
		defer other.close()
		pid, _ := other.pid(c.proc, reader)
		return pid
	}
	l.nsMu.Lock()
	l.ns.inode = ns
	pid, err := l.ns.pid(c.proc, reader)
	l.nsMu.Unlock()
	if err != nil {
		return 0
	}
	for {
		last := l.lastPID.Load()
		if int32(pid) <= last {
			return int(last)
		}
		if l.lastPID.CompareAndSwap(last, int32(pid)) {
			return pid
		}
	}
}

// countTasks looks at the state of every task of the container.
func (c *Container) countTasks() taskCount {
	var n taskCount
	// A cgroup that goes away meanwhile leaves what was counted so far.
	_ = c.group.Tasks(func(tid int) error {
		st, err := c.proc.stat(tid)
		if err != nil {
			return nil // it ended
		}
		n.total++
		switch st.state {
		case 'R':
			n.running++
		case 'D':
			n.blocked++
		}
		return nil
	})
	return n
}

// idleFiles is how long a cgroup file stays open that nobody reads.
const idleFiles = time.Minute

// sampleLoads steps the load of every container that is known, every 5 s until ctx ends, and forgets those that ended.
func (r *Registry) sampleLoads(ctx context.Context) {
	ticker := time.NewTicker(loadStep)
	defer ticker.Stop()
	var known []*Container
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := boottime()
			known = r.known(known[:0])
			r.collect(known, func(c *Container) bool { return c.ended(c.sampleLoad(now)) })
			r.cg.CloseIdle(idleFiles)
			clear(known)
		}
	}
}
