package cgroup

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// slabinfoFile is memory.kmem.slabinfo of v1. The kernel hands out a page of it at a time and looks for the place where it
// left off, so one reader reads all of it.
type slabinfoFile struct {
	mu   sync.Mutex
	file *file // nil: not on v1
}

// ReadSlabinfo appends to dst the slab caches of the Group itself, without what is below it, in the format of
// /proc/slabinfo: memory.kmem.slabinfo of v1. It appends nothing where there is none, as on v2, and where it is empty, as
// it is since Linux 5.9.
func (g *Group) ReadSlabinfo(dst []byte) ([]byte, error) {
	f := &g.slabinfo
	if err := g.check(); err != nil || f.file == nil {
		return dst, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := getScratch()
	defer s.put()
	if _, err := f.file.read(s); err == errMissing {
		return dst, nil
	} else if err != nil {
		return dst, err
	}
	return f.file.appendAll(dst)
}

// minPread is the least room that a read of a long file is given.
const minPread = 4096

// appendAll appends the whole of a file that is open. It fails with ErrGone if that is of a cgroup that went away.
func (f *file) appendAll(dst []byte) ([]byte, error) {
	length := len(dst)
	d := f.open.Load()
	if d == nil {
		return dst, ErrGone
	}
	for off := int64(0); ; {
		dst = slices.Grow(dst, minPread)
		var n int
		var err error
		buf := dst[len(dst):cap(dst)]
		if control := d.conn.Control(func(fd uintptr) {
			for {
				if n, err = unix.Pread(int(fd), buf, off); err != unix.EINTR {
					return
				}
			}
		}); control != nil {
			err = control
		}
		if err != nil {
			return dst[:length], f.wrap("read", err)
		}
		if n <= 0 {
			return dst, nil
		}
		dst, off = dst[:len(dst)+n], off+int64(n)
	}
}
