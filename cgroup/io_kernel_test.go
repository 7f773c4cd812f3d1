package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopDevice makes a block device of a file.
func loopDevice(t testing.TB, size int64) (path string, d Device) {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no loop devices: ", err)
	}
	defer control.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for range 20 { // somebody else may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		path = fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skip("no loop device: ", err)
		}
		if err = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(f.Fd())); err != nil {
			loop.Close()
			continue
		}
		t.Cleanup(func() {
			_ = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
			loop.Close()
		})
		var st unix.Stat_t
		if err := unix.Fstat(int(loop.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return path, Device{unix.Major(st.Rdev), unix.Minor(st.Rdev)}
	}
	t.Fatal("no free loop device")
	return "", Device{}
}

// TestDirectIO is no test by itself: TestKernelIO runs it in a cgroup, to read, write and discard a MiB each on a device.
func TestDirectIO(t *testing.T) {
	path, cgroup := os.Getenv("SCOPEFS_TEST_DEVICE"), os.Getenv("SCOPEFS_TEST_CGROUP")
	if path == "" {
		t.Skip("is for TestKernelIO")
	}
	if err := os.WriteFile(cgroup+"/cgroup.procs", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(buf, 0); err != nil {
		t.Error(err)
	}
	if _, err := f.ReadAt(buf, 0); err != nil {
		t.Error(err)
	}
	area := [2]uint64{0, mib}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&area))); errno != 0 {
		t.Log("BLKDISCARD:", errno)
	}
}

func TestKernelIO(t *testing.T) {
	k := newKernelTree(t)
	m, _, version := k.h.locate(blkio, &Paths{Unified: "/x", Blkio: "/x"})
	if version == V2 {
		enabled, err := os.ReadFile(m.point + "/cgroup.subtree_control")
		if err != nil || !slices.Contains(strings.Fields(string(enabled)), "io") {
			t.Skip("the io controller is not delegated to children of the v2 root")
		}
	}
	k.make(t, "")
	if version == V2 {
		if err := os.WriteFile(m.point+k.name+"/cgroup.subtree_control", []byte("+io"), 0); err != nil {
			t.Fatal(err)
		}
	}
	k.make(t, "/app")
	path, device := loopDevice(t, 16*mib)
	top := m.point + k.name
	if version == V1 {
		// Some kernels count only where there is a limit: 6.1 in a cgroup that has one in that direction, 6.10 and newer on
		// a device that has one in any cgroup.
		limit := []byte(fmt.Sprint(device, " ", 1<<40))
		for _, file := range []string{"/blkio.throttle.read_bps_device", "/blkio.throttle.write_bps_device"} {
			if err := errors.Join(os.WriteFile(top+file, limit, 0), os.WriteFile(top+"/app"+file, limit, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	g := open(t, NewFS(k.h), k.paths(""))
	count := func() DeviceIO {
		t.Helper()
		for _, d := range readIO(t, g).Devices {
			if d.Device == device {
				return d
			}
		}
		return DeviceIO{}
	}
	if d := count(); d != (DeviceIO{}) && d != (DeviceIO{Device: device}) {
		t.Errorf("before any I/O: %+v", d)
	}
	var last DeviceIO
	for i, below := range []string{"/app", "/app", ""} {
		if version == V2 && below == "" {
			continue // no processes in a cgroup whose children have controllers
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestDirectIO$", "-test.v")
		cmd.Env = append(os.Environ(), "SCOPEFS_TEST_DEVICE="+path, "SCOPEFS_TEST_CGROUP="+top+below)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		d := count()
		n := uint64(i + 1)
		// Opening a device may read its partition table.
		if d.Writes.Bytes != n*mib || d.Reads.Bytes < n*mib || d.Writes.Requests < n || d.Reads.Requests < n {
			t.Errorf("%d MiB: %+v", n, d)
		}
		if discards := !strings.Contains(string(out), "BLKDISCARD"); discards && d.Discards.Bytes != n*mib {
			t.Errorf("%d MiB discarded: %+v", n, d)
		}
		last = d
	}
	if err := unix.Rmdir(top + "/app"); err != nil {
		t.Fatal(err)
	}
	// v1 forgets what a cgroup did that is removed; the packages above make up for it.
	if d := count(); version == V2 && d != last {
		t.Errorf("v2 forgot what a removed cgroup did: %+v, before %+v", d, last)
	}
}
