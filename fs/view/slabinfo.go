package view

import (
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
