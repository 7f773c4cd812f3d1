//go:build linux

package vm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const root = "/sys/fs/cgroup"

// guest skips t outside the guest and returns its cgroup layout.
func guest(t *testing.T) string {
	t.Helper()
	if os.Getenv("SCOPEFS_VM") == "" {
		t.Skip("checks a VM of test/vm/run.sh from inside; run it by make test-vm")
	}
	return os.Getenv("SCOPEFS_CGROUPS")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func write(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// isFS fails t unless path lies on a file system of that type.
func isFS(t *testing.T, path string, magic int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Errorf("statfs %s: %v", path, err)
	} else if st.Type != magic {
		t.Errorf("%s: file system %#x, want %#x", path, st.Type, magic)
	}
}

// newCgroup makes a cgroup below a hierarchy for the time of t.
func newCgroup(t *testing.T, hierarchy string) string {
	t.Helper()
	dir := filepath.Join(hierarchy, strings.ToLower(t.Name()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestKernel(t *testing.T) {
	guest(t)
	version, _, _ := strings.Cut(os.Getenv("SCOPEFS_LANE"), "-")
	if release := read(t, "/proc/sys/kernel/osrelease"); !strings.HasPrefix(release, version+".") {
		t.Errorf("Linux %s in lane %s", release, os.Getenv("SCOPEFS_LANE"))
	}
	want := 4
	if strings.HasSuffix(os.Getenv("SCOPEFS_LANE"), "-numa") {
		want = 8
	}
	if n := runtime.NumCPU(); n != want {
		t.Errorf("%d CPUs, want %d", n, want)
	}
}

// TestNUMA checks that a guest of a -numa lane has the nodes that it was given.
func TestNUMA(t *testing.T) {
	guest(t)
	if !strings.HasSuffix(os.Getenv("SCOPEFS_LANE"), "-numa") {
		t.Skip("this lane's machine has one node; those of 6.1-v2-numa and 5.10-v1-numa have two")
	}
	const dir = "/sys/devices/system/node/"
	for file, want := range map[string]string{
		"online": "0-1", "has_memory": "0-1", "node0/cpulist": "0-3", "node1/cpulist": "4-7",
		"node0/distance": "10 20", "node1/distance": "20 10",
	} {
		if got := read(t, dir+file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

func TestControllers(t *testing.T) {
	layout := guest(t)
	if layout == "v2" {
		isFS(t, root, unix.CGROUP2_SUPER_MAGIC)
		for _, file := range []string{"cgroup.controllers", "cgroup.subtree_control"} {
			have := strings.Fields(read(t, filepath.Join(root, file)))
			for _, c := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
				if !slices.Contains(have, c) {
					t.Errorf("%s: no %s in %v", file, c, have)
				}
			}
		}
		return
	}
	for _, c := range []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "systemd"} {
		isFS(t, filepath.Join(root, c), unix.CGROUP_SUPER_MAGIC)
	}
	joined := layout != "v1-split"
	if _, err := os.Stat(filepath.Join(root, "cpu,cpuacct")); (err == nil) != joined {
		t.Errorf("cpu and cpuacct joined: %t, want %t", err == nil, joined)
	}
	if layout == "hybrid" {
		isFS(t, filepath.Join(root, "unified"), unix.CGROUP2_SUPER_MAGIC)
	}
}

// TestMemory checks that limits can be set, and that a child's memory counts for its parent.
func TestMemory(t *testing.T) {
	hierarchy, limit, swap, usage := root, "memory.max", "memory.swap.max", "memory.current"
	if guest(t) != "v2" {
		hierarchy, limit, swap, usage = root+"/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.usage_in_bytes"
	}
	parent := newCgroup(t, hierarchy)
	if hierarchy == root {
		write(t, parent+"/cgroup.subtree_control", "+memory")
	}
	child := newCgroup(t, parent)
	for _, file := range []string{limit, swap} { // memsw must not be less than the limit: this order
		write(t, filepath.Join(parent, file), "64M")
		if got := read(t, filepath.Join(parent, file)); got != strconv.Itoa(64<<20) {
			t.Errorf("%s: %s, want 64M", file, got)
		}
	}
	file := filepath.Join(t.TempDir(), "32M")
	script := fmt.Sprintf("echo $$ >%s/cgroup.procs && dd if=/dev/zero of=%s bs=1M count=32", child, file)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n, err := strconv.Atoi(read(t, filepath.Join(parent, usage)))
	if err != nil || n < 32<<20 || n > 64<<20 {
		t.Errorf("%s: %d (%v) after writing 32 MiB to a tmpfs", usage, n, err)
	}
	if err := os.Remove(file); err != nil {
		t.Error(err)
	}
}

func TestCPU(t *testing.T) {
	if guest(t) == "v2" {
		dir := newCgroup(t, root)
		write(t, dir+"/cpu.max", "150000 100000")
		write(t, dir+"/cpuset.cpus", "0-1")
		if got := read(t, dir+"/cpuset.cpus.effective"); got != "0-1" {
			t.Errorf("cpuset.cpus.effective: %s, want 0-1", got)
		}
		return
	}
	write(t, newCgroup(t, root+"/cpu")+"/cpu.cfs_quota_us", "150000")
	dir := newCgroup(t, root+"/cpuset")
	write(t, dir+"/cpuset.cpus", "0-1")
	if got := read(t, dir+"/cpuset.effective_cpus"); got != "0-1" {
		t.Errorf("cpuset.effective_cpus: %s, want 0-1", got)
	}
}

func TestPressure(t *testing.T) {
	layout := guest(t)
	files := []string{"/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory"}
	if layout == "v2" {
		dir := newCgroup(t, root)
		files = append(files, dir+"/cpu.pressure", dir+"/memory.pressure")
	}
	for _, file := range files {
		if !strings.HasPrefix(read(t, file), "some avg10=") {
			t.Errorf("%s: no pressure", file)
		}
	}
}

func TestSwap(t *testing.T) {
	guest(t)
	lines := strings.Split(read(t, "/proc/swaps"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "/dev/zram0") {
		t.Errorf("want swap on zram0:\n%s", strings.Join(lines, "\n"))
	}
}

func TestFuse(t *testing.T) {
	guest(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("guest", dir, "fuse.guest", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatalf("mount fuse: %v", err)
	}
	request := make([]byte, 1<<17)
	if n, err := unix.Read(fd, request); err != nil || n < 40 {
		t.Errorf("INIT: %d bytes, %v", n, err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
}

// TestPivotRoot checks that the root can be changed as container runtimes do;
// on a bare initramfs it cannot.
func TestPivotRoot(t *testing.T) {
	guest(t)
	script := "mount -t tmpfs none /mnt && mkdir /mnt/old && pivot_root /mnt /mnt/old && echo /*"
	out, err := exec.Command("unshare", "-m", "sh", "-c", script).CombinedOutput()
	if err != nil || string(out) != "/old\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if mounts := read(t, "/proc/self/mountinfo"); !strings.Contains(mounts, " / / rw shared:") {
		t.Errorf("the root is not shared:\n%s", mounts)
	}
}

func TestPrograms(t *testing.T) {
	guest(t)
	for _, args := range []string{"free -m", "top -bn1", "vmstat", "uptime", "ps aux", "lscpu", "nproc", "busybox free", "runc --version"} {
		words := strings.Fields(args)
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) == 0 {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}
