package view

import (
	"bytes"

	"github.com/scopefs/scopefs/fs/host"
)

// Slabinfo renders /proc/slabinfo: the container's caches where the kernel counts them (v1 before Linux 5.9), else no
// caches, which is the two lines of the header. It needs NeedSlabinfo.
func Slabinfo(dst []byte, h *host.Snapshot, c *Container) []byte {
	switch {
	case !hasMemory(c):
		return append(dst, h.Slabinfo...)
	case len(c.Slabinfo) > 0:
		return append(dst, c.Slabinfo...)
	}
	version, rest := cutLine(h.Slabinfo)
	columns, _ := cutLine(rest)
	return append(append(dst, version...), columns...)
}

// explainSlabinfo says how many caches are shown.
func explainSlabinfo(c *Container) []Number {
	if !hasMemory(c) {
		return nil
	}
	const header = 2
	n := Number{Key: "caches", Rule: ruleNone}
	if len(c.Slabinfo) > 0 {
		n.Value = sub(uint64(bytes.Count(c.Slabinfo, []byte{'\n'})), header)
		n.Source, n.Level = "memory.kmem.slabinfo", c.Memory.Levels[0].Path
		n.Rule = "the container's own caches, without those of cgroups below"
	}
	return []Number{n}
}
