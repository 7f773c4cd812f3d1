package view

import (
	"time"

	"github.com/scopefs/scopefs/fs/host"
)

// Uptime renders /proc/uptime, both in seconds: the time since the container's init started, and the idle total of its
// /proc/stat, which is summed over CPUs as the kernel's is. Either is the machine's where the container's is not
// known. It needs NeedUptime.
func Uptime(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil || c.Age < 0 && !hasTimes(c) {
		return append(dst, h.Uptime...)
	}
	up, rest := cutField(h.Uptime)
	idle, _ := cutField(rest)
	if c.Age >= 0 {
		dst = appendCenti(dst, uint64(c.Age/(10*time.Millisecond)))
	} else {
		dst = append(dst, up...)
	}
	dst = append(dst, ' ')
	if hasTimes(c) {
		dst = appendCenti(dst, c.Times.Total.Idle*(100/Hz))
	} else {
		dst = append(dst, idle...)
	}
	return append(dst, '\n')
}
