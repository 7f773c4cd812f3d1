package view

import (
	"bytes"
	"math"
	"strconv"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// VMStat renders /proc/vmstat: rows that meminfo has too are its numbers, the counters of memory.stat the container's,
// pgpgin and pgpgout its block I/O; every other row is the machine's. It needs NeedVMStat and NeedMeminfo.
func VMStat(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil {
		return append(dst, h.VMStat...)
	}
	return appendVMStat(dst, h.VMStat, h, newMemory(h, c), c)
}

// appendVMStat renders a text of rows as /proc/vmstat and the nodes' vmstat have, with the numbers of m and c.
func appendVMStat(dst, text []byte, h *host.Snapshot, m memory, c *Container) []byte {
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		key, machine, ok := parseVMStat(line)
		source := findVMStat(key, c)
		if source == nil || !ok {
			dst = append(dst, line...)
			continue
		}
		dst = append(dst, line[:len(key)+1]...)
		dst = strconv.AppendUint(dst, source.number(machine, h, m, c), 10)
		dst = append(dst, '\n')
	}
	return dst
}

// parseVMStat reads a "key number" line; ok is false for any other.
func parseVMStat(line []byte) (key []byte, n uint64, ok bool) {
	end := bytes.IndexByte(line, ' ')
	if end < 0 {
		return line, 0, false
	}
	n, digits := number(line[end+1:])
	return line[:end], n, digits > 0 && end+1+digits == len(line)-1 && line[len(line)-1] == '\n'
}

// findVMStat is the source of a row of a container; nil: the machine's row stays.
func findVMStat(key []byte, c *Container) *vmstatSource {
	i, ok := vmstatIndex[string(key)]
	if !ok {
		return nil
	}
	source := &vmstatSources[i]
	known := false
	switch source.kind {
	case vmstatMemory:
		known = source.row.of.applies(c)
	case vmstatEvent:
		known = c.Events != nil && c.Events.Known[source.event] || c.Policy.NoSwap && isSwapEvent(source.event)
	case vmstatRead, vmstatWritten:
		known = c.IO != nil
	}
	if !known {
		return nil
	}
	return source
}

// isSwapEvent says whether a counter is of pages that go to swap or come from there.
func isSwapEvent(event cgroup.Event) bool {
	switch event.String() {
	case "pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb", "thp_swpout", "thp_swpout_fallback":
		return true
	}
	return false
}

// number is the container's number of a row; machine is what the machine's has.
func (s *vmstatSource) number(machine uint64, h *host.Snapshot, m memory, c *Container) (n uint64) {
	switch s.kind {
	case vmstatMemory:
		n = s.row.number(h, m, c)
		if s.row.most {
			n = min(n, machine)
		}
	case vmstatEvent:
		if c.Policy.NoSwap && isSwapEvent(s.event) {
			return 0
		}
		n = c.Events.Count[s.event]
	case vmstatRead:
		n = c.IO.Read >> 10
	case vmstatWritten:
		n = c.IO.Written >> 10
	}
	return min(n, math.MaxInt64)
}

// explainVMStat says where the container's rows are from.
func explainVMStat(h *host.Snapshot, c *Container) (numbers []Number) {
	m := newMemory(h, c)
	for rest := h.VMStat; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		key, machine, ok := parseVMStat(line)
		source := findVMStat(key, c)
		if source == nil || !ok {
			continue
		}
		n := source.explain(m, c)
		n.Key, n.Value = string(key), source.number(machine, h, m, c)
		numbers = append(numbers, n)
	}
	return numbers
}

// explain is a row's source, without key and value.
func (s *vmstatSource) explain(m memory, c *Container) (n Number) {
	switch s.kind {
	case vmstatMemory:
		n = s.row.of.explain(m, c)
		n.Unit = s.row.unit.String()
		if of := s.row.of.key; of != "" {
			if s.row.plus != nil {
				of += " + " + s.row.plus.key
			}
			n.Rule = of + " of meminfo: " + n.Rule
		}
	case vmstatEvent:
		if c.Policy.NoSwap && isSwapEvent(s.event) {
			return Number{Rule: "swap is turned off"}
		}
		n = Number{Source: "memory.stat " + s.event.String(), Level: c.Events.Path, Rule: "the container's own counter"}
		if c.Events.Version == cgroup.V1 {
			n.Source = "memory.stat total_" + s.event.String()
		}
	case vmstatRead, vmstatWritten:
		n = Number{Unit: "kB", Source: "io.stat rbytes", Level: c.IO.Path, Rule: "block I/O on all devices"}
		switch {
		case c.IO.Version == cgroup.V1:
			n.Source = "blkio.throttle.io_service_bytes"
		case s.kind == vmstatWritten:
			n.Source = "io.stat wbytes"
		}
	}
	return n
}
