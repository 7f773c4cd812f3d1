// Package host reads the machine's own numbers from /proc and /sys below an injectable root. It knows nothing of
// containers; the files are kept open and read with pread.
package host

import (
	"time"

	"github.com/scopefs/scopefs/cgroup"
)

// Need names the parts of a Snapshot that a reader asks for.
type Need uint32

// The parts of a snapshot.
const (
	NeedMeminfo Need = 1 << iota
	NeedStat
	NeedCpuinfo
	NeedSwaps
	NeedLoadavg
	NeedUptime
	NeedOnlineCPUs // Online and OnlineCPUs
	NeedOvercommit
	NeedCpuinfo32 // Cpuinfo as a reader with the personality PER_LINUX32 sees it, see FS.Linux32
	NeedDiskstats
	NeedVMStat
	NeedSlabinfo
	NeedTimeNS // TimeNS; read by FS.ReadTimeNS
	NeedNodes  // wants NeedOnlineCPUs

	needOtherLists
	needPressure // the last, as it is one bit for each of cgroup.Pressures: see NeedPressure
)

// NeedCPULists is Online, OnlineCPUs, Present, Possible and Offline.
const NeedCPULists = NeedOnlineCPUs | needOtherLists

// Snapshot is the machine at one moment, or at most as long ago as FS.SetMaxAge says. Fields that were not asked for are
// empty. The byte slices are the kernel's files, whole; only [FS.Snapshot] writes to them, when the same Snapshot is filled again.
type Snapshot struct {
	// Boottime is CLOCK_BOOTTIME, the clock of /proc/uptime and of starttime in /proc/PID/stat. It is 0 where only files were
	// asked for that tell no time, and always there without any.
	Boottime time.Duration
	// TimeNS is the reader's time namespace, see FS.ReadTimeNS.
	TimeNS TimeNS

	Meminfo []byte   // /proc/meminfo
	Stat    []byte   // /proc/stat
	Cpuinfo *Cpuinfo // /proc/cpuinfo, cut into blocks
	Swaps   []byte   // /proc/swaps
	Loadavg []byte   // /proc/loadavg
	Uptime  []byte   // /proc/uptime

	Pressure [cgroup.Pressures][]byte // /proc/pressure/<resource>

	// The lists of /sys/devices/system/cpu, as the kernel prints them ("0-63\n").
	Online, Present, Possible, Offline []byte
	// OnlineCPUs is Online as numbers, ascending. It must not be changed.
	OnlineCPUs []int

	// Nodes are the NUMA nodes that are online, ascending; none where the kernel has no such thing. They are shared and
	// must not be changed.
	Nodes []Node

	Overcommit Overcommit

	Diskstats []byte // /proc/diskstats
	VMStat    []byte // /proc/vmstat
	Slabinfo  []byte // /proc/slabinfo, which root alone may read

	// PageSize is that of the machine, and THPSize that of a transparent huge page, 0 where the kernel has none; in bytes.
	// Both are always there.
	PageSize, THPSize uint64

	overcommitRatio, overcommitKbytes []byte     // the texts behind Overcommit
	online                            parsedList // what OnlineCPUs are from
}

// parsedList is a list such as "0-63\n", and the numbers in it.
type parsedList struct {
	text    []byte
	numbers []int
}

// Node is a NUMA node.
type Node struct {
	ID   int
	CPUs []int // those that are online, ascending
}

// Overcommit is what the kernel computes CommitLimit from (Documentation/mm/overcommit-accounting).
type Overcommit struct {
	Ratio  uint64 // vm.overcommit_ratio, percent
	Kbytes uint64 // vm.overcommit_kbytes, kB; used instead of Ratio where not 0
}

// Cpuinfo is /proc/cpuinfo cut at its processors. Raw holds the whole file; it is Head, Blocks, Details and Tail, in this
// order, and they are slices of it. It never changes once made.
type Cpuinfo struct {
	Raw []byte
	// Head is what stands before the first block and belongs to none (s390x: vendor, features, caches).
	Head []byte
	// Blocks are one per processor, each with its trailing blank line where it has one, in the file's order.
	Blocks []CPUBlock
	// Details are the second sequence of blocks, "cpu number : N", that s390x prints behind its one-line blocks, each
	// with the blank line before it.
	Details []CPUBlock
	// Tail is what stands behind the last block (ppc64le: timebase, platform, model; arm: Hardware).
	Tail []byte
}

// CPUBlock is the text of one processor.
type CPUBlock struct {
	CPU  int // the number that the kernel printed
	Text []byte
	// Values are what the text says of CPUs and that depends on which are visible, in order.
	Values []CPUValue
	// Package and Core are its "physical id" and "core id" (loongarch64: "package" and "core"), -1 where it has none.
	Package, Core int
	// PackageCPUs and PackageCores are how many of the blocks are of the same package, and how many cores they are of.
	PackageCPUs, PackageCores int
}

// CPUValue is a number in the text of a CPUBlock.
type CPUValue struct {
	Kind       CPUValueKind
	Start, End int // in the text
	N          int // -1 where there is no number
}

// CPUValueKind is what a CPUValue says.
type CPUValueKind uint8

const (
	// CPUNumber is the CPU's own number.
	CPUNumber CPUValueKind = iota
	// CPUSiblings is how many CPUs its package has.
	CPUSiblings
	// CPUCores is how many cores its package has.
	CPUCores
)
