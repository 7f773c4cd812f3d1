package host

import (
	"io/fs"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// procDir is the open /proc, -1 where there is none.
type procDir int

func (d *procDir) open(root string) error {
	path := filepath.Join("/", root, "proc")
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	switch err {
	case nil:
		*d = procDir(fd)
	case unix.ENOENT:
	default:
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

func (d *procDir) close() {
	if *d >= 0 {
		unix.Close(int(*d))
	}
	*d = -1
}

// self is the task that this process is, in the place of a number.
const self = 0

// taskPath is a path below /proc with the NUL behind it: a number of at most 19 digits, and a name.
type taskPath [64]byte

func (p *taskPath) set(task int, name string) {
	b := append(p[:0], "self"...)
	if task != self {
		b = strconv.AppendInt(p[:0], int64(task), 10)
	}
	b = append(append(b, '/'), name...)
	b = append(b, 0)
	_ = p[len(b)-1] // it has room for the names of this package
}

// taskLink reads a link of a task into buf. Like taskText it allocates nothing, as it is called for each read of a file.
func (f *FS) taskLink(task int, name string, buf []byte) (n int, err error) {
	var path taskPath
	path.set(task, name)
	got, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(f.proc), uintptr(unsafe.Pointer(&path[0])),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), nil
}

// taskText reads the start of a file of a task into buf, as much as the kernel hands out at once.
func (f *FS) taskText(task int, name string, buf []byte) (n int, err error) {
	var path taskPath
	path.set(task, name)
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(f.proc), uintptr(unsafe.Pointer(&path[0])),
		unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	defer unix.Close(int(fd))
	return unix.Pread(int(fd), buf, 0)
}
