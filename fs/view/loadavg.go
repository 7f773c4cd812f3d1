package view

import (
	"strconv"

	"github.com/scopefs/scopefs/fs/host"
)

// The kernel's fixed point of load averages, include/linux/sched/loadavg.h.
const (
	loadShift = 11
	loadOne   = 1 << loadShift
)

// Loadavg renders /proc/loadavg: the averages over 1, 5 and 15 minutes, runnable/all tasks, the newest pid. The tasks
// and the pid are the machine's where Load has none. It needs NeedLoadavg.
func Loadavg(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil || c.Load == nil {
		return append(dst, h.Loadavg...)
	}
	rest := h.Loadavg
	for _, avg := range c.Load.Avg {
		_, rest = cutField(rest)
		dst = appendCenti(dst, loadCenti(avg))
		dst = append(dst, ' ')
	}
	tasks, rest := cutField(rest)
	if c.Load.Total > 0 {
		dst = strconv.AppendUint(dst, runningTasks(c.Load), 10)
		dst = append(dst, '/')
		dst = strconv.AppendUint(dst, totalTasks(c.Load), 10)
	} else {
		dst = append(dst, tasks...)
	}
	dst = append(dst, ' ')
	pid, _ := cutField(rest)
	if c.Load.LastPID > 0 {
		dst = strconv.AppendInt(dst, int64(c.Load.LastPID), 10)
	} else {
		dst = append(dst, pid...)
	}
	return append(dst, '\n')
}

// loadCenti is an average in hundredths, rounded as the kernel prints it (fs/proc/loadavg.c: LOAD_INT and LOAD_FRAC after
// adding FIXED_1/200).
func loadCenti(avg uint64) uint64 {
	// No machine has 2^40 tasks; what is larger is broken, and would overflow.
	avg = min(avg, 1<<(40+loadShift)) + loadOne/200
	return avg>>loadShift*100 + (avg&(loadOne-1))*100>>loadShift
}

// appendCenti appends a number of hundredths as "%d.%02d".
func appendCenti(dst []byte, n uint64) []byte {
	dst = strconv.AppendUint(dst, n/100, 10)
	return append(dst, '.', byte('0'+n/10%10), byte('0'+n%10))
}

// runningTasks is the number of runnable tasks, at least 1: whoever reads it is running.
func runningTasks(l *Load) uint64 { return uint64(max(l.Running, 1)) }

// totalTasks is the number of all tasks, which the runnable ones are part of.
func totalTasks(l *Load) uint64 { return max(runningTasks(l), uint64(max(l.Total, 0))) }
