package container

import (
	"sync"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/view"
)

// recent is one part of a container's snapshots as it was read last. Readers within the registry's max-age of that are shown
// it too, and who comes while it is being read waits for it: however many readers there are, the kernel is asked once in a
// while. What is slow to read holds up no other part and no other container.
//
// Not used with a max-age of 0.
type recent[T any] struct {
	mu    sync.Mutex
	at    time.Duration // when its reading began, on the registry's clock
	value *T            // nil: there was none
}

// recents are the parts that cost the kernel more than the look at a few numbers. Of memory.stat and cpu.stat it first adds
// up what each CPU counted.
type recents struct {
	memory   recent[recentMemory]
	numa     recent[cgroup.NUMAStat]
	cpu      recent[recentCPU]
	load     recent[view.Load]
	pressure [cgroup.Pressures]recent[cgroup.PressureText]
	io       recent[view.IO]
	slabinfo recent[[]byte]
}

// lock waits for who reads the part now. fresh says that the value began at most maxAge before the call; if it did not, a
// reading begins at begin.
func (r *recent[T]) lock(clock func() time.Duration, maxAge time.Duration) (begin time.Duration, fresh, waited bool) {
	asked := clock()
	begin = asked
	if waited = !r.mu.TryLock(); waited {
		r.mu.Lock()
		begin = clock()
	}
	return begin, r.value != nil && asked-r.at < maxAge, waited
}

// store is where to keep what was read from begin on.
func (r *recent[T]) store(begin time.Duration) *T {
	if r.value == nil {
		r.value = new(T)
	}
	r.at = begin
	return r.value
}

// get fills dst with a value that is fresh enough.
func (r *recent[T]) get(c *Container, dst *T, read func(*Container, *T) error, copy func(dst, src *T)) error {
	maxAge := c.registry.maxAgeNow()
	if maxAge == 0 {
		return read(c, dst)
	}
	begin, fresh, _ := r.lock(c.registry.clock, maxAge)
	defer r.mu.Unlock()
	if fresh {
		copy(dst, r.value)
		return nil
	}
	if err := read(c, dst); err != nil {
		return err
	}
	copy(r.store(begin), dst)
	return nil
}

// recentMemory is what the memory controller said, and its events if these were asked for.
type recentMemory struct {
	memory    cgroup.Memory
	events    *cgroup.MemoryEvents // nil until somebody asked
	hasEvents bool
}

// readMemory reads limits, usage and statistics, and the events that are told in the same file.
func (c *Container) readMemory(events bool, dst *Snapshot) error {
	maxAge := c.registry.maxAgeNow()
	if maxAge == 0 {
		return c.readMemoryNow(events, dst)
	}
	r := &c.recent.memory
	begin, fresh, _ := r.lock(c.registry.clock, maxAge)
	defer r.mu.Unlock()
	if fresh && (r.value.hasEvents || !events) {
		copyMemory(&dst.memory, &r.value.memory)
		if events {
			dst.events = *r.value.events
		}
		return nil
	}
	if err := c.readMemoryNow(events, dst); err != nil {
		return err
	}
	v := r.store(begin)
	copyMemory(&v.memory, &dst.memory)
	if v.hasEvents = events; events {
		if v.events == nil {
			v.events = new(cgroup.MemoryEvents)
		}
		*v.events = dst.events
	}
	return nil
}

func (c *Container) readMemoryNow(events bool, dst *Snapshot) error {
	if !events || c.group.Dir() == "" { // the root has no ledger, and nothing to count in it
		dst.events = cgroup.MemoryEvents{}
		return c.group.ReadMemory(&dst.memory)
	}
	ledger, err := c.openLedger()
	if err != nil {
		return err
	}
	return ledger.memory(c.group, &dst.memory, &dst.events)
}

// recentCPU is what the CPU controllers said, and for how many visible CPUs the ledger took it in; -1: it did not.
type recentCPU struct {
	cpu  cgroup.CPU
	rows int
}

// readCPU reads the limits and the usage and, with times, the counters of the ledger. These are shared together: the ledger
// takes in a usage with the time at which it was read, and once.
func (c *Container) readCPU(times bool, h *host.Snapshot, dst *Snapshot) error {
	now := h.Boottime
	r := &c.recent.cpu
	maxAge := c.registry.maxAgeNow()
	var begin time.Duration
	if maxAge > 0 {
		var fresh, waited bool
		begin, fresh, waited = r.lock(c.registry.clock, maxAge)
		defer r.mu.Unlock()
		if fresh {
			copyCPU(&dst.cpu, &r.value.cpu)
			if dst.setCPUs(h); !times {
				return nil
			}
			if len(dst.cpus) == r.value.rows {
				return c.showTimes(dst)
			}
		}
		if times && waited {
			now = boottime()
		}
	}
	if err := c.group.ReadCPU(&dst.cpu); err != nil {
		return err
	}
	dst.setCPUs(h)
	rows := -1
	if times {
		if err := c.readTimes(now, len(h.OnlineCPUs), dst); err != nil {
			return err
		}
		rows = len(dst.cpus)
	}
	if maxAge > 0 {
		v := r.store(begin)
		copyCPU(&v.cpu, &dst.cpu)
		v.rows = rows
	}
	return nil
}

// The copies keep the memory of dst.

func copyMemory(dst, src *cgroup.Memory) {
	levels, hugetlb := dst.Levels[:0], dst.Hugetlb[:0]
	*dst = *src
	dst.Levels, dst.Hugetlb = append(levels, src.Levels...), append(hugetlb, src.Hugetlb...)
}

func copyNUMA(dst, src *cgroup.NUMAStat) {
	nodes := dst.Nodes[:0]
	*dst = *src
	dst.Nodes = append(nodes, src.Nodes...)
}

func copyCPU(dst, src *cgroup.CPU) {
	levels := dst.Levels[:0]
	*dst = *src
	dst.Levels = append(levels, src.Levels...)
}

func copyPressure(dst, src *cgroup.PressureText) {
	dst.Path, dst.Text = src.Path, append(dst.Text[:0], src.Text...)
}

func copyIO(dst, src *view.IO) {
	devices := dst.Devices[:0]
	*dst = *src
	dst.Devices = append(devices, src.Devices...)
}

func copyText(dst, src *[]byte) { *dst = append((*dst)[:0], *src...) }

func assign[T any](dst, src *T) { *dst = *src }

// SetMaxAge sets how old what a reader is shown may be, at most: within that time readers of one container share what was
// read of it. With 0, as from the start, each is shown what is now. What is of the cgroups above the container's own may be as
// old again, see [cgroup.FS.SetMaxAge].
func (r *Registry) SetMaxAge(age time.Duration) {
	r.maxAge.Store(int64(age))
	r.cg.SetMaxAge(age)
}

// monotonic is the clock of a registry.
func monotonic() time.Duration { return time.Since(started) }

var started = time.Now()

func (r *Registry) maxAgeNow() time.Duration { return time.Duration(r.maxAge.Load()) }
