package view

import (
	"time"

	"github.com/scopefs/scopefs/fs/host"
)

// Uptime renders /proc/uptime, both in seconds: the time since the container's init started, and the idle total of its
// /proc/stat, which is summed over CPUs as the kernel's is. Either is the machine's where the container's is not
// known. A reader in a time namespace of his own is shown the time since that namespace's boot, as the kernel shows him.
// It needs NeedUptime and NeedTimeNS.
func Uptime(dst []byte, h *host.Snapshot, c *Container) []byte {
	aged, times := c != nil && c.Age >= 0, c != nil && hasTimes(c)
	if !h.TimeNS.Other && !aged && !times {
		return append(dst, h.Uptime...)
	}
	up, rest := cutField(h.Uptime)
	idle, _ := cutField(rest)
	switch {
	case h.TimeNS.Other:
		dst = appendCenti(dst, centis(nsUptime(h)))
	case aged:
		dst = appendCenti(dst, centis(c.Age))
	default:
		dst = append(dst, up...)
	}
	dst = append(dst, ' ')
	if times {
		dst = appendCenti(dst, c.Times.Total.Idle*(100/Hz))
	} else {
		dst = append(dst, idle...)
	}
	return append(dst, '\n')
}

// nsUptime is the time since the boot of the reader's time namespace (fs/proc/uptime.c: timens_add_boottime).
func nsUptime(h *host.Snapshot) time.Duration { return max(h.Boottime+h.TimeNS.Boottime, 0) }

// shiftsBtime says whether the reader's time namespace has a btime of its own.
func shiftsBtime(h *host.Snapshot) bool { return h.TimeNS.Other && h.TimeNS.Boot > 0 }

// nsBtime is when the reader's time namespace booted, in whole seconds since the epoch: the boot of the machine less the
// offset, cut off and not rounded (fs/proc/stat.c: timens_sub_boottime).
func nsBtime(h *host.Snapshot) uint64 {
	return uint64(max(h.TimeNS.Boot-h.TimeNS.Boottime, 0) / time.Second)
}

// centis is a time in hundredths of a second.
func centis(t time.Duration) uint64 { return uint64(t / (10 * time.Millisecond)) }
