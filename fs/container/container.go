// Package container knows the containers: which one a reader belongs to, since when it runs, how its CPUs spent their
// time and how loaded it is.
package container

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/fs/view"
)

// Need names the parts of a view.Container that a reader asks for.
type Need uint16

// The parts.
const (
	NeedMemory Need = 1 << iota
	NeedCPU         // limits, usage, cpuset, and the CPUs behind the visible ones; wants host.NeedOnlineCPUs
	NeedTimes       // the ledger's counters; implies NeedCPU
	NeedLoad
	NeedAge
	NeedIO       // block I/O
	NeedEvents   // the counters of memory.stat; implies NeedMemory
	NeedSlabinfo // the slab caches of v1
	NeedMems     // the NUMA nodes that memory may be from
	NeedNUMA     // where the memory lies

	needPressure // the last, as it is one bit for each of cgroup.Pressures: see NeedPressure
)

// MaxSlot is the highest slot: it has 32 bits of a node id.
const MaxSlot = 1<<32 - 1

// Container is one resource domain: the cgroups whose limits and usage a reader is shown.
type Container struct {
	// ID is the announced name, or the cgroup's path for a container that was found by its reader.
	ID string
	// Slot names the container in node ids. It is never 0, never used again, and at most MaxSlot.
	Slot uint64

	// Lengths are for the files that are rendered of the container, by their positions: bytes of the last content.
	Lengths Lengths

	paths cgroup.Paths
	pidNS uint64 // of its init, or of the readers that it was found by
	group *cgroup.Group
	// cgroupID is the ID of group when the container was made.
	cgroupID uint64
	proc     *procFS
	// init is the init of the container's pid namespace; nil where it has none of its own.
	init  *process
	start time.Duration // CLOCK_BOOTTIME when it started
	// announced tells a container of the control socket from one that was found by its reader.
	announced bool
	// of is the slot of the announced container in whose place this one is shown, by the policy's Reader; 0 for any other.
	of     uint64
	owner  cgroup.Paths // of that one, or its own
	policy atomic.Pointer[policy.Policy]
	// overrides are an announced container's own choices; the registry's lock guards them.
	overrides policy.Overrides

	load   loadAvg
	recent recents
	refs   atomic.Int32
	// openFiles counts those of the mount; with of it is that one's.
	openFiles *atomic.Int32

	ledgerName string
	ledgerMu   sync.Mutex
	ledger     *ledger
	registry   *Registry // of the ledgers
}

// Policy is how the container is shown.
func (c *Container) Policy() *policy.Policy { return c.policy.Load() }

// Init is the pid of the container's init, 0 where it has none of its own or has ended; nil has none.
func (c *Container) Init() int {
	if c == nil || c.init == nil || !c.init.alive() {
		return 0
	}
	return c.init.pid
}

// Lengths holds a number of bytes for each virtual file.
type Lengths [32]atomic.Uint32

// Snapshot reads what need names into dst, or takes over what was read within the registry's max-age. reader is the reading
// task's id, 0 if it is not known. The pointers in dst that are not nil are reused. h must hold the CPU lists when need has
// anything of CPUs, and the Boottime of the reader when it has times or the age.
func (c *Container) Snapshot(need Need, h *host.Snapshot, reader int, dst *Snapshot) error {
	v := &dst.View
	*v = view.Container{Policy: *c.policy.Load(), Age: -1}
	r := &c.recent
	if need&(NeedMemory|NeedEvents) != 0 {
		if err := c.readMemory(need&NeedEvents != 0, dst); err != nil {
			return err
		}
		if dst.memory.Version != cgroup.V0 {
			v.Memory = &dst.memory
		}
		if need&NeedEvents != 0 && dst.events.Version != cgroup.V0 {
			v.Events = &dst.events
		}
	}
	if need&NeedMems != 0 {
		var err error
		if v.Mems, _, err = c.group.ReadMems(); err != nil {
			return err
		}
	}
	if need&NeedNUMA != 0 {
		if err := r.numa.get(c, &dst.numa, (*Container).readNUMA, copyNUMA); err != nil {
			return err
		}
		if dst.numa.Version != cgroup.V0 {
			v.NUMA = &dst.numa
		}
	}
	if need&(NeedCPU|NeedTimes) != 0 {
		times := need&NeedTimes != 0
		if err := c.readCPU(times, h, dst); err != nil {
			return err
		}
		v.CPU, v.CPUs = &dst.cpu, dst.cpus
		if times && dst.cpu.Version != cgroup.V0 {
			v.Times = &dst.times
		}
	}
	if need&NeedLoad != 0 {
		if err := r.load.get(c, &dst.load, (*Container).readLoad, assign); err != nil {
			return err
		}
		dst.load.LastPID = max(c.newestPID(reader), 1)
		v.Load = &dst.load
	}
	if need&NeedAge != 0 {
		v.Age = max(h.Boottime-c.start, 0)
	}
	for p := range cgroup.Pressures {
		if need&NeedPressure(p) != 0 {
			read := func(c *Container, dst *cgroup.PressureText) error {
				return c.group.ReadPressure(p, dst)
			}
			if err := r.pressure[p].get(c, &dst.pressure[p], read, copyPressure); err != nil {
				return err
			}
			v.Pressure[p] = &dst.pressure[p]
		}
	}
	if need&NeedIO != 0 && c.group.Dir() != "" {
		if err := r.io.get(c, &dst.io, (*Container).readIO, copyIO); err != nil {
			return err
		}
		if dst.io.Version != cgroup.V0 {
			v.IO = &dst.io
		}
	}
	if need&NeedSlabinfo != 0 {
		if err := r.slabinfo.get(c, &dst.slabinfo, (*Container).readSlabinfo, copyText); err != nil {
			return err
		}
		v.Slabinfo = dst.slabinfo
	}
	return nil
}

