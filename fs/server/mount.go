package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrBusy says that another daemon serves the mount point.
var ErrBusy = errors.New("another scopefs serves this mount point")

// fsType is the type that mount tables show for our mounts.
const fsType = "fuse.scopefs"

// Mount is a mounted connection.
type Mount struct {
	// FD is the FUSE device of the connection; it is closed on exec, as a reader that inherited it could never be
	// ended.
	FD int
	// Point is where it is mounted, as the mount table names it; "" when it is not.
	Point  string
	lock   *os.File
	compat string
}

// MountAt takes the mount point for this process and mounts the file system there. A dead mount that an earlier daemon
// left is replaced; ErrBusy is returned when a living one holds the mount point. The directory is made when missing.
func MountAt(point string) (*Mount, error) {
	point, err := resolve(point)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(point + ".lock")
	if err != nil {
		return nil, err
	}
	m := &Mount{FD: -1, lock: lock}
	if err := m.mount(point); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Mount) mount(point string) error {
	if err := clearPoint(point); err != nil {
		return err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /dev/fuse (is the fuse module loaded?): %w", err)
	}
	m.FD = fd
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d", fd, maxRead)
	if err := unix.Mount("scopefs", point, fsType, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fsType, point, err)
	}
	m.Point = point // from here on it is ours to unmount
	return nil
}

// AlsoAt shows the mount at a second place as well, such as /var/lib/lxcfs.
func (m *Mount) AlsoAt(point string) error {
	point, err := resolve(point)
	if err != nil {
		return err
	}
	if err := clearPoint(point); err != nil {
		return err
	}
	if err := unix.Mount(m.Point, point, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", m.Point, point, err)
	}
	m.compat = point
	return nil
}

// Detach takes the mounts out of this mount namespace. Bind mounts made from them elsewhere stay served.
func (m *Mount) Detach() error {
	var errs []error
	for _, p := range []*string{&m.compat, &m.Point} {
		if *p == "" {
			continue
		}
		if err := unix.Unmount(*p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", *p, err))
		}
		*p = ""
	}
	return errors.Join(errs...)
}

// Close detaches the mounts, ends the connection and gives the mount point free.
func (m *Mount) Close() error {
	err := m.Detach()
	if m.FD >= 0 {
		unix.Close(m.FD)
		m.FD = -1
	}
	m.Unlock()
	return err
}

// Unlock gives the mount point free for another daemon.
func (m *Mount) Unlock() {
	if m.lock != nil {
		_ = os.Remove(m.lock.Name()) // left behind, it is taken over like a dead daemon's
		m.lock.Close()
		m.lock = nil
	}
}

// takeLock holds the file for the life of this process and writes its pid into it.
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("locking the mount point: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			holder, _ := os.ReadFile(path)
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w: pid %s holds %s; stop it, or choose another --mount",
					ErrBusy, strings.TrimSpace(string(holder)), path)
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		// The last holder removes the file: a lock on a removed one keeps nobody out.
		var held, named unix.Stat_t
		if unix.Fstat(int(f.Fd()), &held) == nil && unix.Stat(path, &named) == nil && held.Ino == named.Ino {
			// The pid is for the message above; without it the lock is a lock all the same.
			_ = f.Truncate(0)
			_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
			return f, nil
		}
		f.Close()
	}
}

// resolve makes the parent of a mount point and returns the point as the mount table names it, without symbolic links in
// the parent. The point itself is not looked at: a dead mount there does not answer.
func resolve(point string) (string, error) {
	point, err := filepath.Abs(point)
	if err != nil {
		return "", err
	}
	dir, name := filepath.Split(point)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the mount point: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("following the links to the mount point: %w", err)
	}
	return filepath.Join(dir, name), nil
}

// clearPoint makes the directory ready to be mounted on: dead mounts of ours are detached, anything else that is mounted
// there is an error.
func clearPoint(point string) error {
	for {
		top, err := mountedAt(point)
		if err != nil {
			return err
		}
		if top == nil {
			break
		}
		ours := top.FSType == fsType
		dead := errors.Is(unix.Statfs(point, &unix.Statfs_t{}), unix.ENOTCONN)
		if !ours && !dead {
			return fmt.Errorf("%s is a mount point of type %s already: unmount it or choose another directory", point, top.FSType)
		}
		if ours && !dead {
			return fmt.Errorf("%w: %s is mounted and answers", ErrBusy, point)
		}
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detaching the dead mount at %s: %w", point, err)
		}
	}
	if err := os.MkdirAll(point, 0o755); err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	return nil
}

// mountedAt is the topmost mount on exactly this path, nil if there is none.
func mountedAt(point string) (*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(point))
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if len(mounts) == 0 {
		return nil, nil
	}
	return mounts[len(mounts)-1], nil
}
