package view

import (
	"bytes"
	"math"
	"strconv"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// statColumns is how many columns of a cpu row of /proc/stat are known: user, nice, system, idle, iowait, irq, softirq,
// steal, guest, guest_nice (fs/proc/stat.c). Old kernels print fewer, and a newer one may print more.
const statColumns = 10

// cpuColumns are the counters of one cpu row, in USER_HZ ticks.
type cpuColumns [statColumns]uint64

// columns gives a row its places; the ones that no cgroup counts are 0.
func (r *CPURow) columns() cpuColumns {
	return cpuColumns{0: r.User, 1: r.Nice, 2: r.System, 3: r.Idle, 7: r.Steal}
}

// hasTimes says whether the container's CPU counters are shown.
func hasTimes(c *Container) bool { return c.Times != nil && len(c.CPUs) > 0 }

// Stat renders /proc/stat: the cpu row and one row for each visible CPU from the container's counters, or, where they
// are not known, from the machine's rows of the physical CPUs behind them; procs_running and procs_blocked from the
// load sampler; the counts of interrupts and context switches are 0 if the policy says so; btime as the kernel shows it in
// the reader's time namespace; every other line is the machine's. It needs NeedStat and NeedTimeNS.
func Stat(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil {
		if !shiftsBtime(h) {
			return append(dst, h.Stat...)
		}
		c = &Container{} // of which nothing is known
	}
	cpusDone := len(c.CPUs) == 0
	for rest := h.Stat; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		key, values := cutField(line)
		if len(c.CPUs) > 0 && isCPURow(key) {
			if !cpusDone {
				dst = appendCPURows(dst, h.Stat, countFields(values), c)
				cpusDone = true
			}
			continue
		}
		switch {
		case c.Policy.Interrupts == policy.Zero && countsInterrupts(key):
			dst = appendZeros(dst, key, values)
		case c.Load != nil && string(key) == "procs_running":
			dst = appendCount(dst, key, runningTasks(c.Load))
		case c.Load != nil && string(key) == "procs_blocked":
			dst = appendCount(dst, key, uint64(max(c.Load.Blocked, 0)))
		case shiftsBtime(h) && string(key) == "btime":
			dst = appendCount(dst, key, nsBtime(h))
		default:
			dst = append(dst, line...)
		}
	}
	return dst
}

// countsInterrupts says whether a line of the machine counts what no cgroup does.
func countsInterrupts(key []byte) bool {
	switch string(key) {
	case "intr", "softirq", "ctxt":
		return true
	}
	return false
}

// appendZeros appends a line with a 0 in the place of each value.
func appendZeros(dst, key, values []byte) []byte {
	dst = append(dst, key...)
	between := true
	for _, c := range values {
		blank := isBlank(c)
		if between && !blank {
			dst = append(dst, ' ', '0')
		}
		between = blank
	}
	return append(dst, '\n')
}

func appendCount(dst, key []byte, n uint64) []byte {
	dst = append(append(dst, key...), ' ')
	return append(strconv.AppendUint(dst, n, 10), '\n')
}

// appendCPURows appends the cpu row and the row of each visible CPU, with as many columns as the machine's have.
func appendCPURows(dst, stat []byte, columns int, c *Container) []byte {
	dst = append(dst, "cpu "...)
	if c.Times == nil {
		rows := hostRows{stat: stat, rest: stat}
		var sum cpuColumns
		for _, cpu := range c.CPUs {
			row := rows.find(cpu)
			for i := range sum {
				sum[i] = min(add(sum[i], row[i]), math.MaxInt64)
			}
		}
		dst = appendColumns(dst, columns, &sum)
		for i, cpu := range c.CPUs {
			dst = append(dst, "cpu"...)
			dst = strconv.AppendInt(dst, int64(c.Number(i)), 10)
			row := rows.find(cpu)
			dst = appendColumns(dst, columns, &row)
		}
		return dst
	}
	total := c.Times.Total.columns()
	dst = appendColumns(dst, columns, &total)
	for i := range c.CPUs {
		// CPUs alone says how many there are; a row that the ledger does not have yet has counted nothing.
		var row cpuColumns
		if i < len(c.Times.Rows) {
			row = c.Times.Rows[i].columns()
		}
		dst = append(dst, "cpu"...)
		dst = strconv.AppendInt(dst, int64(c.Number(i)), 10)
		dst = appendColumns(dst, columns, &row)
	}
	return dst
}

func appendColumns(dst []byte, columns int, row *cpuColumns) []byte {
	for i := range columns {
		if i >= len(row) || row[i] == 0 { // most are
			dst = append(dst, ' ', '0')
			continue
		}
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, row[i], 10)
	}
	return append(dst, '\n')
}

// isCPURow says whether the first field of a line is "cpu" or "cpuN".
func isCPURow(key []byte) bool {
	n, ok := bytes.CutPrefix(key, []byte("cpu"))
	if !ok {
		return false
	}
	for _, c := range n {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

func countFields(line []byte) (n int) {
	for {
		var field []byte
		if field, line = cutField(line); len(field) == 0 {
			return n
		}
		n++
	}
}

// hostRows finds rows of the machine's /proc/stat. The kernel prints them in ascending order, so rows that are asked for
// in ascending order are found in one pass.
type hostRows struct{ stat, rest []byte }

// find returns the row of a CPU, zero if there is none (it is offline).
func (h *hostRows) find(cpu int) cpuColumns {
	for range 2 {
		for len(h.rest) > 0 {
			line, rest := cutLine(h.rest)
			key, values := cutField(line)
			if !isCPURow(key) {
				break
			}
			h.rest = rest
			if n, digits := number(key[len("cpu"):]); digits > 0 && n == uint64(cpu) {
				return parseColumns(values)
			}
		}
		h.rest = h.stat
	}
	return cpuColumns{}
}

func parseColumns(values []byte) (row cpuColumns) {
	for i := range row {
		var field []byte
		field, values = cutField(values)
		row[i], _ = number(field)
	}
	return row
}
