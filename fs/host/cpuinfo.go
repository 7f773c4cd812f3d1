package host

import "bytes"

// ParseCpuinfo cuts the text of /proc/cpuinfo into the blocks of its processors. It knows two layouts: blocks that start
// with "processor : N" (x86, arm, arm64, ppc64le, riscv64, loongarch64), and s390x's one-line blocks "processor N: …"
// with the "cpu number : N" blocks of newer kernels behind them. The result keeps raw and shares its memory.
func ParseCpuinfo(raw []byte) *Cpuinfo {
	info := &Cpuinfo{Raw: raw}
	var starts cuts
	end := 0      // of the last block so far
	open := false // the last block still takes lines
	blank := -1   // offset of the blank line just before this one
	for pos := 0; pos < len(raw); {
		line := raw[pos:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		next := pos + len(line)
		cpu, kind := blockStart(line)
		switch {
		case kind == startDetail:
			// The blank line before it is printed with it (arch/s390/kernel/processor.c, show_cpuinfo).
			from := pos
			if blank >= 0 {
				from = blank
			}
			starts.details = append(starts.details, cut{cpu, from})
			open, end = true, next
		case kind != startNone && len(starts.details) == 0:
			starts.blocks = append(starts.blocks, cut{cpu, pos})
			open, end = kind == startBlock, next
		case open:
			end = next
		}
		blank = -1
		if len(bytes.TrimSpace(line)) == 0 {
			blank = pos
			// A detail's own blank line stands before it: one behind the last detail starts the tail.
			if open && len(starts.details) > 0 {
				end = pos
			}
			open = false
		}
		pos = next
	}
	return info.cutAt(starts, end)
}

// A cut is where the block of a CPU starts.
type cut struct{ cpu, at int }

type cuts struct{ blocks, details []cut }

// cutAt slices Raw. A block reaches to the next one, so that lines between two blocks stay with the first.
func (info *Cpuinfo) cutAt(starts cuts, end int) *Cpuinfo {
	raw := info.Raw
	var values []CPUValue // of all blocks
	blocksEnd := end
	if len(starts.details) > 0 {
		blocksEnd = starts.details[0].at
	}
	slice := func(starts []cut, end int) []CPUBlock {
		blocks := make([]CPUBlock, len(starts))
		for i, s := range starts {
			to := end
			if i+1 < len(starts) {
				to = starts[i+1].at
			}
			blocks[i] = CPUBlock{CPU: s.cpu, Text: raw[s.at:to], Package: -1, Core: -1}
			values = blocks[i].parse(values)
		}
		countPackages(blocks)
		return blocks
	}
	info.Blocks = slice(starts.blocks, blocksEnd)
	info.Details = slice(starts.details, end)
	switch {
	case len(starts.blocks) > 0:
		info.Head = raw[:starts.blocks[0].at]
	default:
		info.Head = raw[:blocksEnd]
	}
	info.Tail = raw[end:]
	return info
}

// parse finds where the CPU sits, and its values, which it appends to those of the blocks before.
func (b *CPUBlock) parse(values []CPUValue) []CPUValue {
	first := len(values)
	for pos := 0; pos < len(b.Text); {
		line := b.Text[pos:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i]
		}
		start := pos
		pos += len(line) + 1
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			continue
		}
		v := CPUValue{Start: colon + 1, End: len(line)}
		for v.Start < v.End && (line[v.Start] == ' ' || line[v.Start] == '\t') {
			v.Start++
		}
		key := bytes.TrimSpace(line[:colon])
		switch string(key) {
		case "physical id", "package":
			if n, ok := cpuNumber(bytes.TrimSpace(line[v.Start:])); ok {
				b.Package = n
			}
			continue
		case "core id", "core":
			if n, ok := cpuNumber(bytes.TrimSpace(line[v.Start:])); ok {
				b.Core = n
			}
			continue
		case "processor", "cpu number": // the latter of s390x
			v.Kind = CPUNumber
		case "siblings":
			v.Kind = CPUSiblings
		case "cpu cores":
			v.Kind = CPUCores
		default:
			digits, ok := bytes.CutPrefix(line[:len(key)], []byte("processor ")) // s390x: "processor 3: version = …"
			if !ok {
				continue
			}
			v.Kind, v.Start, v.End = CPUNumber, len("processor "), len("processor ")+len(digits)
		}
		var ok bool
		if v.N, ok = cpuNumber(bytes.TrimSpace(line[v.Start:v.End])); !ok {
			v.N = -1
		}
		v.Start, v.End = start+v.Start, start+v.End
		values = append(values, v)
	}
	b.Values = values[first:len(values):len(values)]
	return values
}

// countPackages counts the CPUs and cores of each block's package.
func countPackages(blocks []CPUBlock) {
	cpus, cores, seen := map[int]int{}, map[int]int{}, map[[2]int]bool{}
	for _, b := range blocks {
		cpus[b.Package]++
		if core := [2]int{b.Package, b.Core}; !seen[core] {
			seen[core] = true
			cores[b.Package]++
		}
	}
	for i := range blocks {
		b := &blocks[i]
		b.PackageCPUs, b.PackageCores = cpus[b.Package], cores[b.Package]
	}
}

type startKind uint8

const (
	startNone   startKind = iota
	startBlock            // "processor\t: 0"
	startLine             // "processor 0: version = …", a block of one line
	startDetail           // "cpu number      : 0"
)

// blockStart says whether a line starts the block of a CPU, and of which.
func blockStart(line []byte) (cpu int, kind startKind) {
	key, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return 0, startNone
	}
	key = bytes.TrimSpace(key)
	switch string(key) {
	case "processor":
		kind = startBlock
	case "cpu number":
		kind = startDetail
	default:
		value, ok = bytes.CutPrefix(key, []byte("processor "))
		if !ok {
			return 0, startNone
		}
		kind = startLine
	}
	cpu, ok = cpuNumber(bytes.TrimSpace(value))
	if !ok {
		return 0, startNone
	}
	return cpu, kind
}

// cpuNumber parses a decimal CPU number. More than six digits are none of a CPU.
func cpuNumber(text []byte) (n int, ok bool) {
	if len(text) == 0 || len(text) > 6 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
