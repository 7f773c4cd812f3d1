package cgroup

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// file is one file of a cgroup, opened by the first read and kept open.
type file struct {
	dir          *dir
	name         string
	open         atomic.Pointer[descriptor]
	missingUntil atomic.Int64 // as scratch.now
}

// descriptor is an open file. An os.File counts its users, so that closing it during a read cannot make the read one
// of a stranger's descriptor.
type descriptor struct {
	file *os.File
	conn syscall.RawConn
}

// scratch is what one call needs to read files: a buffer, and the time.
type scratch struct {
	now int64 // monotonic, ns
	buf []byte

	pread func(fd uintptr) // method value of doPread, made once as making it allocates
	n     int
	err   error
}

// The buffer takes memory.stat as it is today; usage_all of a large machine makes it grow.
var scratches = sync.Pool{New: func() any {
	s := &scratch{buf: make([]byte, 8<<10)}
	s.pread = s.doPread
	return s
}}

var started = time.Now()

// getScratch returns a scratch to be given back to the pool with put.
func getScratch() *scratch {
	s := scratches.Get().(*scratch)
	s.now = int64(time.Since(started))
	return s
}

func (s *scratch) put() { scratches.Put(s) }

func (s *scratch) doPread(fd uintptr) {
	for {
		s.n, s.err = unix.Pread(int(fd), s.buf, 0)
		if s.err != unix.EINTR {
			return
		}
	}
}

// read reads the file with a single pread: a second one, which os.File.ReadAt does to see the end, costs as much
// again and may be of other content, as descriptors are shared.
func (s *scratch) read(d *descriptor) ([]byte, error) {
	for {
		// Not RawConn.Read, which lets one reader in at a time.
		if err := d.conn.Control(s.pread); err != nil {
			return nil, os.ErrClosed
		}
		if s.err != nil {
			return nil, s.err
		}
		if s.n < len(s.buf) {
			return s.buf[:s.n], nil
		}
		s.buf = make([]byte, 2*len(s.buf))
	}
}

// read returns the content, which is good until s is used again; errMissing where the cgroup lacks the file, ErrGone
// where there is no such cgroup any more.
func (f *file) read(s *scratch) ([]byte, error) {
	// The second turn is for a cgroup that was removed and made again, or a controller turned off and on; the third
	// for one of them happening during the second.
	for range 3 {
		d := f.open.Load()
		if d == nil {
			var err error
			if d, err = f.reopen(s.now); err != nil {
				return nil, err
			}
		}
		text, err := s.read(d)
		switch err {
		case nil:
			return text, nil
		case unix.EOPNOTSUPP: // a file whose feature is off
			return nil, errMissing
		case unix.ENODEV, os.ErrClosed:
			f.forget(d)
		default:
			return nil, f.wrap("read", err)
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrGone, f.dir.path)
}

// reopen opens the file unless another reader just did, or it was missing a moment ago.
func (f *file) reopen(now int64) (*descriptor, error) {
	if now < f.missingUntil.Load() {
		return nil, errMissing
	}
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	if d := f.open.Load(); d != nil {
		return d, nil
	}
	fd, err := f.dir.open(f.name, unix.O_RDONLY)
	if err != nil {
		if isAbsent(err) {
			f.missingUntil.Store(now + int64(missingFor))
			return nil, errMissing
		}
		return nil, f.wrap("open", err)
	}
	// The descriptor is a blocking one, so the poller stays out of it: epoll on a kernfs file means something else.
	d := &descriptor{file: os.NewFile(uintptr(fd), f.name)}
	if d.conn, err = d.file.SyscallConn(); err != nil {
		d.file.Close()
		return nil, f.wrap("open", err)
	}
	f.open.Store(d)
	return d, nil
}

// forget closes a descriptor that is of no use any more; d may be nil.
func (f *file) forget(d *descriptor) {
	if d != nil && f.open.CompareAndSwap(d, nil) {
		d.file.Close()
	}
}

// wrap names the file in an error that does not yet say where it is from.
func (f *file) wrap(op string, err error) error {
	if errors.Is(err, ErrGone) || errors.Is(err, os.ErrClosed) {
		return err
	}
	return &os.PathError{Op: op, Path: f.dir.path + "/" + f.name, Err: err}
}

// parse reads a file that holds one value. A missing file is not an error: ok is false.
func parse(f *file, s *scratch, parser func([]byte) (uint64, error)) (n uint64, ok bool, err error) {
	text, err := f.read(s)
	if err == errMissing {
		return 0, false, nil
	}
	if err == nil {
		n, err = parser(text)
		if err != nil {
			err = f.wrap("parse", err)
		}
	}
	return n, err == nil, err
}

// optional is parse for a value that counts as 0 where the kernel does not have the file.
func optional(f *file, s *scratch, parser func([]byte) (uint64, error)) (uint64, error) {
	n, _, err := parse(f, s, parser)
	return n, err
}
