package cgroup

import (
	"errors"
	"fmt"
	"math"
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

// recheck is how long a missing file is taken to be missing without another look. Swappiness, and that no huge pages
// are limited, are taken to stay for as long.
const recheck = 100 * time.Millisecond

// dir is one cgroup directory and its files, shared by every Group that is in it or below it.
//
// Only reads of a file that is open, or known to be missing, are free of d.mu.
type dir struct {
	fs     *FS
	key    dirKey
	parent *dir // one level up, to which it holds a reference; nil at the top, and where nothing above is ever read
	path   string
	*layout
	refs  int       // guarded by fs.mu
	above *ancestor // what those below share of it; nil while there are none
	// hierarchical says that a v1 memory cgroup counts what is below it, which cannot change while there is something.
	hierarchical atomic.Bool

	ino atomic.Uint64 // of the directory that was opened last

	mu     sync.Mutex
	closed bool
	fd     int32 // O_PATH; -1 while not open
	usedAt int64 // when fd was used last; as scratch.now
	files  []file
}

// file returns the file of a kind, nil where the mount has no such file. Nothing is opened before it is read.
func (d *dir) file(k kind) *file {
	if place := d.places[k]; place >= 0 {
		return &d.files[place]
	}
	return nil
}

func (d *dir) name(k kind) string { return d.names[d.places[k]] }

// cgroup is the path of the cgroup as in /proc/PID/cgroup.
func (d *dir) cgroup() string { return d.key.cgroup }

// open opens a file of the directory, with d.mu held. A cgroup that was removed and made again is followed to the new
// directory.
func (d *dir) open(k kind, flags int) (fd int, err error) {
	if d.closed {
		return -1, os.ErrClosed
	}
	name := d.name(k)
	opened := d.fd >= 0
	if opened {
		d.usedAt = monotonic()
		if fd, err = d.fs.openat(int(d.fd), name, flags); !isAbsent(err) {
			return fd, err
		}
	}
	if changed, err := d.refresh(); err != nil {
		return -1, err
	} else if opened && !changed {
		return -1, unix.ENOENT
	}
	if d.fd < 0 {
		return d.fs.openat(unix.AT_FDCWD, d.path+"/"+name, flags)
	}
	return d.fs.openat(int(d.fd), name, flags)
}

// refresh makes d.fd the directory that is at the path now, with d.mu held; it stays closed where there is no room for one
// more open file. The files of an older directory are closed: they are of a cgroup that does not exist any more.
func (d *dir) refresh() (changed bool, err error) {
	if d.fd >= 0 {
		if ino, err := inode(d.path); err == nil && ino == d.ino.Load() {
			return false, nil
		}
		d.drop()
	}
	fd, ino, err := d.fs.openDir(d.path)
	if err != nil || ino != d.ino.Load() {
		changed = true
		d.drop()
	}
	if isAbsent(err) {
		return false, fmt.Errorf("%w: %s", ErrGone, d.path)
	}
	if err != nil {
		return false, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	d.fd, d.usedAt = int32(fd), monotonic()
	d.ino.Store(ino)
	return changed, nil
}

// verify makes sure that the directory exists, and that it is the one that is at the path now.
func (d *dir) verify() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.refresh()
	return err
}

// drop closes what is open, with d.mu held, and forgets what was learnt.
func (d *dir) drop() {
	for i := range d.files {
		d.closeIdle(&d.files[i], math.MaxInt64)
		d.files[i].at.Store(0)
	}
	d.hierarchical.Store(false)
	d.closeDir()
}

// closeDir closes the directory itself, with d.mu held.
func (d *dir) closeDir() {
	if d.fd >= 0 {
		unix.Close(int(d.fd))
		d.fs.opened.Add(-1)
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
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	if d.fd < 0 {
		return d.fs.openat(unix.AT_FDCWD, d.path, flags)
	}
	return d.fs.openat(int(d.fd), ".", flags)
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
