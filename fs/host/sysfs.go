package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// SysTrees are the directories below /sys/devices/system that can be looked at whole. The paths of the methods below
// start with one of these names, are clean, and hold no "..": "cpu", "cpu/cpu0/topology/core_id". No symbolic link is
// followed and no other file system is entered: neither a name that a reader made up nor a bind mount over one of the
// machine's files leads elsewhere. What fails gives a plain errno, the kernel's own.
var SysTrees = []string{"cpu", "node"}

// maxSysFile bounds what is read of a file below /sys. The largest ones, lists of thousands of CPUs, have tens of kB.
const maxSysFile = 1 << 20

// sysDirs are the open directories of SysTrees, -1 where the machine has none.
type sysDirs [2]int

func (d *sysDirs) open(root string) error {
	*d = sysDirs{-1, -1}
	for i, name := range SysTrees {
		path := filepath.Join("/", root, "sys/devices/system", name)
		fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: path, Err: err}
		}
		d[i] = fd
	}
	return nil
}

func (d *sysDirs) close() {
	for i, fd := range d {
		if fd >= 0 {
			unix.Close(fd)
		}
		d[i] = -1
	}
}

// SysStat is what lstat(2) says of a path.
func (f *FS) SysStat(path string) (st unix.Stat_t, err error) {
	fd, err := f.sysOpen(path, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// SysName is a name in a directory.
type SysName struct {
	Name string
	Type uint32 // S_IFREG, S_IFDIR, S_IFLNK …
}

// SysList lists a directory, in order.
func (f *FS) SysList(path string) ([]SysName, error) {
	fd, err := f.sysOpen(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, errno(err)
	}
	names := make([]SysName, len(entries))
	for i, e := range entries {
		names[i] = SysName{e.Name(), unix.S_IFREG}
		switch {
		case e.IsDir():
			names[i].Type = unix.S_IFDIR
		case e.Type()&fs.ModeSymlink != 0:
			names[i].Type = unix.S_IFLNK
		}
	}
	slices.SortFunc(names, func(a, b SysName) int { return strings.Compare(a.Name, b.Name) })
	return names, nil
}

// SysReadlink is where a symbolic link leads.
func (f *FS) SysReadlink(path string) (string, error) {
	fd, err := f.sysOpen(path, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	if err == unix.ENOENT {
		err = unix.EINVAL // what it is called with an empty path for anything but a link
	}
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// SysReadable says whether a file can be opened for reading: nil, or why not.
func (f *FS) SysReadable(path string) error {
	fd, err := f.sysOpen(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// SysRead appends the whole of a file to dst. Each call opens it anew: a descriptor that is kept would outlive a CPU
// that goes offline.
func (f *FS) SysRead(dst []byte, path string) ([]byte, error) {
	fd, err := f.sysOpen(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return dst, err
	}
	defer unix.Close(fd)
	for off := int64(0); off < maxSysFile; {
		dst = slices.Grow(dst, minRead)
		n, err := retry(func() (int, error) { return unix.Pread(fd, dst[len(dst):cap(dst)], off) })
		if err != nil {
			return dst, err
		}
		if n == 0 {
			return dst, nil
		}
		dst, off = dst[:len(dst)+n], off+int64(n)
	}
	return dst, unix.EFBIG
}

// openat2 is a variable for the tests of what happens on kernels before 5.6.
var openat2 = unix.Openat2

// sysOpen opens a path below one of SysTrees.
func (f *FS) sysOpen(path string, flags int) (int, error) {
	tree, rest, _ := strings.Cut(path, "/")
	i := slices.Index(SysTrees, tree)
	if i < 0 || f.sys[i] < 0 {
		return -1, unix.ENOENT
	}
	if rest == "" {
		rest = "."
	}
	if slices.Contains(strings.Split(rest, "/"), "..") {
		return -1, unix.ENOENT
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := retry(func() (int, error) { return openat2(f.sys[i], rest, &how) })
	if err == unix.ENOSYS || err == unix.EPERM { // the latter of seccomp filters that do not know it
		fd, err = walk(f.sys[i], rest, flags)
	}
	return fd, err
}

// walk opens a path one component at a time, none of which may be a link.
func walk(dir int, path string, flags int) (int, error) {
	first, rest, more := strings.Cut(path, "/")
	if !more {
		return retry(func() (int, error) { return unix.Openat(dir, first, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, first, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return walk(fd, rest, flags)
}

// retry repeats a system call that a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// errno is the plain error of a system call.
func errno(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return unix.EIO
}
