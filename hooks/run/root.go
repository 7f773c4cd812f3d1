package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/scopefs/scopefs/hooks"
	"golang.org/x/sys/unix"
)

const kernelFS = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// prepareRoot gives the container file systems of its own and returns where its root is.
func prepareRoot(rootfs string) (string, error) {
	if rootfs == "" {
		return "/", prepareHostRoot()
	}
	// pivot_root wants a mount point.
	if err := unix.Mount(rootfs, rootfs, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", &os.PathError{Op: "bind", Path: rootfs, Err: err}
	}
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := errors.Join(
		mountIn(root, "proc", "proc", kernelFS, ""),
		mountIn(root, "sys", "sysfs", kernelFS|unix.MS_RDONLY, ""),
		mountIn(root, "dev", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=64k"),
	); err != nil {
		return "", err
	}
	return rootfs, makeDev(root)
}

// prepareHostRoot keeps the host's root, with a procfs of the new pid namespace and a sysfs without what the host may
// have bound over its own, but for the cgroups.
func prepareHostRoot() error {
	// The kernel refuses the same sysfs on top of itself, so it is put together on /proc, which is replaced anyway.
	if err := unix.Mount("sysfs", "/proc", "sysfs", kernelFS, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	if err := unix.Mount(cgroupRoot, "/proc/fs/cgroup", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind the cgroups: %w", err)
	}
	if err := unix.Mount("/proc", "/sys", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move sysfs: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", kernelFS, ""); err != nil {
		return fmt.Errorf("mount procfs: %w", err)
	}
	return nil
}

// mountIn mounts a new file system on a directory of root. No link in root leads the mount elsewhere.
func mountIn(root *os.File, name, fsType string, flags uintptr, data string) error {
	target, err := hooks.OpenInRoot(root, name)
	if err != nil {
		return fmt.Errorf("--rootfs needs a directory /%s: %w", name, err)
	}
	defer target.Close()
	if err := unix.Mount(fsType, fdPath(target), fsType, flags, data); err != nil {
		return fmt.Errorf("mount %s on /%s: %w", fsType, name, err)
	}
	return nil
}

// makeDev fills the tmpfs on root's /dev.
func makeDev(root *os.File) error {
	dev, err := hooks.OpenInRoot(root, "dev")
	if err != nil {
		return err
	}
	defer dev.Close()
	base := fdPath(dev)
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := filepath.Join(base, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		// The node is bound, not made: that works in a user namespace and under a device cgroup as well.
		if err := unix.Mount("/dev/"+name, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /dev/%s: %w", name, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, filepath.Join(base, name)); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		name, fsType, data string
		flags              uintptr
	}{
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"shm", "tmpfs", "mode=1777", kernelFS},
	} {
		if err := os.Mkdir(filepath.Join(base, m.name), 0o755); err != nil {
			return err
		}
		if err := mountIn(dev, m.name, m.fsType, m.flags, m.data); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot makes root the container's root and takes the host's out of its sight.
func enterRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return &os.PathError{Op: "chdir", Path: root, Err: err}
	}
	// With both arguments the same, the old root ends up on top of the new one, from where it is detached.
	switch err := unix.PivotRoot(".", "."); err {
	case nil:
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detach the host's root: %w", err)
		}
	case unix.EINVAL:
		// The host runs from its initramfs, which cannot be pivoted away, only covered.
		if err := unix.Mount(root, "/", "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move the root: %w", err)
		}
		if err := unix.Chroot("."); err != nil {
			return os.NewSyscallError("chroot", err)
		}
	default:
		return os.NewSyscallError("pivot_root", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// fdPath is the name by which mount(2) finds an open file.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
