package cgroup

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
)

// maxCPUs bounds CPU numbers: the largest NR_CPUS that a kernel can be built with (x86, MAXSMP). Text that says more
// is not the kernel's.
const maxCPUs = 8192

// ParseCPUList appends the CPUs (or the nodes, of which there are fewer) of a list in the kernel's format, such as
// "0-3,8" of cpuset.cpus.effective, to dst, ascending and without doubles. A trailing newline and blanks around items are
// accepted, and nothing is an empty list. CPU numbers are below 8192.
func ParseCPUList(dst []int, text []byte) ([]int, error) {
	rest := bytes.TrimSpace(text)
	if len(rest) == 0 {
		return dst, nil
	}
	var set [maxCPUs / 64]uint64
	for more := true; more; {
		var item []byte
		item, rest, more = bytes.Cut(rest, []byte{','})
		low, high, isRange := bytes.Cut(bytes.TrimSpace(item), []byte{'-'})
		if !isRange {
			high = low
		}
		first, ok1 := parseUint(low)
		last, ok2 := parseUint(high)
		if !ok1 || !ok2 || first > last || last >= maxCPUs {
			return dst, fmt.Errorf("cgroup: no CPU list: %.100q", text)
		}
		for cpu := first; cpu <= last; cpu++ {
			set[cpu/64] |= 1 << (cpu % 64)
		}
	}
	for i, word := range set {
		for ; word != 0; word &= word - 1 {
			dst = append(dst, i*64+bits.TrailingZeros64(word))
		}
	}
	return dst, nil
}

// AppendCPUList appends ascending CPU numbers to dst in the kernel's format, without a newline.
func AppendCPUList(dst []byte, cpus []int) []byte {
	for i := 0; i < len(cpus); {
		end := i
		for end+1 < len(cpus) && cpus[end+1] == cpus[end]+1 {
			end++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(cpus[i]), 10)
		if end > i {
			dst = append(dst, '-')
			dst = strconv.AppendInt(dst, int64(cpus[end]), 10)
		}
		i = end + 1
	}
	return dst
}
