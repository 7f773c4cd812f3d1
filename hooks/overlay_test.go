package hooks

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
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
	const online, dir, pressure = "sys/devices/system/cpu/online", "sys/devices/system/node", "proc/pressure/cpu"
	if _, err := os.Stat("/" + pressure); err != nil {
		t.Skip("this kernel counts no pressure: ", err)
	}
	check := func(t *testing.T) {
		inMountNamespace(t, func() {
			view, root := container(t, "proc/meminfo", online, dir+"/online", "proc/nosuchfile", pressure)
			files := []string{"proc/meminfo", online, dir, "proc/nosuchfile", pressure}
			missing, err := Overlay(control.View{Path: view, Files: files}, root)
			if err != nil || !slices.Equal(missing, []string{"proc/nosuchfile"}) {
				t.Errorf("Overlay = %q, %v", missing, err)
			}
			if err := os.WriteFile(filepath.Join(root, dir, "new"), nil, 0o644); err == nil {
				t.Errorf("a file can be made in %s", dir)
			}
			for f, point := range map[string]string{"proc/meminfo": "proc/meminfo", online: online, dir + "/online": dir, pressure: pressure} {
				writable := f == pressure
				path := filepath.Join(root, f)
				if b, err := os.ReadFile(path); string(b) != "view of "+f {
					t.Errorf("%s: %q %v", f, b, err)
				}
				if err := os.WriteFile(path, nil, 0); (err == nil) != writable {
					t.Errorf("%s: writing: %v", f, err)
				}
				want := "ro,nosuid,nodev,noexec"
				if writable {
					want = "rw,nosuid,nodev,noexec"
				}
				var found bool
				for _, m := range mounts(t, "/proc/thread-self/mountinfo") {
					fields := strings.Fields(m)
					if fields[4] != filepath.Join(root, point) {
						continue
					}
					found = true
					if !strings.HasPrefix(fields[5], want) || fields[6] != "-" {
						t.Errorf("mount %q: want %s and private", m, want)
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

// A file of the cgroup is bound from where it is; what else is at its path leaves the view's in its place.
func TestOverlayDirect(t *testing.T) {
	const file = "proc/pressure/cpu"
	if _, err := os.Stat("/" + file); err != nil {
		t.Skip("this kernel counts no pressure: ", err)
	}
	own, text := cgroupFile(t)
	elsewhere := filepath.Join(t.TempDir(), "cpu.pressure")
	write(t, elsewhere, "no cgroup's")
	check := func(t *testing.T) {
		inMountNamespace(t, func() {
			for direct, want := range map[string]string{
				own: text, elsewhere: "view of " + file, elsewhere + "/none": "view of " + file, filepath.Dir(own): "view of " + file,
			} {
				view, root := container(t, file)
				v := control.View{Path: view, Files: []string{file}, Direct: map[string]string{file: direct, "proc/stat": own}}
				if _, err := Overlay(v, root); err != nil {
					t.Errorf("%s: %v", direct, err)
				}
				if b, err := os.ReadFile(filepath.Join(root, file)); string(b) != want {
					t.Errorf("bound from %s: %q, %v; want %q", direct, b, err, want)
				}
				f, err := os.OpenFile(filepath.Join(root, file), os.O_RDWR, 0)
				if err != nil {
					t.Errorf("bound from %s: %v", direct, err)
					continue
				}
				f.Close()
			}
		})
	}
	t.Run("kernel", check)
	t.Run("before open_tree and openat2", func(t *testing.T) {
		defer func() { openTree, openat2 = unix.OpenTree, unix.Openat2 }()
		openTree = func(int, string, uint) (int, error) { return -1, unix.ENOSYS }
		openat2 = func(int, string, *unix.OpenHow) (int, error) { return -1, unix.ENOSYS }
		check(t)
	})
}

// cgroupFile is a file of a cgroup that can be written, and what it says.
func cgroupFile(t *testing.T) (path, text string) {
	t.Helper()
	for _, m := range mounts(t, "/proc/self/mountinfo") {
		before, after, _ := strings.Cut(m, " - ")
		if kind, _, _ := strings.Cut(after, " "); kind != "cgroup2" && kind != "cgroup" {
			continue
		}
		if os.Getuid() != 0 {
			t.Skip("needs root for a mount namespace")
		}
		dir := filepath.Join(strings.Fields(before)[4], "scopefs-overlay-test")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		return filepath.Join(dir, "cgroup.procs"), ""
	}
	t.Skip("no cgroups are mounted")
	return "", ""
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
				_, err := Overlay(control.View{Path: view, Files: []string{"proc/meminfo", file}}, root)
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
					t.Errorf("%s: error %v, want %q", file, err, want)
				}
			}
			// No source: nothing is half done.
			if _, err := Overlay(control.View{Path: view, Files: []string{"proc/meminfo", "proc/stat"}}, root); err == nil || !strings.Contains(err.Error(), "proc/stat") {
				t.Errorf("missing source: %v", err)
			}
			// A container that puts a file system of its own in procfs's place.
			if err := unix.Mount("tmpfs", filepath.Join(root, "proc"), "tmpfs", 0, ""); err != nil {
				t.Error(err)
			}
			write(t, filepath.Join(root, "proc/meminfo"), "mine")
			if _, err := Overlay(control.View{Path: view, Files: []string{"proc/meminfo"}}, root); err == nil || !strings.Contains(err.Error(), "is not on procfs") {
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
