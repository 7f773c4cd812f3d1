package view

import (
	"bytes"
	"strconv"

	"github.com/scopefs/scopefs/fs/host"
)

// Cpuinfo renders /proc/cpuinfo: one block for each visible CPU, from the machine's block of the physical CPU behind
// it, numbered from 0 and with the topology of one package of single-threaded cores. It needs NeedCpuinfo.
func Cpuinfo(dst []byte, h *host.Snapshot, c *Container) []byte {
	info := h.Cpuinfo
	if c == nil || len(c.CPUs) == 0 || info == nil || len(info.Blocks) == 0 {
		return append(dst, cpuinfoText(h)...)
	}
	for rest := info.Head; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if key, _ := cutKey(line); string(key) == "# processors" { // s390x
			dst = appendValue(dst, line, len(c.CPUs))
		} else {
			dst = append(dst, line...)
		}
	}
	dst = appendBlocks(dst, info.Blocks, c)
	dst = appendBlocks(dst, info.Details, c)
	return append(dst, info.Tail...)
}

// cpuinfoText is the host's /proc/cpuinfo, if it was read.
func cpuinfoText(h *host.Snapshot) []byte {
	if h.Cpuinfo == nil {
		return nil
	}
	return h.Cpuinfo.Raw
}

// appendBlocks appends a block for each visible CPU.
func appendBlocks(dst []byte, blocks []host.CPUBlock, c *Container) []byte {
	if len(blocks) == 0 {
		return dst
	}
	for i, cpu := range c.CPUs {
		for rest := blockOf(blocks, cpu).Text; len(rest) > 0; {
			var line []byte
			line, rest = cutLine(rest)
			dst = appendBlockLine(dst, line, c.Number(i), len(c.CPUs))
		}
	}
	return dst
}

// blockOf finds the block of a CPU. A CPU that has none, because it went offline, is given the nearest one before it:
// the number of blocks must be that of the visible CPUs.
func blockOf(blocks []host.CPUBlock, cpu int) host.CPUBlock {
	// The kernel prints them in ascending order and leaves out what is offline: block i is of a CPU ≥ i.
	i := min(max(cpu, 0), len(blocks)-1)
	for i > 0 && blocks[i].CPU > cpu {
		i--
	}
	return blocks[i]
}

// appendBlockLine appends one line of the block of visible CPU number i, one of n.
func appendBlockLine(dst, line []byte, i, n int) []byte {
	key, ok := cutKey(line)
	if !ok {
		return append(dst, line...)
	}
	switch string(key) {
	case "processor", "cpu number", // the latter of s390x
		"core id", "apicid", "initial apicid",
		"core", "global_id": // loongarch64
		return appendValue(dst, line, i)
	case "siblings", "cpu cores":
		return appendValue(dst, line, n)
	case "physical id", "package", // the latter of loongarch64
		"book id", "drawer id": // s390x: what packages sit in
		return appendValue(dst, line, 0)
	}
	if number, ok := bytes.CutPrefix(key, []byte("processor ")); ok { // s390x: "processor 3: version = …"
		dst = append(dst, "processor "...)
		dst = strconv.AppendInt(dst, int64(i), 10)
		return append(dst, line[len("processor ")+len(number):]...)
	}
	return append(dst, line...)
}

// cutKey is what stands before the colon of a line, without the blanks that align it.
func cutKey(line []byte) (key []byte, ok bool) {
	end := bytes.IndexByte(line, ':')
	if end < 0 {
		return line, false
	}
	for end > 0 && isBlank(line[end-1]) {
		end--
	}
	return line[:end], true
}

// appendValue appends a "key : value" line with another value, and with the blanks of the old one.
func appendValue(dst, line []byte, value int) []byte {
	start := bytes.IndexByte(line, ':') + 1
	for start < len(line) && (line[start] == ' ' || line[start] == '\t') {
		start++
	}
	dst = append(dst, line[:start]...)
	dst = strconv.AppendInt(dst, int64(value), 10)
	if bytes.HasSuffix(line, []byte{'\n'}) {
		dst = append(dst, '\n')
	}
	return dst
}
