package view

import (
	"strconv"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// VisibleCPUs appends to dst the physical CPUs behind the visible ones of a container. It is the one place where the
// number of CPUs is decided:
//
//	visible = min(|set|, max(1, ceil(quota)))
//
// quota is the smallest Quota/Period on the path; set is the container's cpuset as far as it is online, or online
// itself where no cpuset is known. The first visible CPUs of the set are taken, in order. A policy may put the shares in
// the place of quota, or nothing, and round another way. cpu may be nil; both lists ascend.
func VisibleCPUs(dst []int, cpu *cgroup.CPU, online []int, p *policy.Policy) []int {
	start := len(dst)
	if cpu != nil {
		dst = appendCommon(dst, cpu.Set, online)
	}
	if len(dst) == start {
		dst = append(dst, online...)
	}
	if cpu != nil {
		if n, ok := wantedCPUs(cpu, p); ok && n < uint64(len(dst)-start) {
			dst = dst[:start+int(n)]
		}
	}
	return dst
}

// appendCommon appends the numbers that are in both of two ascending lists. An empty online is not known, and keeps
// every CPU of the set.
func appendCommon(dst, set, online []int) []int {
	if len(online) == 0 {
		return append(dst, set...)
	}
	for len(set) > 0 && len(online) > 0 {
		switch {
		case set[0] < online[0]:
			set = set[1:]
		case set[0] > online[0]:
			online = online[1:]
		default:
			dst = append(dst, set[0])
			set, online = set[1:], online[1:]
		}
	}
	return dst
}

// sharesPerCPU is what one CPU is worth in cpu.shares, the kernel's default for a cgroup.
const sharesPerCPU = 1024

// wantedCPUs is how many CPUs the policy's source gives; ok is false where that sets no bound.
func wantedCPUs(cpu *cgroup.CPU, p *policy.Policy) (n uint64, ok bool) {
	switch p.CPUSource {
	case policy.Cpuset:
		return 0, false
	case policy.Shares:
		return roundCPUs(cpu.Shares, sharesPerCPU, p.CPURounding), cpu.Shares > 0
	}
	level := cgroup.BindingQuota(cpu.Levels)
	if level < 0 {
		return 0, false
	}
	return roundCPUs(cpu.Levels[level].Quota, cpu.Levels[level].Period, p.CPURounding), true
}

// roundCPUs is part/whole as a number of CPUs, at least 1.
func roundCPUs(part, whole uint64, rounding policy.CPURounding) uint64 {
	n, rest := part/whole, part%whole
	up := rest > 0
	if rounding == policy.Round {
		up = rest >= whole-rest
	}
	if up {
		n++
	}
	if rounding == policy.Min2 {
		return max(n, 2)
	}
	return max(n, 1)
}

// CPUOnline renders /sys/devices/system/cpu/online: the visible CPUs. It needs NeedCPULists.
func CPUOnline(dst []byte, h *host.Snapshot, c *Container) []byte {
	return appendCPUs(dst, h.Online, c)
}

// CPUPresent renders /sys/devices/system/cpu/present, which says the same as online. It needs NeedCPULists.
func CPUPresent(dst []byte, h *host.Snapshot, c *Container) []byte {
	return appendCPUs(dst, h.Present, c)
}

// CPUPossible renders /sys/devices/system/cpu/possible: the machine's, unless the policy is coherent. Allocators size
// arrays by it and index them by the physical number that sched_getcpu(3) returns. It needs NeedCPULists.
func CPUPossible(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil || c.Policy.CPUIdentity != policy.Coherent {
		return append(dst, h.Possible...)
	}
	return appendCPUs(dst, h.Possible, c)
}

// CPUOffline renders /sys/devices/system/cpu/offline: none, which the kernel prints as an empty line. It needs
// NeedCPULists.
func CPUOffline(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil || len(c.CPUs) == 0 {
		return append(dst, h.Offline...)
	}
	return append(dst, '\n')
}

// appendCPUs appends the list of the visible CPUs, or the machine's.
func appendCPUs(dst, hostList []byte, c *Container) []byte {
	if c == nil || len(c.CPUs) == 0 {
		return append(dst, hostList...)
	}
	if c.Policy.CPUIdentity == policy.IDs {
		return append(cgroup.AppendCPUList(dst, c.CPUs), '\n')
	}
	dst = append(dst, '0')
	if last := len(c.CPUs) - 1; last > 0 {
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, int64(last), 10)
	}
	return append(dst, '\n')
}
