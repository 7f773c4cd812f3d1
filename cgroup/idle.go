package cgroup

import (
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Open files cost memory of the kernel too, a page for each that was read, and the process may only have so many. So the
// idle ones are closed, and beyond a bound files are opened, read and closed.

// CloseIdle closes the files that nobody has read for at least age. The next read opens them again.
func (fs *FS) CloseIdle(age time.Duration) { fs.closeIdle(monotonic() - int64(age)) }

// closeIdle closes what was not used since a time, as scratch.now.
func (fs *FS) closeIdle(since int64) {
	if fs.opened.Load() == 0 {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, d := range fs.dirs {
		for i := range d.files {
			d.closeIdle(&d.files[i], since)
		}
		// Not while somebody opens a file: the caller may be he.
		if d.mu.TryLock() {
			if d.usedAt <= since {
				d.closeDir()
			}
			d.mu.Unlock()
		}
	}
}

// Opened is the number of files that are kept open, directories among them.
func (fs *FS) Opened() int { return int(fs.opened.Load()) }

// SetMaxOpen bounds the number of files that are kept open. Those that are open already stay so until they are idle.
func (fs *FS) SetMaxOpen(n int) { fs.maxOpened.Store(int64(n)) }

// openLimit is how many files the process may have open.
func openLimit() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int64(limit.Cur)
}

// Where there is no room, what was idle for as long as idleWhenFull gives way, looked for once in that time.
const idleWhenFull = time.Second

// reserve counts one more open file, if there is room for it.
func (fs *FS) reserve() bool {
	if fs.opened.Add(1) <= fs.maxOpened.Load() {
		return true
	}
	fs.opened.Add(-1)
	now, swept := monotonic(), fs.swept.Load()
	if now-swept < int64(idleWhenFull) || !fs.swept.CompareAndSwap(swept, now) {
		return false
	}
	fs.closeIdle(now - int64(idleWhenFull))
	if fs.opened.Add(1) <= fs.maxOpened.Load() {
		return true
	}
	fs.opened.Add(-1)
	return false
}

// openat opens a file. Where the process, or the machine, has none left, those that are kept open give way.
func (fs *FS) openat(at int, name string, flags int) (fd int, err error) {
	fd, err = openat(at, name, flags)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		fs.closeIdle(math.MaxInt64)
		fd, err = openat(at, name, flags)
	}
	return fd, err
}

// openDir opens a directory as a place to open others from, and says which it is. fd is -1 where there is no room.
func (fs *FS) openDir(path string) (fd int, ino uint64, err error) {
	if !fs.reserve() {
		ino, err = inode(path)
		return -1, ino, err
	}
	if fd, err = fs.openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			return fd, st.Ino, nil
		}
		unix.Close(fd)
	}
	fs.opened.Add(-1)
	return -1, 0, err
}
