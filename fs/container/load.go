package container

import (
	"context"
	"math"
	"strconv"
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

// loadAvg holds the load of one container.
type loadAvg struct {
	mu      sync.Mutex
	avg     [3]uint64
	sampled time.Duration // CLOCK_BOOTTIME of the last step; 0: none yet
	usage   uint64        // ns of CPU time used at the last count
	counted bool
	tasks   taskCount
	lastPID atomic.Int32 // the newest in the container's pid namespace
}

// taskCount is how many tasks of a container are in which state.
type taskCount struct{ running, blocked, total int }

// seed starts the averages of a container that has run before it was first seen: with the load that a constant one of
// its mean usage would have by now. mean counts CPUs; throttled time is load too.
func (l *loadAvg) seed(used, age time.Duration, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sampled = now
	if age <= 0 {
		return
	}
	mean := float64(used) / float64(age)
	for i, period := range loadPeriod {
		l.avg[i] = uint64(mean * (1 - math.Exp(-age.Seconds()/period.Seconds())) * loadFixed1)
	}
}

// step advances the averages to now with the tasks counted now.
func (l *loadAvg) step(now time.Duration, c taskCount) {
	missed := int((now - l.sampled) / loadStep)
	if missed < 1 {
		missed = 1
	}
	for range min(missed, maxMissedSteps) {
		for i := range l.avg {
			l.avg[i] = nextLoad(l.avg[i], loadExp[i], uint64(c.running+c.blocked)*loadFixed1)
		}
	}
	l.sampled = now
	l.tasks = c
}

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

// sampleLoad is one step of the sampler. It has nothing to do where the kernel keeps the load itself. A container that
// used no CPU time since its tasks were last counted, and had none to count then, still has none: a task that became
// runnable ran, or used time up to where it blocks. So an idle container costs one read of its usage.
func (c *Container) sampleLoad(now time.Duration) {
	kernel, ok, err := c.group.ReadLoad()
	if err != nil {
		return
	}
	l := &c.load
	if ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.follow(now, kernel)
		return
	}
	usage, err := c.group.ReadUsage()
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.tasks
	if !l.counted || usage != l.usage || count.running+count.blocked > 0 {
		count = c.countTasks()
		l.counted, l.usage = true, usage
	}
	l.step(now, count)
}

// readLoad fills dst for a reader.
func (c *Container) readLoad(now time.Duration, reader int, dst *view.Load) {
	l := &c.load
	kernel, known, err := c.group.ReadLoad()
	dst.Kernel = known && err == nil
	l.mu.Lock()
	if dst.Kernel {
		l.follow(now, kernel)
	} else if !l.counted {
		// Busy now counts as busy at once, rather than from the sampler's next step on; but a container that has just
		// started has no load yet, only a start.
		if usage, err := c.group.ReadUsage(); err == nil {
			l.counted, l.usage = true, usage
			count := c.countTasks()
			sampled := l.sampled
			if count.running+count.blocked > 0 && now-c.start >= loadStep {
				l.step(now, count)
				l.sampled = sampled
			}
			l.tasks = count
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
	dst.LastPID = max(c.newestPID(reader), 1)
}

// newestPID is the newest pid that was seen in the reader's pid namespace. The container's readers each bring a new one; who
// entered from another namespace has only his own.
func (c *Container) newestPID(reader int) int {
	if reader <= 0 {
		return int(c.load.lastPID.Load())
	}
	pid, err := c.proc.pidInOwnNS(reader)
	if err != nil {
		return 0
	}
	if ns, err := c.proc.pidNS(strconv.Itoa(reader)); err != nil || ns != c.pidNS {
		return pid
	}
	for {
		last := c.load.lastPID.Load()
		if int32(pid) <= last {
			return int(last)
		}
		if c.load.lastPID.CompareAndSwap(last, int32(pid)) {
			return pid
		}
	}
}

// countTasks looks at the state of every task of the container.
func (c *Container) countTasks() taskCount {
	var n taskCount
	// A cgroup that goes away meanwhile leaves what was counted so far.
	_ = c.group.Tasks(func(tid int) error {
		st, err := c.proc.stat(strconv.Itoa(tid))
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

// sampleLoads steps the load of every container that is known, every 5 s until ctx ends.
func (r *Registry) sampleLoads(ctx context.Context) {
	ticker := time.NewTicker(loadStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.collect()
			now := r.now()
			for _, c := range r.known() {
				c.sampleLoad(now)
				c.Release()
			}
		}
	}
}
