package view

import (
	"math/bits"
	"strconv"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// VisibleCPUs appends to dst the physical CPUs behind the visible ones of a container. It is the one place where the
// number of CPUs is decided:
//
//	visible = min(|set|, max(1, ceil(quota)))
//
// quota is the smallest Quota/Period on the path; set is the container's cpuset as far as it is online, or online
// itself where no cpuset is known. The first visible CPUs of the set are taken, in order. cpu may be nil; both lists
// ascend.
func VisibleCPUs(dst []int, cpu *cgroup.CPU, online []int) []int {
	start := len(dst)
	if cpu != nil {
		dst = appendCommon(dst, cpu.Set, online)
	}
	if len(dst) == start {
		dst = append(dst, online...)
	}
	if cpu != nil {
		if quota, level := quotaCPUs(cpu.Levels); level >= 0 && quota < uint64(len(dst)-start) {
			dst = dst[:start+int(quota)]
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

// BindingQuota is the index of the level with the smallest quota in CPUs (Quota/Period), the lowest of equal ones; -1 where
// no level has a quota.
func BindingQuota(levels []cgroup.CPULevel) int {
	binding := -1
	for i := range levels {
		l := &levels[i]
		if l.Quota == cgroup.Unlimited || l.Period == 0 {
			continue
		}
		if binding < 0 || lessQuota(l, &levels[binding]) {
			binding = i
		}
	}
	return binding
}

// lessQuota compares a.Quota/a.Period with b's, exactly.
func lessQuota(a, b *cgroup.CPULevel) bool {
	aHigh, aLow := bits.Mul64(a.Quota, b.Period)
	bHigh, bLow := bits.Mul64(b.Quota, a.Period)
	return aHigh < bHigh || aHigh == bHigh && aLow < bLow
}

// quotaCPUs is the quota that binds in CPUs, rounded up and at least 1, and the index of its level, -1 if there is none.
func quotaCPUs(levels []cgroup.CPULevel) (cpus uint64, level int) {
	level = BindingQuota(levels)
	if level < 0 {
		return 0, level
	}
	l := &levels[level]
	cpus = l.Quota / l.Period
	if l.Quota%l.Period != 0 {
		cpus++
	}
	return max(cpus, 1), level
}

// CPUOnline renders /sys/devices/system/cpu/online: the visible CPUs, numbered from 0. It needs NeedCPULists.
func CPUOnline(dst []byte, h *host.Snapshot, c *Container) []byte {
	return appendCPUs(dst, h.Online, c)
}

// CPUPresent renders /sys/devices/system/cpu/present, which says the same as online. It needs NeedCPULists.
func CPUPresent(dst []byte, h *host.Snapshot, c *Container) []byte {
	return appendCPUs(dst, h.Present, c)
}

// CPUPossible renders /sys/devices/system/cpu/possible: the machine's. Allocators size arrays by it and index them by
// the physical number that sched_getcpu(3) returns. It needs NeedCPULists.
func CPUPossible(dst []byte, h *host.Snapshot, _ *Container) []byte {
	return append(dst, h.Possible...)
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
	dst = append(dst, '0')
	if last := len(c.CPUs) - 1; last > 0 {
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, int64(last), 10)
	}
	return append(dst, '\n')
}
