// Package view renders the virtual files: pure functions from a snapshot of the machine and a snapshot of a container
// to bytes. There is no I/O, no clock and no global state here; docs/views.md says what each number means.
package view

import (
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/policy"
)

// Hz is USER_HZ, the unit of /proc/stat's counters: ticks per second, 100 on every architecture that scopefs runs on.
const Hz = 100

// Container is one container at one moment. A part that is nil or zero has no source of its own, and the files that
// need it show the machine's numbers instead.
type Container struct {
	// Memory is nil where only the root of the memory hierarchy applies.
	Memory *cgroup.Memory
	// Mems are the NUMA nodes that it may use memory of, ascending; empty: all.
	Mems []int
	// NUMA is where its memory lies; nil where the kernel does not count that.
	NUMA *cgroup.NUMAStat
	// Policy is how it is shown; its CPUSource and CPURounding are in CPUs already.
	Policy policy.Policy

	// CPU is nil where only the roots of the cpu hierarchies apply.
	CPU *cgroup.CPU
	// CPUs are the physical CPUs behind the visible ones, ascending: visible CPU i stands on CPUs[i]. See VisibleCPUs. They
	// alone say how many CPUs every file shows, and number what they are called; empty: the machine's.
	CPUs []int
	// Times are the counters of /proc/stat, from the CPU ledger. nil: the machine's rows of CPUs are shown. Of no use
	// without CPUs.
	Times *CPUTimes

	// IO is nil where only the root of the block I/O hierarchy applies, or where no cgroup of the path has the controller.
	IO *IO
	// Events are the counters of memory.stat; nil where Memory is.
	Events *cgroup.MemoryEvents
	// Slabinfo is v1's memory.kmem.slabinfo; empty where the kernel has none.
	Slabinfo []byte

	// Load is what the load sampler knows. nil: the machine's.
	Load *Load
	// Age is the time since the container's init started. Negative: unknown, the machine's uptime is shown.
	Age time.Duration

	// Pressure is what the pressure files say. nil: the machine's.
	Pressure [cgroup.Pressures]*cgroup.PressureText
}

// Number is what visible CPU i is called in every file: i, or the number of the physical CPU behind it (policy.IDs).
func (c *Container) Number(i int) int {
	if c.Policy.CPUIdentity == policy.IDs {
		return c.CPUs[i]
	}
	return i
}

// CPUTimes are the CPU counters of a container in USER_HZ ticks.
type CPUTimes struct {
	// Rows has one entry per visible CPU.
	Rows []CPURow
	// Total is the sum over every CPU that was ever visible, so that it does not step back when a CPU goes away; it is
	// the sum of Rows as long as none has.
	Total CPURow
}

// CPURow is one row of /proc/stat in USER_HZ ticks. Every counter only grows.
type CPURow struct{ User, Nice, System, Idle, Steal uint64 }

// IO is the block I/O of a container. Every counter only grows.
type IO struct {
	cgroup.IO
	// Read and Written are the bytes of all devices, of those too that went away.
	Read, Written uint64
}

// Load is the load of a container.
type Load struct {
	// Avg are the exponential averages over 1, 5 and 15 minutes in the kernel's fixed point: 11 bits of fraction
	// (FIXED_1 = 2048, include/linux/sched/loadavg.h).
	Avg [3]uint64
	// Running, Blocked and Total count tasks: runnable, in uninterruptible sleep, all.
	Running, Blocked, Total int
	// LastPID is the newest pid in the reader's pid namespace.
	LastPID int
	// Kernel says that Avg, Running and Blocked are the kernel's (cpuacct.proc_stat of Alibaba Cloud Linux) and not the load
	// sampler's.
	Kernel bool
}
