package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAttributes looks at the files with stat(2).
func TestAttributes(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	for _, root := range []string{d.compat, d.mount, filepath.Join(d.mount, "c", c.id)} {
		for file := range files {
			path := filepath.Join(root, file)
			for range 2 { // before and after a read
				fi, err := bounded(path, func() (os.FileInfo, error) { return os.Stat(path) })
				if err != nil {
					t.Fatal(err)
				}
				own, err := os.Stat("/" + file)
				if err != nil {
					t.Fatal(err)
				}
				if fi.Mode() != own.Mode() {
					t.Errorf("%s: mode %v, the kernel's own has %v", path, fi.Mode(), own.Mode())
				}
				if age := time.Since(fi.ModTime()); age > timeout(2*time.Second) || age < -time.Second {
					t.Errorf("%s: modified %v ago", path, age)
				}
				text := readFile(t, path)
				if fi.Size() == 0 || fi.Size() < int64(len(text)) {
					t.Errorf("%s: %d bytes by stat, %d read", path, fi.Size(), len(text))
				}
			}
		}
	}
}

// TestListing walks the trees.
func TestListing(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	var want []string
	for file := range files {
		want = append(want, file)
	}
	slices.Sort(want)
	for _, root := range []string{d.compat, filepath.Join(d.mount, "c", c.id)} {
		var got []string
		// proc and sys of the tree laid out as LXCFS's are links.
		for line := range strings.Lines(output(t, "busybox", "find", root+"/proc/", root+"/sys/", "-type", "f")) {
			file := strings.TrimPrefix(strings.TrimSpace(line), root+"/")
			file = strings.ReplaceAll(file, "//", "/")
			if files[file] == nil && (strings.HasPrefix(file, cpuDir) || strings.HasPrefix(file, nodeDir)) {
				continue // the machine's own, see TestSysfs
			}
			got = append(got, file)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("files below %s: %v, want %v", root, got, want)
		}
	}
	if got := strings.Fields(output(t, "busybox", "ls", d.mount)); !slices.Equal(got, []string{"by", "c", "proc", "sys"}) {
		t.Errorf("the mount holds %v", got)
	}
	if got := strings.Fields(output(t, "busybox", "ls", filepath.Join(d.mount, "c"))); !slices.Equal(got, []string{c.id}) {
		t.Errorf("c holds %v, want %s", got, c.id)
	}
	for _, name := range []string{"none", "c/none", "proc/none", "c/" + c.id + "/none", "proc/meminfo/none"} {
		_, err := bounded(name, func() (os.FileInfo, error) { return os.Stat(filepath.Join(d.mount, name)) })
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("stat of %s: %v", name, err)
		}
	}
}

// TestRefusals tries to change things. An answer of ENOSYS would stick to the connection.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	allowed := []error{unix.EPERM, unix.EROFS, unix.EACCES}
	for _, root := range []string{d.mount, filepath.Join(d.mount, "c", c.id), d.compat} {
		file, dir, missing := filepath.Join(root, "proc/meminfo"), filepath.Join(root, "proc"), filepath.Join(root, "proc/new")
		open := func(path string, flags int) func() error {
			return func() error {
				fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
				if err == nil {
					unix.Close(fd)
				}
				return err
			}
		}
		for what, try := range map[string]func() error{
			"open to write":        open(file, unix.O_WRONLY),
			"open to read, write":  open(file, unix.O_RDWR),
			"open to append":       open(file, unix.O_WRONLY|unix.O_APPEND),
			"open and truncate":    open(file, unix.O_WRONLY|unix.O_TRUNC),
			"truncate":             func() error { return unix.Truncate(file, 0) },
			"create":               open(missing, unix.O_WRONLY|unix.O_CREAT),
			"create in the root":   open(filepath.Join(root, "new"), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL),
			"unlink":               func() error { return unix.Unlink(file) },
			"mkdir":                func() error { return unix.Mkdir(missing, 0o755) },
			"rmdir":                func() error { return unix.Rmdir(dir) },
			"mknod":                func() error { return unix.Mknod(missing, unix.S_IFREG|0o644, 0) },
			"symlink":              func() error { return unix.Symlink("x", missing) },
			"link":                 func() error { return unix.Link(file, missing) },
			"rename":               func() error { return unix.Rename(file, missing) },
			"chmod":                func() error { return unix.Chmod(file, 0o777) },
			"chown":                func() error { return unix.Chown(file, 1, 1) },
			"utimes":               func() error { return unix.Utimes(file, make([]unix.Timeval, 2)) },
			"setxattr":             func() error { return unix.Setxattr(file, "user.x", []byte("y"), 0) },
			"unlink in the root":   func() error { return unix.Unlink(filepath.Join(root, "proc")) },
			"chmod of a directory": func() error { return unix.Chmod(dir, 0o777) },
		} {
			_, err := bounded(what, func() (struct{}, error) { return struct{}{}, try() })
			ok := slices.ContainsFunc(allowed, func(a error) bool { return errors.Is(err, a) })
			switch {
			case ok:
			case what == "unlink in the root" && errors.Is(err, unix.EISDIR):
			case what == "rmdir" && !strings.Contains(root, "/c/") && errors.Is(err, unix.ENOTDIR): // it is a link
			case what == "setxattr" && errors.Is(err, unix.ENOTSUP):
			default:
				t.Errorf("%s in %s: %v, want EPERM, EROFS or EACCES", what, root, err)
			}
		}
		if err := whole("proc/meminfo", readFile(t, file)); err != nil {
			t.Error(err)
		}
		for _, call := range []func() error{
			func() error { return unix.Access(file, unix.R_OK) },
			func() error { return unix.Statfs(file, &unix.Statfs_t{}) },
		} {
			if _, err := bounded("access", func() (struct{}, error) { return struct{}{}, call() }); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestOtherUser reads as somebody who is not root: the containers' directory is closed to him, the files are not.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := func(args ...string) (string, error) {
		return start(t, patience, c.command(append([]string{selfExe, "nobody"}, args...)...)).result()
	}
	if out, err := nobody("busybox", "cat", "/proc/meminfo"); err != nil {
		t.Error(err)
	} else {
		is(t, "nobody", out, 100)
	}
	if out, err := nobody("busybox", "ls", filepath.Join(d.mount, "c")); err == nil {
		t.Errorf("nobody lists the containers: %s", out)
	}
	if out, err := nobody("busybox", "cat", filepath.Join(d.mount, "c", c.id, "proc/meminfo")); err == nil {
		t.Errorf("nobody reads a container by its path: %s", out)
	}
}
