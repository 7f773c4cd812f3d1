// Package hooks gets a container's view into the container: it binds the virtual files over the kernel's own.
package hooks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
)

// openTree and mountSetattr are variables for the tests of what happens on kernels before 5.2 and 5.12.
var (
	openTree     = unix.OpenTree
	mountSetattr = unix.MountSetattr
)

// Overlay binds each of the view's files, such as "proc/meminfo", over <root>/<file> in the mount namespace of the
// calling thread: nosuid, nodev, noexec and, but for pressure files, which take triggers, read-only. Below sys/ a file
// may be a directory, such as "sys/devices/system/cpu", which is bound as a whole. A file that v.Direct names is bound
// from there if the cgroup's file is to be found there in this mount namespace, too.
//
// A file that the container's kernel does not have is left out and returned in missing. root is what the container
// controls: a target that is of another kind, that is reached through a symbolic link, or that is not the kernel's
// (procfs below proc/, sysfs below sys/) is an error that names it, and then nothing was bound.
func Overlay(v control.View, root string) (missing []string, err error) {
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	defer dir.Close()
	var binds []*bind
	defer func() {
		for _, b := range binds {
			b.close()
		}
	}()
	for _, file := range v.Files {
		b, err := prepare(v, file, dir)
		if err == errMissing {
			missing = append(missing, file)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("overlay %s: %w", file, err)
		}
		binds = append(binds, b)
	}
	for _, b := range binds {
		if err := b.attach(dir); err != nil {
			return nil, fmt.Errorf("overlay %s: %w", b.file, err)
		}
	}
	return missing, nil
}

// bind is one file on its way into the container.
type bind struct {
	file   string
	source string
	target *os.File // the kernel's file
	// tree is the detached mount of source, nil where the kernel has no such thing; restricted says that its flags are set.
	tree       *os.File
	restricted bool
}

// errMissing says that the container's kernel does not have the file.
var errMissing = errors.New("no such file in the container")

// prepare checks the target and clones the source.
func prepare(v control.View, file string, root *os.File) (*bind, error) {
	target, err := openTarget(root, file)
	if err != nil {
		return nil, err
	}
	b := &bind{file: file, source: filepath.Join(v.Path, file), target: target}
	if direct := v.Direct[file]; direct != "" && isCgroupFile(direct) {
		b.source = direct
	}
	fd, err := retry(func() (int, error) {
		return openTree(unix.AT_FDCWD, b.source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	})
	if errors.Is(err, unix.ENOSYS) {
		return b, nil
	}
	if err != nil {
		b.close()
		return nil, &os.PathError{Op: "open_tree", Path: b.source, Err: err}
	}
	b.tree = os.NewFile(uintptr(fd), b.source)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, Propagation: unix.MS_PRIVATE}
	if !b.writable() {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	err = mountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		b.close()
		return nil, &os.PathError{Op: "mount_setattr", Path: b.source, Err: err}
	}
	b.restricted = err == nil
	return b, nil
}

// writable says whether the file is one that the kernel's own lets be written.
func (b *bind) writable() bool { return strings.HasPrefix(b.file, "proc/pressure/") }

// isCgroupFile says whether there is a regular file of a cgroup hierarchy at path.
func isCgroupFile(path string) bool {
	var st unix.Stat_t
	var sf unix.Statfs_t
	if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || unix.Statfs(path, &sf) != nil {
		return false
	}
	return sf.Type == unix.CGROUP2_SUPER_MAGIC || sf.Type == unix.CGROUP_SUPER_MAGIC
}

// openTarget opens the kernel's file that is to be covered. A container could otherwise have us cover, through a link or
// a mount of its own, a file of its choice.
func openTarget(root *os.File, file string) (*os.File, error) {
	want, fsName := int64(unix.PROC_SUPER_MAGIC), "procfs"
	switch {
	case strings.HasPrefix(file, "proc/"):
	case strings.HasPrefix(file, "sys/"):
		want, fsName = unix.SYSFS_MAGIC, "sysfs"
	default:
		return nil, errors.New("neither below proc/ nor below sys/")
	}
	f, err := OpenInRoot(root, file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errMissing
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("target is reached through a symbolic link or a file: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := checkTarget(f, want, fsName); err != nil {
		f.Close()
		return nil, fmt.Errorf("target %s %w", f.Name(), err)
	}
	return f, nil
}

func checkTarget(f *os.File, want int64, fsName string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot be looked at: %w", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		return errors.New("is a symbolic link")
	case unix.S_IFDIR:
		if want != unix.SYSFS_MAGIC {
			return errors.New("is a directory")
		}
	default:
		return errors.New("is not a regular file")
	}
	var sf unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &sf); err != nil {
		return fmt.Errorf("cannot be looked at: %w", err)
	}
	if int64(sf.Type) != want {
		return fmt.Errorf("is not on %s", fsName)
	}
	return nil
}

// attach puts the source over the target.
func (b *bind) attach(root *os.File) error {
	if b.tree != nil {
		err := unix.MoveMount(int(b.tree.Fd()), "", int(b.target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		if err != nil {
			return os.NewSyscallError("move_mount", err)
		}
	} else if err := unix.Mount(b.source, fdPath(b.target), "", unix.MS_BIND, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if b.restricted {
		return nil
	}
	// Older kernels take the flags only in a second step. The name leads to the new mount now.
	f, err := OpenInRoot(root, b.file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if !b.writable() {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", fdPath(f), "", flags, ""); err != nil {
		return os.NewSyscallError("remount", err)
	}
	return os.NewSyscallError("mount private", unix.Mount("", fdPath(f), "", unix.MS_PRIVATE, ""))
}

func (b *bind) close() {
	if b.target != nil {
		b.target.Close()
	}
	if b.tree != nil {
		b.tree.Close()
	}
}

// fdPath is the name by which mount(2) finds an open file.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
