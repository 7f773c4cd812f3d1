package view

import (
	"bytes"
	"strconv"
)

// The kernel's lists of CPUs and nodes, such as "0-3,8\n", are rewritten from one text to another, and not by way of a
// slice: a machine may have thousands of CPUs.

// A listRange is an item of a list: one number or several that follow each other.
type listRange struct{ first, last int }

// maxListed bounds the numbers in a list: no kernel has more CPUs or nodes (NR_CPUS ≤ 8192).
const maxListed = 8192

// A listReader reads the items of a list, which ascend.
type listReader struct {
	rest []byte
	last int  // number of the item before
	bad  bool // it is no list
}

func readList(text []byte) listReader { return listReader{rest: bytes.TrimSpace(text), last: -1} }

// next is the next item; ok is false behind the last one, and where the text is no list.
func (l *listReader) next() (r listRange, ok bool) {
	if len(l.rest) == 0 {
		return r, false
	}
	first, digits := number(l.rest)
	last, end := first, digits
	if digits > 0 && end < len(l.rest) && l.rest[end] == '-' {
		last, digits = number(l.rest[end+1:])
		end += 1 + digits
	}
	more := end < len(l.rest)-1 && l.rest[end] == ','
	if digits == 0 || !more && end < len(l.rest) || first > last || last >= maxListed || int(first) <= l.last {
		l.rest, l.bad = nil, true
		return r, false
	}
	if more {
		end++
	}
	l.rest, l.last = l.rest[end:], int(last)
	return listRange{int(first), int(last)}, true
}

// A listWriter appends a list of numbers, which are added in ascending order.
type listWriter struct {
	dst  []byte
	r    listRange // what is not appended yet
	open bool      // there is such
	some bool      // there is one before it
}

func (w *listWriter) add(n int) {
	if w.open && n == w.r.last+1 {
		w.r.last = n
		return
	}
	w.flush()
	w.r, w.open = listRange{n, n}, true
}

func (w *listWriter) flush() {
	if !w.open {
		return
	}
	if w.some {
		w.dst = append(w.dst, ',')
	}
	w.dst = strconv.AppendInt(w.dst, int64(w.r.first), 10)
	if w.r.last > w.r.first {
		w.dst = append(w.dst, '-')
		w.dst = strconv.AppendInt(w.dst, int64(w.r.last), 10)
	}
	w.open, w.some = false, true
}

// end is the list.
func (w *listWriter) end() []byte {
	w.flush()
	return w.dst
}
