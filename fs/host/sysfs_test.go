package host

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSys(t *testing.T) {
	check := func(t *testing.T, noOpenat2 bool) {
		root := t.TempDir()
		dir := filepath.Join(root, "sys/devices/system/cpu")
		if err := os.MkdirAll(filepath.Join(dir, "cpu0/topology"), 0o755); err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("0123456789abcdef", 3000)
		for name, text := range map[string]string{"cpu/cpu0/topology/core_id": "7\n", "cpu/long": long, "secret": "s"} {
			if err := os.WriteFile(filepath.Join(root, "sys/devices/system", name), []byte(text), 0o400); err != nil {
				t.Fatal(err)
			}
		}
		for target, link := range map[string]string{"..": "up", "../secret": "cpu0/secret", "/": "root", "cpu0": "cpu1"} {
			if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Open(root)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.noOpenat2.Store(noOpenat2)

		for path, want := range map[string]uint32{
			"cpu": unix.S_IFDIR | 0o755, "cpu/cpu0": unix.S_IFDIR | 0o755, "cpu/cpu1": unix.S_IFLNK | 0o777,
			"cpu/cpu0/topology/core_id": unix.S_IFREG | 0o400,
		} {
			if st, err := f.SysStat(path); err != nil || st.Mode != want {
				t.Errorf("stat of %s: mode %o, %v, want %o", path, st.Mode, err, want)
			}
		}
		names, err := f.SysList("cpu")
		if want := []SysName{{"cpu0", unix.S_IFDIR}, {"cpu1", unix.S_IFLNK}, {"long", unix.S_IFREG}, {"root", unix.S_IFLNK}, {"up", unix.S_IFLNK}}; err != nil || !slices.Equal(names, want) {
			t.Errorf("list: %v, %v", names, err)
		}
		if target, err := f.SysReadlink("cpu/cpu1"); err != nil || target != "cpu0" {
			t.Errorf("readlink: %q, %v", target, err)
		}
		if text, err := f.SysRead([]byte("before "), []byte("cpu/cpu0/topology/core_id")); err != nil || string(text) != "before 7\n" {
			t.Errorf("read: %q, %v", text, err)
		}
		if text, err := f.SysRead(nil, []byte("cpu/long")); err != nil || string(text) != long {
			t.Errorf("read of %d bytes: %d, %v", len(long), len(text), err)
		}
		if err := f.SysReadable("cpu/long"); err != nil {
			t.Error(err)
		}

		// Nothing leads out, and no link is followed.
		for path, want := range map[string]error{
			"node": unix.ENOENT, "memory": unix.ENOENT, "": unix.ENOENT, "..": unix.ENOENT, "cpu/..": unix.ENOENT, "cpu/../secret": unix.ENOENT,
			"cpu/none": unix.ENOENT, "cpu/" + strings.Repeat("x/", maxSysPath/2): unix.ENAMETOOLONG, "cpu/cpu0/secret": unix.ELOOP, "cpu/up": unix.ELOOP,
		} {
			if _, err := f.SysRead(nil, []byte(path)); err != want {
				t.Errorf("read of %q: %v, want %v", path, err, want)
			}
		}
		for _, path := range []string{"cpu/up/secret", "cpu/root/etc", "cpu/cpu1/topology", "cpu/cpu1/topology/core_id"} {
			if _, err := f.SysStat(path); err != unix.ELOOP && err != unix.ENOTDIR {
				t.Errorf("stat of %s: %v", path, err)
			}
		}
		if _, err := f.SysList("cpu/long"); err != unix.ENOTDIR {
			t.Errorf("list of a file: %v", err)
		}
		if _, err := f.SysReadlink("cpu/long"); err != unix.EINVAL {
			t.Errorf("readlink of a file: %v", err)
		}
		if _, err := f.SysRead(nil, []byte("cpu/cpu0")); err != unix.EISDIR {
			t.Errorf("read of a directory: %v", err)
		}
	}
	t.Run("kernel", func(t *testing.T) { check(t, false) })
	t.Run("before openat2", func(t *testing.T) { check(t, true) })
}

// What is mounted over the machine's files, maybe by ourselves, is not entered.
func TestSysDoesNotCrossMounts(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "sys/devices/system/cpu/cpu0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the thread ends with the test, and its mounts with it
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skip("no mount namespace: ", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	f, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.SysStat("cpu/cpu0"); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if _, err := f.SysStat("cpu/cpu0"); err != unix.EXDEV && !f.noOpenat2.Load() {
		t.Errorf("%v, want EXDEV", err)
	}
}

func TestSysReadAllocatesNothing(t *testing.T) {
	f, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := []byte("cpu/online")
	text, err := f.SysRead(nil, path)
	if err != nil || f.noOpenat2.Load() {
		t.Skip("no such file, or no openat2: ", err)
	}
	if n := testing.AllocsPerRun(100, func() { text, err = f.SysRead(text[:0], path) }); n != 0 || err != nil {
		t.Errorf("%v allocations, %v", n, err)
	}
}
