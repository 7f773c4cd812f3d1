package hooks

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// openat2 is a variable for the tests of what happens on kernels before 5.6.
var openat2 = unix.Openat2

// OpenInRoot opens name below the directory root with O_PATH, without following a symbolic link in any component: what
// a container puts into its root can make it fail, but not lead it elsewhere. If name itself is a link, the link is
// opened. name is relative and clean.
func OpenInRoot(root *os.File, name string) (*os.File, error) {
	if name == "." || name == ".." || strings.HasPrefix(name, "../") || path.IsAbs(name) || path.Clean(name) != name {
		return nil, fmt.Errorf("%q is not a clean relative path", name)
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := retry(func() (int, error) { return openat2(int(root.Fd()), name, &how) })
	if errors.Is(err, unix.ENOSYS) {
		fd, err = walk(int(root.Fd()), name)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path.Join(root.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), path.Join(root.Name(), name)), nil
}

// walk is OpenInRoot for kernels without openat2: one component at a time, none of which may be a link.
func walk(dir int, name string) (int, error) {
	first, rest, more := strings.Cut(name, "/")
	flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if more {
		flags |= unix.O_DIRECTORY // ENOTDIR for a link
	}
	fd, err := retry(func() (int, error) { return unix.Openat(dir, first, flags, 0) })
	if err != nil || !more {
		return fd, err
	}
	defer unix.Close(fd)
	return walk(fd, rest)
}

// retry repeats a system call that a signal interrupted: Go's scheduler sends signals, and a FUSE file system sees them.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}
