package view

import (
	"bytes"
	"math"

	"github.com/scopefs/scopefs/fs/host"
)

// Slabinfo renders /proc/slabinfo: the container's caches where the kernel counts them (v1 before Linux 5.9), else the
// machine's caches, empty: slabtop before procps 4 fails on a file without caches, which no kernel has. It needs
// NeedSlabinfo.
func Slabinfo(dst []byte, h *host.Snapshot, c *Container) []byte {
	switch {
	case !hasMemory(c):
		return append(dst, h.Slabinfo...)
	case len(c.Slabinfo) > 0:
		return append(dst, c.Slabinfo...)
	}
	for rest := h.Slabinfo; len(rest) > 0; {
		var line []byte
		if line, rest = cutLine(rest); isCache(line) {
			dst = appendEmptyCache(dst, line)
		} else {
			dst = append(dst, line...)
		}
	}
	return dst
}

// slabSection is what the sections of a line of /proc/slabinfo have between them.
var slabSection = []byte(" : ")

// isCache tells the line of a cache from the two of the header.
func isCache(line []byte) bool { return line[0] != '#' && bytes.Contains(line, slabSection) }

// appendEmptyCache appends the line of a cache, "dentry 5 6 192 21 1 : tunables 0 0 0 : slabdata 1 1 0", with 0 for each
// number of objects and of slabs. What describes one object or slab, and the tunables, stay.
func appendEmptyCache(dst, line []byte) []byte {
	const counts = 2 // active_objs and num_objs, before objsize, objperslab and pagesperslab
	section, rest, more := bytes.Cut(line, slabSection)
	dst = appendZeroed(dst, section, counts)
	for more {
		section, rest, more = bytes.Cut(rest, slabSection)
		dst = append(dst, slabSection...)
		if bytes.HasPrefix(section, []byte("tunables")) {
			dst = append(dst, section...)
		} else { // slabdata, and what debugging kernels add
			dst = appendZeroed(dst, section, len(section))
		}
	}
	return dst
}

// appendZeroed appends a section with 0 for the first n numbers behind its name, in the columns of the kernel.
func appendZeroed(dst, section []byte, n int) []byte {
	const width = 6
	_, rest := cutField(section)
	dst = append(dst, section[:len(section)-len(rest)]...)
	for range n {
		field, after := cutField(rest)
		if _, digits := number(field); len(field) == 0 || digits < len(field) {
			break
		}
		dst = append(dst, rest[:len(rest)-len(field)-len(after)]...)
		for range min(len(field), width) - 1 {
			dst = append(dst, ' ')
		}
		dst, rest = append(dst, '0'), after
	}
	return append(dst, rest...)
}

// explainSlabinfo says how many objects the caches hold.
func explainSlabinfo(c *Container) []Number {
	if !hasMemory(c) {
		return nil
	}
	n := Number{Key: "num_objs", Rule: ruleNone}
	if len(c.Slabinfo) > 0 {
		n.Source, n.Level = "memory.kmem.slabinfo", c.Memory.Levels[0].Path
		n.Rule = "all of the container's own caches, without those of cgroups below"
	}
	for rest := c.Slabinfo; len(rest) > 0; {
		var line []byte
		if line, rest = cutLine(rest); isCache(line) {
			_, line = cutField(line) // the name
			_, line = cutField(line) // active_objs
			objects, _ := cutField(line)
			count, _ := number(objects)
			n.Value = min(n.Value+count, math.MaxInt64)
		}
	}
	return []Number{n}
}