// The readings that recent shares.

func (c *Container) readNUMA(dst *cgroup.NUMAStat) error {
	return c.group.ReadNUMAStat(dst)
}

func (c *Container) readIO(dst *view.IO) error {
	ledger, err := c.openLedger()
	if err != nil {
		return err
	}
	return ledger.io(c.group, dst)
}

func (c *Container) readSlabinfo(dst *[]byte) (err error) {
	*dst, err = c.group.ReadSlabinfo((*dst)[:0])
	return err
}

// Snapshot is the memory of one snapshot, to be used again and again.
type Snapshot struct {
	View view.Container

	memory cgroup.Memory
	numa   cgroup.NUMAStat
	cpu    cgroup.CPU
	cpus   []int
	times  view.CPUTimes
	load   view.Load
	perCPU []cgroup.CPUUsage

	pressure [cgroup.Pressures]cgroup.PressureText
	io       view.IO
	events   cgroup.MemoryEvents
	slabinfo []byte
}

// setCPUs finds the CPUs behind the visible ones.
func (s *Snapshot) setCPUs(h *host.Snapshot) {
	s.cpus = view.VisibleCPUs(s.cpus[:0], &s.cpu, h.OnlineCPUs, &s.View.Policy)
}

// readTimes takes dst.cpu, which was read at now, into the ledger and fills dst.times.
func (c *Container) readTimes(now time.Duration, online int, dst *Snapshot) error {
	if dst.cpu.Version == cgroup.V0 {
		return nil
	}
	ledger, err := c.openLedger()
	if err != nil {
		return err
	}
	in := ledgerInput{
		// A tick early, as the start is known in ticks only: mpstat takes a CPU whose row is all zeros for offline.
		now: now, start: max(c.start-time.Second/userHz, 0), cpus: dst.cpus,
		usage: dst.cpu.Usage, user: dst.cpu.User, nice: dst.cpu.Nice, system: dst.cpu.System,
	}
	// Without steal no level holds anything back, as far as the ledger knows; switched on later, it counts from then on.
	if i := cgroup.BindingQuota(dst.cpu.Levels); i >= 0 && !dst.View.Policy.NoSteal {
		l := &dst.cpu.Levels[i]
		in.throttled, in.period, in.level = l.Throttled, time.Duration(l.Period)*time.Microsecond, levelID(l.Path)
	}
	// With fewer CPUs visible than it may use, the tasks run on others too, and with all of the machine's there is
	// nothing to tell apart.
	if set := len(dst.cpu.Set); len(dst.cpus) == set && set < online {
		dst.perCPU, err = c.group.ReadPerCPU(dst.perCPU[:0])
		if err != nil {
			return err
		}
		if len(dst.perCPU) > 0 {
			in.perCPU = dst.perCPU
		}
	}
	ledger.times(&in, &dst.times)
	return nil
}

// showTimes fills dst.times with what the ledger has taken in already.
func (c *Container) showTimes(dst *Snapshot) error {
	if dst.cpu.Version == cgroup.V0 {
		return nil
	}
	ledger, err := c.openLedger()
	if err != nil {
		return err
	}
	ledger.show(len(dst.cpus), &dst.times)
	return nil
}

