package view

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// A Rewriter appends to dst what a container reads in a file below /sys/devices/system. text is the machine's file;
// number is the machine's number of the CPU, policy or node that the file belongs to, -1 where it belongs to none.
type Rewriter func(dst, text []byte, number int, h *host.Snapshot, c *Container) []byte

// CPUNumber is what a physical CPU is called; ok is false where the container does not see it. A container without CPUs
// of its own sees the machine's.
func (c *Container) CPUNumber(cpu int) (number int, ok bool) {
	if c == nil || len(c.CPUs) == 0 {
		return cpu, true
	}
	i, ok := slices.BinarySearch(c.CPUs, cpu)
	if !ok {
		return 0, false
	}
	return c.Number(i), true
}

// PhysicalCPU is the physical CPU behind the one that is called number; ok is false where there is none of that number.
func (c *Container) PhysicalCPU(number int) (cpu int, ok bool) {
	switch {
	case c == nil || len(c.CPUs) == 0:
		return number, true
	case c.Policy.CPUIdentity == policy.IDs:
		_, ok = slices.BinarySearch(c.CPUs, number)
		return number, ok
	case number < 0 || number >= len(c.CPUs):
		return 0, false
	}
	return c.CPUs[number], true
}

// CPUList rewrites a list such as "0-3,8\n" to the visible CPUs, as they are called. What is no list passes through.
func CPUList(dst, text []byte, _ int, _ *host.Snapshot, c *Container) []byte {
	if c == nil || len(c.CPUs) == 0 {
		return append(dst, text...)
	}
	list, out := readList(text), listWriter{dst: dst}
	i := 0 // of the first visible CPU that is not below the range
	for r, ok := list.next(); ok; r, ok = list.next() {
		for ; i < len(c.CPUs) && c.CPUs[i] <= r.last; i++ {
			if c.CPUs[i] >= r.first {
				out.add(c.Number(i))
			}
		}
	}
	if list.bad {
		return append(dst, text...)
	}
	return appendNewline(out.end(), text)
}

// CPUNumbers rewrites numbers with blanks between them, such as affected_cpus of cpufreq, in the same way.
func CPUNumbers(dst, text []byte, _ int, _ *host.Snapshot, c *Container) []byte {
	if c == nil || len(c.CPUs) == 0 {
		return append(dst, text...)
	}
	start := len(dst)
	for rest := text; ; {
		var field []byte
		if field, rest = cutField(rest); len(field) == 0 {
			return appendNewline(dst, text)
		}
		cpu, digits := number(field)
		if digits != len(field) {
			return append(dst[:start], text...)
		}
		called, ok := c.CPUNumber(int(cpu))
		if !ok {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = strconv.AppendInt(dst, int64(called), 10)
	}
}

// FirstCPU is what the first visible CPU of a text like that of [CPUNumbers] is called; ok is false where none is visible.
func (c *Container) FirstCPU(text []byte) (called int, ok bool) {
	n, digits := number(CPUNumbers(nil, text, -1, nil, c))
	return int(n), digits > 0
}

// CPUMask rewrites a mask such as "ff,00000003\n", hexadecimal digits in groups of 32 CPUs, in the same way. It keeps the
// width, which says how many CPUs the kernel can have.
func CPUMask(dst, text []byte, _ int, _ *host.Snapshot, c *Container) []byte {
	mask := bytes.TrimSuffix(text, []byte{'\n'})
	if c == nil || len(c.CPUs) == 0 || !isMask(mask) {
		return append(dst, text...)
	}
	start := len(dst)
	for _, digit := range mask {
		if digit != ',' {
			digit = '0'
		}
		dst = append(dst, digit)
	}
	out := dst[start:]
	for i, cpu := range c.CPUs {
		at := maskDigit(mask, cpu)
		if at < 0 {
			break
		}
		if hexDigit(mask[at])>>(cpu%4)&1 == 0 {
			continue
		}
		called := c.Number(i)
		digit := &out[maskDigit(out, called)] // there is one: no CPU is called by a higher number than its own
		*digit = "0123456789abcdef"[hexDigit(*digit)|1<<(called%4)]
	}
	return appendNewline(dst, text)
}

// maskDigit is where a mask has the digit of a CPU, negative where it has none: there is a comma behind every eighth,
// counted from the right.
func maskDigit(mask []byte, cpu int) int {
	digit := cpu / 4
	return len(mask) - 1 - digit - digit/8
}

func isMask(text []byte) bool {
	for i, c := range text {
		fromRight := len(text) - 1 - i
		switch {
		case fromRight%9 == 8:
			if c != ',' || i == 0 {
				return false
			}
		case !isDigit(c) && (c < 'a' || c > 'f'):
			return false
		}
	}
	return len(text) > 0
}

// KernelMax rewrites kernel_max, the largest number that a CPU can have: the machine's, unless the policy is coherent.
func KernelMax(dst, text []byte, _ int, _ *host.Snapshot, c *Container) []byte {
	if c == nil || len(c.CPUs) == 0 || c.Policy.CPUIdentity != policy.Coherent {
		return append(dst, text...)
	}
	return appendNewline(strconv.AppendInt(dst, int64(len(c.CPUs)-1), 10), text)
}

// NoCPUs rewrites a list to an empty one, as the kernel prints it: an empty line, where the machine's is not one
// already: some kernels print " (null)" for a mask that they never made.
func NoCPUs(dst, text []byte, _ int, _ *host.Snapshot, c *Container) []byte {
	if c == nil || len(c.CPUs) == 0 || !bytes.ContainsAny(text, "0123456789") {
		return append(dst, text...)
	}
	return append(dst, '\n')
}

// appendNewline ends dst as text ends.
func appendNewline(dst, text []byte) []byte {
	if bytes.HasSuffix(text, []byte{'\n'}) {
		dst = append(dst, '\n')
	}
	return dst
}

func hexDigit(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c - 'a' + 10
}
