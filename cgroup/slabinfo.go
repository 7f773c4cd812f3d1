package cgroup

import (
	"slices"

	"golang.org/x/sys/unix"
)

// ReadSlabinfo appends to dst the slab caches of the Group itself, without what is below it, in the format of
// /proc/slabinfo: memory.kmem.slabinfo of v1. It appends nothing where there is none, as on v2, and where it is empty, as
// it is since Linux 5.9.
//
// The kernel hands out a page of the file at a time and looks for the place where it left off, so one reader reads all
// of it, with a descriptor of his own.
func (g *Group) ReadSlabinfo(dst []byte) ([]byte, error) {
	d := g.own[memory]
	if err := g.check(); err != nil || d == nil {
		return dst, err
	}
	s := getScratch()
	defer s.put()
	if text, err := d.read(slabinfo, s); err == errMissing || err == nil && len(text) == 0 {
		return dst, nil
	} else if err != nil {
		return dst, err
	}
	d.mu.Lock()
	fd, err := d.open(slabinfo, unix.O_RDONLY)
	d.mu.Unlock()
	if err != nil {
		return dst, d.wrap("open", slabinfo, err)
	}
	defer unix.Close(fd)
	length := len(dst)
	for {
		dst = slices.Grow(dst, minPread)
		n, err := pread(fd, dst[len(dst):cap(dst)], int64(len(dst)-length))
		if err != nil {
			return dst[:length], d.wrap("read", slabinfo, err)
		}
		if n == 0 {
			return dst, nil
		}
		dst = dst[:len(dst)+n]
	}
}

// minPread is the least room that a read of a long file is given.
const minPread = 4096
