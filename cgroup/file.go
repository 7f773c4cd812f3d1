package cgroup

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// file is one file of a cgroup, opened by the first read and kept open. There are some ten for each container, so it
// is small, and it is an own count of a descriptor's users rather than an os.File: 16 bytes instead of some 300, and
// no lock and no closure on the way of a read.
//
// The count makes sure that closing never makes a read one of a stranger's descriptor: a descriptor is closed by the
// last of its users, and only who is one may mark it to be closed.
type file struct {
	// state is the descriptor plus one, or 0, from bit 32 on; closing; and the number of users.
	state atomic.Uint64
	// at is when the file was read last or, negated, until when it is taken to be missing; both as scratch.now.
	at atomic.Int64
}

const (
	closing = 1 << 31
	users   = closing - 1
	fdShift = 32
)

// acquire returns the descriptor, to be given back with release; -1 where there is none.
func (d *dir) acquire(f *file) int {
	v := f.state.Add(1)
	if v>>fdShift != 0 && v&closing == 0 {
		return int(v>>fdShift) - 1
	}
	d.release(f)
	return -1
}

// release gives a use of the descriptor back.
func (d *dir) release(f *file) {
	v := f.state.Add(^uint64(0))
	if v&(closing|users) == closing && f.state.CompareAndSwap(v, 0) {
		unix.Close(int(v>>fdShift) - 1)
		d.fs.opened.Add(-1)
	}
}

// install makes fd the file's descriptor and the caller its first user. It fails while an older one is still in use.
func (f *file) install(fd int) bool {
	for {
		v := f.state.Load()
		if v>>fdShift != 0 {
			return false
		}
		// What users there are found no descriptor, and are about to leave.
		if f.state.CompareAndSwap(v, v+uint64(fd+1)<<fdShift+1) {
			return true
		}
	}
}

// scratch is what one call needs to read files: a buffer, and the time.
type scratch struct {
	now int64 // monotonic, ns
	buf []byte
}

// The buffer takes memory.stat as it is today; usage_all of a large machine makes it grow.
var scratches = sync.Pool{New: func() any { return &scratch{buf: make([]byte, 8<<10)} }}

var started = time.Now()

// monotonic is the time of scratch.now.
func monotonic() int64 { return int64(time.Since(started)) }

// getScratch returns a scratch to be given back to the pool with put.
func getScratch() *scratch {
	s := scratches.Get().(*scratch)
	s.now = monotonic()
	return s
}

func (s *scratch) put() { scratches.Put(s) }

// read reads the file with a single pread: a second one, to see the end, costs as much again and may be of other
// content, as descriptors are shared.
func (s *scratch) read(fd int) ([]byte, error) {
	for {
		n, err := pread(fd, s.buf, 0)
		if err != nil {
			return nil, err
		}
		if n < len(s.buf) {
			return s.buf[:n], nil
		}
		s.buf = make([]byte, 2*len(s.buf))
	}
}

func pread(fd int, buf []byte, off int64) (n int, err error) {
	for {
		if n, err = unix.Pread(fd, buf, off); err != unix.EINTR {
			return n, err
		}
	}
}

// read returns the content of a file, which is good until s is used again; errMissing where the cgroup lacks the file,
// ErrGone where there is no such cgroup any more.
func (d *dir) read(k kind, s *scratch) ([]byte, error) {
	f := d.file(k)
	if f == nil {
		return nil, errMissing
	}
	// The second turn is for a cgroup that was removed and made again, or a controller turned off and on; the third
	// for one of them happening during the second.
	for range 3 {
		kept := true
		fd := d.acquire(f)
		if fd < 0 {
			var err error
			if fd, kept, err = d.reopen(f, k, s.now); err != nil {
				return nil, err
			}
		}
		text, err := s.read(fd)
		if !kept {
			unix.Close(fd)
		} else {
			f.at.Store(s.now)
			if err == unix.ENODEV {
				f.state.Or(closing)
			}
			d.release(f)
		}
		switch err {
		case nil:
			return text, nil
		case unix.EOPNOTSUPP: // a file whose feature is off
			return nil, errMissing
		case unix.ENODEV:
		default:
			return nil, d.wrap("read", k, err)
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrGone, d.path)
}

// reopen opens the file unless another reader just did, or it was missing a moment ago. What is not kept is the
// caller's to close: there was no room for one more open file.
func (d *dir) reopen(f *file, k kind, now int64) (fd int, kept bool, err error) {
	if until := -f.at.Load(); now < until {
		return -1, false, errMissing
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if fd := d.acquire(f); fd >= 0 {
		return fd, true, nil
	}
	if fd, err = d.open(k, unix.O_RDONLY); err != nil {
		if isAbsent(err) {
			f.at.Store(-(now + int64(recheck)))
			return -1, false, errMissing
		}
		return -1, false, d.wrap("open", k, err)
	}
	if !d.fs.reserve() {
		return fd, false, nil
	}
	if !f.install(fd) {
		d.fs.opened.Add(-1)
		return fd, false, nil
	}
	return fd, true, nil
}

// closeIdle closes the descriptor where nobody used it since a time, as scratch.now.
func (d *dir) closeIdle(f *file, since int64) {
	if f.state.Load() == 0 || f.at.Load() > since || d.acquire(f) < 0 {
		return
	}
	f.state.Or(closing)
	d.release(f)
}

// wrap names the file in an error that does not yet say where it is from.
func (d *dir) wrap(op string, k kind, err error) error {
	if errors.Is(err, ErrGone) || errors.Is(err, os.ErrClosed) {
		return err
	}
	return &os.PathError{Op: op, Path: d.path + "/" + d.name(k), Err: err}
}

// number reads a file that holds one value. A missing file is not an error: ok is false.
func (d *dir) number(k kind, s *scratch, parser func([]byte) (uint64, error)) (n uint64, ok bool, err error) {
	text, err := d.read(k, s)
	if err == errMissing {
		return 0, false, nil
	}
	if err == nil {
		n, err = parser(text)
		if err != nil {
			err = d.wrap("parse", k, err)
		}
	}
	return n, err == nil, err
}

// optional is number for a value that counts as 0 where the kernel does not have the file.
func (d *dir) optional(k kind, s *scratch) (uint64, error) {
	n, _, err := d.number(k, s, parseNumber)
	return n, err
}
