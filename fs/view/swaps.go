package view

import (
	"bytes"
	"strconv"

	"github.com/scopefs/scopefs/fs/host"
)

// Swaps renders /proc/swaps: the header, and where the container has swap one line that says the same as its meminfo.
// It needs NeedSwaps and NeedMeminfo.
func Swaps(dst []byte, h *host.Snapshot, c *Container) []byte {
	header, rows := cutLine(h.Swaps)
	if noSwap(c) {
		return append(dst, header...)
	}
	if !hasMemory(c) || len(h.Meminfo) == 0 {
		return append(dst, h.Swaps...)
	}
	dst = append(dst, header...)
	m := newMemory(h, c)
	total, free := m.swapTotal.bytes>>10, m.swapFree.bytes>>10
	if len(header) == 0 || total == 0 {
		return dst
	}
	// mm/swapfile.c, swap_show: the name padded to 40 columns, the type to 16, and since Linux 5.9 the numbers to 16,
	// which the header shows. A partition would need a device: the type is the one LXCFS made known.
	const name, kind = "none                                    ", "virtual\t"
	wide := bytes.Contains(header, []byte("Size\t\tUsed"))
	dst = append(dst, name...)
	dst = append(dst, kind...)
	dst = appendSwapSize(dst, total, wide)
	dst = appendSwapSize(dst, total-free, wide)
	dst = append(dst, '\t')
	dst = appendSwapPriority(dst, rows)
	return append(dst, '\n')
}

// appendSwapSize appends a number of kB in its column.
func appendSwapSize(dst []byte, kB uint64, wide bool) []byte {
	dst = append(dst, '\t')
	dst = strconv.AppendUint(dst, kB, 10)
	if wide && kB < 10_000_000 {
		dst = append(dst, '\t')
	}
	return dst
}

// appendSwapPriority appends the last field of the first of the machine's rows, or what the kernel gives the first swap
// area.
func appendSwapPriority(dst, rows []byte) []byte {
	line, _ := cutLine(rows)
	var field []byte
	for range 5 {
		field, line = cutField(line)
	}
	if len(field) == 0 {
		return append(dst, "-2"...)
	}
	return append(dst, field...)
}
