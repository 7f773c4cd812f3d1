// Package cgroup reads what a cgroup says about a container: limits, usage, quota, cpuset and tasks, on cgroup v2, v1
// and hybrid hosts, behind one set of types.
//
// A [Group] keeps its files open, so that a warm read is a handful of preads and opens nothing by path. Numbers are
// those of the kernel files named at each field; nothing is rendered and nothing is decided here.
package cgroup

import "math"

// Unlimited is the value of a limit that is not set ("max", -1, or cgroup v1's PAGE_COUNTER_MAX).
const Unlimited = math.MaxUint64

// Version says which cgroup interface a controller of a container is on; a hybrid host mixes both.
type Version uint8

// The interfaces. V0 means that no cgroup but the hierarchy's root applies, so there is nothing to read.
const (
	V0 Version = 0
	V1 Version = 1
	V2 Version = 2
)

// MemoryLevel is one level of the memory hierarchy that binds a container, all in bytes.
type MemoryLevel struct {
	Path  string // below the hierarchy's root, such as "/kubepods/pod1"
	Limit uint64 // memory.max | memory.limit_in_bytes; Unlimited if none
	Usage uint64 // memory.current | memory.usage_in_bytes; 0 at a level above the container without a limit
	// Reclaimable is active_file + inactive_file + slab_reclaimable of memory.stat (v1: total_*); 0 where Usage is, and it
	// may be 0 at a level above the container whose Limit − Usage alone is no less than what levels below leave with it.
	Reclaimable uint64

	HasSwap bool // the kernel accounts swap at this level
	// SwapLimit and SwapUsage: v2 memory.swap.{max,current}, swap alone; v1 memory.memsw.{limit,usage}_in_bytes,
	// memory and swap together. At a level above the container SwapUsage is 0 on v1, and without a SwapLimit.
	SwapLimit uint64
	SwapUsage uint64
}

// Memory is what the memory controller says about one container.
type Memory struct {
	Version Version
	// Levels starts with the cgroup that the numbers in Stat are from and ends below the hierarchy's root. Empty with V0.
	Levels []MemoryLevel
	Stat   MemoryStat
	// Swappiness is memory.swappiness of v1 (0-200), -1 where there is none. It is up to 100 ms old.
	Swappiness int
	// Hugetlb holds the limited huge page sizes, from the hugetlb controller. Where none was limited, a new limit shows up
	// to 100 ms later.
	Hugetlb []Hugetlb
}

// Hugetlb is one page size of the hugetlb controller, in bytes; limit and usage along the path as for memory.
type Hugetlb struct {
	PageSize uint64 // such as 2 MiB
	Limit    uint64 // path min of hugetlb.<size>.max | limit_in_bytes; never Unlimited
	Usage    uint64 // hugetlb.<size>.current | usage_in_bytes of the container
	Reserved uint64 // hugetlb.<size>.rsvd.current | rsvd.usage_in_bytes
	Path     string // of the level that binds
}

// MemoryStat holds the fields of memory.stat that a view needs, in bytes. Names are those of cgroup v2; on v1 the
// hierarchical total_* counter of the same meaning. A key that the kernel does not have is 0.
type MemoryStat struct {
	Anon, File, Shmem, FileMapped, FileDirty, FileWriteback         uint64
	InactiveAnon, ActiveAnon, InactiveFile, ActiveFile, Unevictable uint64
	Slab, SlabReclaimable, SlabUnreclaimable                        uint64
	KernelStack, PageTables, SecPageTables, Percpu, Vmalloc         uint64
	SwapCached, Zswap, Zswapped, AnonTHP, FileTHP, ShmemTHP         uint64
	// HierarchicalLimit is v1's hierarchical_memory_limit, the smallest limit on the path, those of levels included that
	// are not mounted here; 0 elsewhere.
	HierarchicalLimit uint64
	// KmemUsage is memory.kmem.usage_in_bytes of v1, 0 elsewhere.
	KmemUsage uint64
}

// NUMAStat is what the memory controller says about where a container's memory lies: memory.numa_stat.
type NUMAStat struct {
	Version Version // V0: nothing is counted by node
	// Path is the cgroup that Nodes are of.
	Path string
	// Nodes are by the node's number, in bytes. v1 counts the pages of its LRU lists: Anon (those of tmpfs among them),
	// File and Unevictable, which on v2 is a part of the other two. It counts no kernel memory.
	Nodes []MemoryStat
}

// CPULevel is one level of the cpu hierarchy that binds a container.
type CPULevel struct {
	Path   string
	Quota  uint64 // µs per Period: cpu.max | cpu.cfs_quota_us; Unlimited if none
	Period uint64 // µs: cpu.max | cpu.cfs_period_us; 0 at a level without a quota
	// Throttled is the time, in ns, that tasks of this level were held back by its quota, summed over CPUs:
	// throttled_usec | throttled_time of cpu.stat. 0 but at the level that BindingQuota names.
	Throttled uint64
}

// CPU is what the cpu, cpuacct and cpuset controllers say about one container.
type CPU struct {
	Version Version // of the usage; V0: the container has no cgroup of its own there
	// Levels is the path of the cpu controller, the container's own level first.
	Levels []CPULevel
	// Shares is cpu.shares of v1 (2-262144) of the first level, or cpu.weight (1-10000) as the shares that the OCI
	// runtimes turn into it (100: 1024); 0 where there is no cpu controller.
	Shares uint64
	// LimitVersion is of Levels and Shares, SetVersion of Set.
	LimitVersion, SetVersion Version
	// Usage is the CPU time used so far, in ns: usage_usec of cpu.stat | cpuacct.usage.
	Usage uint64
	// User and System are how it was spent, in ns: user_usec and system_usec of cpu.stat | cpuacct.usage_user and
	// usage_sys, else cpuacct.stat; cpuacct.proc_stat where there is one. Some v1 kernels (5.10) sample these at ticks and
	// count only a part of Usage.
	User, System uint64
	// Nice is the part of User, in ns, that ran at a positive nice value: nice_usec of cpu.stat, nice of cpuacct.proc_stat;
	// 0 where there is none.
	Nice uint64
	// ProcStat says that User, System and Nice are from cpuacct.proc_stat of Alibaba Cloud Linux.
	ProcStat bool
	// UsagePath is the cgroup that User and System are from.
	UsagePath string
	// Set is the effective cpuset, ascending; nil where no cpuset controller applies.
	Set []int
	// SetPath is the cgroup that Set is from.
	SetPath string
}

// CPUUsage is the time, in ns, that a cgroup used on one physical CPU (cpuacct.usage_all).
type CPUUsage struct{ User, System uint64 }
