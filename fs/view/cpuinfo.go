package view

import (
	"bytes"
	"strconv"

	"github.com/scopefs/scopefs/fs/host"
)

// Cpuinfo renders /proc/cpuinfo: one block for each visible CPU, from the machine's block of the physical CPU behind
// it. Where that sits (package, core, apicid) stays, as in /sys/devices/system/cpu; what counts CPUs or cores counts the
// visible ones. It needs NeedCpuinfo.
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
	var seen [16]visiblePackage // at their numbers, modulo: CPUs of two packages often take turns
	for i, cpu := range c.CPUs {
		block := blockOf(blocks, cpu)
		done := 0
		for j := range block.Values {
			v := &block.Values[j]
			n := c.Number(i)
			if v.Kind != host.CPUNumber {
				p := &seen[uint(block.Package)%uint(len(seen))]
				if p.cpus == 0 || p.pkg != block.Package {
					*p = visibleOf(block.Package, blocks, c)
				}
				if v.Kind == host.CPUSiblings {
					n = restrict(v.N, block.PackageCPUs, p.cpus, len(c.CPUs))
				} else {
					n = restrict(v.N, block.PackageCores, p.cores, len(c.CPUs))
				}
			}
			dst = append(dst, block.Text[done:v.Start]...)
			dst = strconv.AppendInt(dst, int64(n), 10)
			done = v.End
		}
		dst = append(dst, block.Text[done:]...)
	}
	return dst
}

// visiblePackage is what is visible of a package: CPUs, and their cores.
type visiblePackage struct{ pkg, cpus, cores int }

func visibleOf(pkg int, blocks []host.CPUBlock, c *Container) visiblePackage {
	p := visiblePackage{pkg: pkg}
	var seen [1 << 16 / 64]uint64 // cores by their ids, which are apicids on x86
	for _, cpu := range c.CPUs {
		b := blockOf(blocks, cpu)
		if b.Package != pkg {
			continue
		}
		p.cpus++
		word, bit := max(b.Core, 0)/64, uint(max(b.Core, 0)%64)
		if word >= len(seen) || seen[word]>>bit&1 == 0 {
			p.cores++
		}
		if word < len(seen) {
			seen[word] |= 1 << bit
		}
	}
	return p
}

// restrict turns the number that the kernel printed for a package of the machine into that of its visible part. all and
// visible are what the blocks show of them. Where the kernel counts otherwise than by package (s390x without topology
// information), it is what fits into the n visible CPUs.
func restrict(was, all, visible, n int) int {
	if was != all {
		return min(max(was, 0), n)
	}
	return visible
}

// blockOf finds the block of a CPU. A CPU that has none, because it went offline, is given the nearest one before it:
// the number of blocks must be that of the visible CPUs.
func blockOf(blocks []host.CPUBlock, cpu int) *host.CPUBlock {
	// The kernel prints them in ascending order and leaves out what is offline: block i is of a CPU ≥ i.
	i := min(max(cpu, 0), len(blocks)-1)
	for i > 0 && blocks[i].CPU > cpu {
		i--
	}
	return &blocks[i]
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

// valueStart is where the value of a "key : value" line starts.
func valueStart(line []byte) int {
	start := bytes.IndexByte(line, ':') + 1
	for start < len(line) && (line[start] == ' ' || line[start] == '\t') {
		start++
	}
	return start
}

// appendValue appends a "key : value" line with another value, and with the blanks of the old one.
func appendValue(dst, line []byte, value int) []byte {
	dst = append(dst, line[:valueStart(line)]...)
	dst = strconv.AppendInt(dst, int64(value), 10)
	if bytes.HasSuffix(line, []byte{'\n'}) {
		dst = append(dst, '\n')
	}
	return dst
}
