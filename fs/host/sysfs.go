package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

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
	fd, err := sysOpen(f, path, unix.O_PATH)
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
	fd, err := sysOpen(f, path, unix.O_RDONLY|unix.O_DIRECTORY)
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
	fd, err := sysOpen(f, path, unix.O_PATH)
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
	fd, err := sysOpen(f, path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// SysRead appends the whole of a file to dst. Each call opens it anew: a descriptor that is kept would outlive a CPU
// that goes offline. It allocates nothing but room in dst.
func (f *FS) SysRead(dst, path []byte) ([]byte, error) {
	fd, err := sysOpen(f, path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return dst, err
	}
	defer unix.Close(fd)
	for off := int64(0); off < maxSysFile; {
		dst = slices.Grow(dst, minRead)
		free := dst[len(dst):cap(dst)]
		n, err := unix.Pread(fd, free, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return dst, err
		}
		dst, off = dst[:len(dst)+n], off+int64(n)
		// Some files give a page at a time (binary attributes: the lists and masks of topology and nodes), others all.
		if n < min(len(free), minRead) {
			return dst, nil
		}
	}
	return dst, unix.EFBIG
}

// maxSysPath bounds the paths below SysTrees. The kernel's are far shorter.
const maxSysPath = 511

// sysOpen opens a path below one of SysTrees.
func sysOpen[P string | []byte](f *FS, path P, flags int) (int, error) {
	var buf [maxSysPath + 1]byte // the path, and the NUL behind it
	if len(path) >= len(buf) {
		return -1, unix.ENAMETOOLONG
	}
	tree, rest, _ := bytes.Cut(buf[:copy(buf[:], path)], []byte{'/'})
	dir := -1
	for i, name := range SysTrees {
		if string(tree) == name {
			dir = f.sys[i]
		}
	}
	if dir < 0 {
		return -1, unix.ENOENT
	}
	if len(rest) == 0 {
		copy(buf[:], ".\x00")
		rest = buf[:1]
	}
	for names, more := rest, true; more; {
		var name []byte
		if name, names, more = bytes.Cut(names, []byte{'/'}); string(name) == ".." {
			return -1, unix.ENOENT
		}
	}
	if f.noOpenat2.Load() {
		return walk(dir, string(rest), flags)
	}
	fd, err := openat2(dir, &rest[0], flags)
	switch err {
	case unix.ENOSYS:
		f.noOpenat2.Store(true)
		return walk(dir, string(rest), flags)
	case unix.EPERM: // of seccomp filters that do not know it
		return walk(dir, string(rest), flags)
	}
	return fd, err
}

// openat2 is openat2(2) of a path that ends in NUL, below dir. Unlike unix.Openat2 it allocates nothing.
func openat2(dir int, path *byte, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(path)),
			uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
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
