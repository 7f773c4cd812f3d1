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

// ErrGone says that a cgroup has been removed, and not been made again at its path.
var ErrGone = errors.New("cgroup: the cgroup is gone")

// errMissing says that a cgroup lacks a file: its controller is off, or the kernel does not have it.
var errMissing = errors.New("cgroup: the file is missing")

// missingFor is how long a missing file is taken to be missing without another look.
const missingFor = 100 * time.Millisecond

// dir is one cgroup directory and its files, shared by every Group that is in it or below it.
//
// Only reads of a file that is open, or known to be missing, are free of d.mu.
type dir struct {
	key  dirKey
	path string // in the file system
	refs int    // guarded by fs.mu

	ino atomic.Uint64 // of the directory behind fd

	mu     sync.Mutex
	closed bool
	fd     int // O_PATH; -1 while not open
	files  []*file
}

// file returns the file with a name; nothing is opened before it is read.
func (d *dir) file(name string) *file {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		if f.name == name {
			return f
		}
	}
	f := &file{dir: d, name: name}
	d.files = append(d.files, f)
	return f
}

// open opens a file of the directory, with d.mu held. A cgroup that was removed and made again is followed
// to the new directory.
func (d *dir) open(name string, flags int) (fd int, err error) {
	if d.closed {
		return -1, os.ErrClosed
	}
	if d.fd >= 0 {
		if fd, err = openat(d.fd, name, flags); !isAbsent(err) {
			return fd, err
		}
	}
	if changed, err := d.refresh(); err != nil {
		return -1, err
	} else if !changed {
		return -1, unix.ENOENT
	}
	return openat(d.fd, name, flags)
}

// refresh makes d.fd the directory that is at the path now, with d.mu held. The files of an older one are closed: they
// are of a cgroup that does not exist any more.
func (d *dir) refresh() (changed bool, err error) {
	ino, err := inode(d.path)
	if err == nil && d.fd >= 0 && ino == d.ino.Load() {
		return false, nil
	}
	d.drop()
	if err == nil {
		var fd int
		if fd, err = openat(unix.AT_FDCWD, d.path, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			err = d.adopt(fd)
		}
	}
	if isAbsent(err) {
		return false, fmt.Errorf("%w: %s", ErrGone, d.path)
	}
	if err != nil {
		return false, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	return true, nil
}

// adopt takes the ownership of a descriptor of the directory.
func (d *dir) adopt(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	d.fd = fd
	d.ino.Store(st.Ino)
	return nil
}

// verify makes sure that the directory exists, and that it is the one that is at the path now.
func (d *dir) verify() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.refresh()
	return err
}

// drop closes what is open, with d.mu held.
func (d *dir) drop() {
	for _, f := range d.files {
		f.forget(f.open.Load())
		f.missingUntil.Store(0)
	}
	if d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// close ends the use of the directory: the last Group is closed.
func (d *dir) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.drop()
}

// openList opens the directory itself so that it can be listed and walked. A removed directory can still be opened, and
// is empty, so look first.
func (d *dir) openList() (fd int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return -1, os.ErrClosed
	}
	if _, err := d.refresh(); err != nil {
		return -1, err
	}
	return openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
}

// exists says that the directory last opened is still the one at the path.
func (d *dir) exists() bool {
	ino, err := inode(d.path)
	return err == nil && ino == d.ino.Load()
}

// isAbsent: kernfs answers ENODEV for what is being removed, and ENOENT afterwards.
func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOTDIR)
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ino, err
}

func openat(at int, name string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Openat(at, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