// openLedger opens the ledger on its first use.
func (c *Container) openLedger() (*ledger, error) {
	c.ledgerMu.Lock()
	defer c.ledgerMu.Unlock()
	if c.ledger == nil {
		l, err := c.registry.openLedger(c)
		if err != nil {
			return nil, err
		}
		c.ledger = l
	}
	return c.ledger, nil
}

// readings is memory for what is read without a Snapshot.
type readings struct {
	memory cgroup.Memory
	cpu    cgroup.CPU
}

var readingsPool = sync.Pool{New: func() any { return new(readings) }}

// warm opens the files that most readers need, so that the first one does not wait for that.
func (c *Container) warm() {
	r := readingsPool.Get().(*readings)
	defer readingsPool.Put(r)
	// Whoever reads is told what is wrong.
	_ = c.group.ReadMemory(&r.memory)
	_ = c.group.ReadCPU(&r.cpu)
	_, _ = c.group.TaskCount()
	_, _ = c.openLedger()
}

// limited says whether anything holds the container below the machine's own size, a number of CPUs that online tells.
func (c *Container) limited(online func() int) bool {
	r := readingsPool.Get().(*readings)
	defer readingsPool.Put(r)
	if c.group.ReadMemory(&r.memory) == nil {
		for _, l := range r.memory.Levels {
			if l.Limit != cgroup.Unlimited || l.HasSwap && l.SwapLimit != cgroup.Unlimited {
				return true
			}
		}
	}
	if c.group.ReadCPU(&r.cpu) == nil {
		for _, l := range r.cpu.Levels {
			if l.Quota != cgroup.Unlimited {
				return true
			}
		}
		return r.cpu.Set != nil && len(r.cpu.Set) < online()
	}
	return false
}

// alive says whether the container can still be read and is the one it was.
func (c *Container) alive() bool {
	return (c.init == nil || c.init.alive()) && c.group.Alive()
}

// current says whether the container is the one it was, to a task that is in its cgroup and pid namespace now. With its init
// these live on.
func (c *Container) current() bool {
	if c.init != nil {
		return c.init.alive()
	}
	return c.group.Alive()
}

// ended says whether the container is gone: its cgroup, or, unless it was announced, its init. seen says that something was just
// read of the cgroup, which then is there; but it may be another one that was made at the same path.
func (c *Container) ended(seen bool) bool {
	if !c.announced && c.init != nil && !c.init.alive() {
		return true
	}
	return c.group.ID() != c.cgroupID || !seen && !c.group.Alive()
}

// seedLoad starts the load averages from what the container used so far.
func (c *Container) seedLoad(now time.Duration) {
	age := now - c.start
	if age < loadStep { // too little to be load
		usage, _ := c.group.ReadUsage()
		c.load.seed(usage, 0, 0, now)
		return
	}
	var cpu cgroup.CPU
	if c.group.ReadCPU(&cpu) != nil {
		cpu = cgroup.CPU{}
	}
	throttled := uint64(0)
	if i := cgroup.BindingQuota(cpu.Levels); i >= 0 {
		throttled = cpu.Levels[i].Throttled // tasks that are held back are runnable
	}
	c.load.seed(cpu.Usage, throttled, age, now)
}

// MaxOpenFiles bounds the files and directories of the mount that a container has open: each holds a snapshot in our memory, of
// tens of kB on a large machine, for which no limit of the container counts.
const MaxOpenFiles = 16384

// OpenFile counts one more open file of the container, if there is room for it; nil is the machine, without a bound.
func (c *Container) OpenFile() bool {
	if c == nil || c.openFiles.Add(1) <= MaxOpenFiles {
		return true
	}
	c.openFiles.Add(-1)
	return false
}

// CloseFile takes back what OpenFile counted.
func (c *Container) CloseFile() {
	if c != nil {
		c.openFiles.Add(-1)
	}
}

// retain counts one more user of the container.
func (c *Container) retain() *Container {
	if c != nil {
		c.refs.Add(1)
	}
	return c
}

// Release gives the container up; with its last user go its descriptors.
func (c *Container) Release() {
	if c == nil || c.refs.Add(-1) > 0 {
		return
	}
	c.group.Close()
	c.init.close()
	c.load.ns.close()
	c.ledgerMu.Lock()
	defer c.ledgerMu.Unlock()
	if c.ledger != nil {
		c.registry.closeLedger(c, c.ledger)
		c.ledger = nil
	}
}
