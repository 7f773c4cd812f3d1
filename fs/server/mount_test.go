package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fs.lock")
	held, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(path); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), path) {
		t.Errorf("a lock that is held: %v, want ErrBusy and the path", err)
	}
	os.Remove(path)
	held.Close()
	again, err := takeLock(path)
	if err != nil {
		t.Fatalf("a lock that is free: %v", err)
	}
	again.Close()
}

// needMount skips a test where nothing can be mounted.
func needMount(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("mounting needs /dev/fuse")
	}
}

func TestMountAt(t *testing.T) {
	needMount(t)
	point := filepath.Join(t.TempDir(), "fs")
	m, err := MountAt(point)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := MountAt(point); !errors.Is(err, ErrBusy) {
		t.Errorf("a second mount at the same point: %v, want ErrBusy", err)
	}
	if flags, err := unix.FcntlInt(uintptr(m.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("the device would be inherited by programs that are started")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if top, err := mountedAt(point); err != nil || top != nil {
		t.Errorf("after Close: %v, %v", top, err)
	}
	if _, err := os.Stat(point + ".lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock file is left: %v", err)
	}
}

// A daemon that was killed leaves a mount that answers ENOTCONN; the next one takes its place.
func TestMountAtReplacesADeadMount(t *testing.T) {
	needMount(t)
	point := filepath.Join(t.TempDir(), "fs")
	dead, err := MountAt(point)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(dead.FD) // as the kernel does when the process ends
	dead.FD = -1
	dead.lock.Close()
	if err := unix.Statfs(point, &unix.Statfs_t{}); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("the mount is not dead: %v", err)
	}
	m, err := MountAt(point)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if top, err := mountedAt(point); err != nil || top != nil {
		t.Errorf("left: %v, %v", top, err)
	}
}

// The mount table knows no symbolic links: /var/run/scopefs/fs is in it as /run/scopefs/fs.
func TestMountBehindALink(t *testing.T) {
	needMount(t)
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(real, 0o755), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	dead, err := MountAt(link + "/fs")
	if err != nil {
		t.Fatal(err)
	}
	if want := real + "/fs"; dead.Point != want {
		t.Errorf("mounted at %s, want %s", dead.Point, want)
	}
	if err := dead.AlsoAt(link + "/compat"); err != nil {
		t.Fatal(err)
	}
	for _, point := range []string{link + "/fs", real + "/fs"} {
		if _, err := MountAt(point); !errors.Is(err, ErrBusy) {
			t.Errorf("a second mount at %s: %v, want ErrBusy", point, err)
		}
	}
	unix.Close(dead.FD)
	dead.FD = -1
	dead.lock.Close()
	m, err := MountAt(link + "/fs")
	if err != nil {
		dead.lock = nil
		dead.Close()
		t.Fatal(err)
	}
	if err := m.AlsoAt(link + "/compat"); err != nil {
		t.Error(err)
		unix.Unmount(real+"/compat", unix.MNT_DETACH)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"fs", "compat"} {
		if top, err := mountedAt(filepath.Join(real, name)); err != nil || top != nil {
			t.Errorf("%s is left: %v, %v", name, top, err)
		}
	}
}

func TestMountAtRefusesAForeignMount(t *testing.T) {
	needMount(t)
	point := t.TempDir()
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, "size=4k"); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	_, err := MountAt(point)
	if err == nil || !strings.Contains(err.Error(), "tmpfs") || !strings.Contains(err.Error(), point) {
		t.Errorf("%v, want an error that names the type and the directory", err)
	}
}
