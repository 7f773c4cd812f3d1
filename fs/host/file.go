package host

import (
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// minRead is the least room that a read is given: a page, what the kernel's seq files hand out at once.
const minRead = 4096

// sysctlRoom is the room for a number of /proc/sys. Since Linux 5.8 the kernel allocates, and clears, as much memory as a
// reader has room for (fs/proc/proc_sysctl.c, proc_sys_call_handler).
const sysctlRoom = 64

// A file is one kernel file that is kept open.
type file struct {
	path string
	fd   int
	open bool
	err  error // why it is not open

	// records says that the kernel makes the text record by record, and may stop between two of them. Any other text is
	// made as one (single_open, sysfs, sysctl): what leaves room in the buffer is all of it.
	records bool
	room    int // the least that a read is given

	// mu makes one reader read all of it. The kernel keeps the text of a seq file per open file: two readers that took
	// turns would be given the first part of one text and the second part of another.
	mu    sync.Mutex
	text  []byte        // the last that was read to be shared
	taken time.Duration // when its reading began, on the clock of FS.now; 0: there is none
}

// openAt opens the file; one that does not exist, or that only root may read, is no error before it is read. The
// descriptor is a plain one, as Go's poller would wake up for files of kernfs for nothing.
func (f *file) openAt(path string) (err error) {
	f.path = path
	f.fd, err = retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	switch err {
	case nil:
		f.open = true
	case unix.ENOENT, unix.EACCES:
		f.err = err
	default:
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// close closes the file. One that is being read stays open until the process ends: its reader may be stuck in the kernel.
func (f *file) close() error {
	if !f.mu.TryLock() {
		return nil
	}
	defer f.mu.Unlock()
	if !f.open {
		return nil
	}
	f.open, f.err = false, fs.ErrClosed
	return unix.Close(f.fd)
}

// read appends the whole file, as it is now, to buf.
func (f *file) read(buf []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken = 0 // nobody is given an older one after this
	return f.readLocked(buf)
}

// share appends the whole file to buf, as it was at most age ago.
func (f *file) share(buf []byte, age time.Duration, now func() time.Duration) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	began := now()
	if f.taken != 0 && began-f.taken < age {
		return append(buf, f.text...), nil
	}
	text, err := f.readLocked(f.text[:0])
	if f.text, f.taken = text, began; err != nil {
		f.taken = 0
		return buf, err
	}
	return append(buf, text...), nil
}

func (f *file) readLocked(buf []byte) ([]byte, error) {
	if !f.open {
		return buf, &fs.PathError{Op: "read", Path: f.path, Err: f.err}
	}
	for off := int64(0); ; {
		buf = slices.Grow(buf, f.room)
		free := buf[len(buf):cap(buf)]
		n, err := unix.Pread(f.fd, free, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return buf, &fs.PathError{Op: "read", Path: f.path, Err: err}
		}
		buf, off = buf[:len(buf)+n], off+int64(n)
		if n == 0 || n < len(free) && !f.records {
			return buf, nil
		}
	}
}
