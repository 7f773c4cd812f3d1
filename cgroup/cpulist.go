package cgroup

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
)

// maxCPUs bounds the numbers of a CPU list, so that no text can ask for more memory than any machine needs. It is
// the largest CONFIG_NR_CPUS of any architecture.
const maxCPUs = 8192

// ParseCPUList appends the CPUs of a list in the kernel's format ("0-3,8\n") to dst in ascending order. Blanks around
// the numbers are ignored; an empty text is an empty list.
func ParseCPUList(dst []int, text []byte) ([]int, error) {
	start := len(dst)
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		part := rest
		if i := bytes.IndexByte(rest, ','); i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		low, high := part, part
		if i := bytes.IndexByte(part, '-'); i >= 0 {
			low, high = part[:i], part[i+1:]
		}
		first, ok1 := parseCPU(low)
		last, ok2 := parseCPU(high)
		if !ok1 || !ok2 || first > last || len(dst)-start+last-first >= maxCPUs {
			return dst[:start], fmt.Errorf("CPU list: bad range %q", part)
		}
		for cpu := first; cpu <= last; cpu++ {
			dst = append(dst, cpu)
		}
	}
	slices.Sort(dst[start:])
	return append(dst[:start], slices.Compact(dst[start:])...), nil
}

func parseCPU(text []byte) (cpu int, ok bool) {
	text = bytes.TrimSpace(text)
	for _, c := range text {
		if c < '0' || c > '9' || cpu >= maxCPUs {
			return 0, false
		}
		cpu = cpu*10 + int(c-'0')
	}
	return cpu, len(text) > 0 && cpu < maxCPUs
}

// AppendCPUList appends ascending CPUs in the kernel's list format ("0-3,8"), without a newline.
func AppendCPUList(dst []byte, cpus []int) []byte {
	for i := 0; i < len(cpus); {
		last := i
		for last+1 < len(cpus) && cpus[last+1] == cpus[last]+1 {
			last++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(cpus[i]), 10)
		if last > i {
			dst = append(dst, '-')
			dst = strconv.AppendInt(dst, int64(cpus[last]), 10)
		}
		i = last + 1
	}
	return dst
}
