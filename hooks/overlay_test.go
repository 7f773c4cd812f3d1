package hooks

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The main goroutine keeps the main thread: /proc/self is about that one, and it must stay in the host's namespace.
func init() { runtime.LockOSThread() }

// inMountNamespace runs f on a thread that has a mount namespace of its own and dies with f.
func inMountNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for a mount namespace")
	}
	before := mounts(t, "/proc/self/mountinfo")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
	if after := mounts(t, "/proc/self/mountinfo"); !slices.Equal(before, after) {
		t.Errorf("the host's mounts changed:\n%q\n%q", before, after)
	}
}

func mounts(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// container makes a view directory and a root with a procfs and a sysfs of its own. It must be called in
// inMountNamespace.
func container(t *testing.T, files ...string) (view, root string) {
	view, root = t.TempDir(), t.TempDir()
	for _, f := range files {
		write(t, filepath.Join(view, f), "view of "+f)
	}
	for _, fs := range []struct{ kind, dir string }{{"proc", "proc"}, {"sysfs", "sys"}} {
		dir := filepath.Join(root, fs.dir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Error(err)
		}
		if err := unix.Mount(fs.kind, dir, fs.kind, 0, ""); err != nil {
			t.Error(err)
		}
	}
	return view, root
}

func write(t *testing.T, path, content string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Error(err)
	}
}

func TestOverlay(t *testing.T) {
	const online, dir = "sys/devices/system/cpu/online", "sys/devices/system/node"
	check := func(t *testing.T) {
		inMountNamespace(t, func() {
			view, root := container(t, "proc/meminfo", online, dir+"/online", "proc/nosuchfile")
			missing, err := Overlay(view, []string{"proc/meminfo", online, dir, "proc/nosuchfile"}, root)
			if err != nil || !slices.Equal(missing, []string{"proc/nosuchfile"}) {
				t.Errorf("Overlay = %q, %v", missing, err)
			}
			if err := os.WriteFile(filepath.Join(root, dir, "new"), nil, 0o644); err == nil {
				t.Errorf("a file can be made in %s", dir)
			}
			for f, point := range map[string]string{"proc/meminfo": "proc/meminfo", online: online, dir + "/online": dir} {
				path := filepath.Join(root, f)
				if b, err := os.ReadFile(path); string(b) != "view of "+f {
					t.Errorf("%s: %q %v", f, b, err)
				}
				if err := os.WriteFile(path, nil, 0); err == nil {
					t.Errorf("%s can be written", f)
				}
				var found bool
				for _, m := range mounts(t, "/proc/thread-self/mountinfo") {
					fields := strings.Fields(m)
					if fields[4] != filepath.Join(root, point) {
						continue
					}
					found = true
					if !strings.HasPrefix(fields[5], "ro,nosuid,nodev,noexec") || fields[6] != "-" {
						t.Errorf("mount %q: want ro,nosuid,nodev,noexec and private", m)
					}
				}
				if !found {
					t.Errorf("no mount on %s", point)
				}
			}
		})
	}
	t.Run("kernel", check)
	t.Run("before mount_setattr", func(t *testing.T) {
		defer func() { mountSetattr = unix.MountSetattr }()
		mountSetattr = func(int, string, uint, *unix.MountAttr) error { return unix.ENOSYS }
		check(t)
	})
	t.Run("before open_tree and openat2", func(t *testing.T) {
		defer func() { openTree, openat2 = unix.OpenTree, unix.Openat2 }()
		openTree = func(int, string, uint) (int, error) { return -1, unix.ENOSYS }
		openat2 = func(int, string, *unix.OpenHow) (int, error) { return -1, unix.ENOSYS }
		check(t)
	})
}

func TestOverlayRefuses(t *testing.T) {
	check := func(t *testing.T) {
		inMountNamespace(t, func() {
			view, root := container(t, "proc/meminfo", "proc/mounts", "proc/net/dev", "proc/self/stat", "proc/sys", "etc/passwd")
			write(t, filepath.Join(root, "etc/passwd"), "root")
			if err := os.Symlink("/etc", filepath.Join(root, "proc2")); err != nil {
				t.Error(err)
			}
			for file, want := range map[string]string{
				"proc/mounts":      "symbolic link",
				"proc/net/dev":     "symbolic link",
				"proc/sys":         "is a directory",
				"proc/uptime/x":    "a file",
				"etc/passwd":       "neither below proc/",
				"proc2/passwd":     "neither below proc/",
				"proc/../etc/x":    "not a clean",
				"proc//meminfo":    "not a clean",
				"sys/../../passwd": "not a clean",
			} {
				_, err := Overlay(view, []string{"proc/meminfo", file}, root)
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
					t.Errorf("%s: error %v, want %q", file, err, want)
				}
			}
			// No source: nothing is half done.
			if _, err := Overlay(view, []string{"proc/meminfo", "proc/stat"}, root); err == nil || !strings.Contains(err.Error(), "proc/stat") {
				t.Errorf("missing source: %v", err)
			}
			// A container that puts a file system of its own in procfs's place.
			if err := unix.Mount("tmpfs", filepath.Join(root, "proc"), "tmpfs", 0, ""); err != nil {
				t.Error(err)
			}
			write(t, filepath.Join(root, "proc/meminfo"), "mine")
			if _, err := Overlay(view, []string{"proc/meminfo"}, root); err == nil || !strings.Contains(err.Error(), "is not on procfs") {
				t.Errorf("tmpfs on proc: %v", err)
			}
			if err := unix.Unmount(filepath.Join(root, "proc"), 0); err != nil {
				t.Error(err)
			}
			for _, m := range mounts(t, "/proc/thread-self/mountinfo") {
				if strings.Contains(m, filepath.Join(root, "proc/meminfo")) {
					t.Errorf("left: %s", m)
				}
			}
		})
	}
	t.Run("kernel", check)
	t.Run("before openat2", func(t *testing.T) {
		defer func() { openat2 = unix.Openat2 }()
		openat2 = func(int, string, *unix.OpenHow) (int, error) { return -1, unix.ENOSYS }
		check(t)
	})
}
