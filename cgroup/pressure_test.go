package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const pressureText = "some avg10=1.50 avg60=0.75 avg300=0.10 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"

func TestReadPressure(t *testing.T) {
	for _, test := range []struct {
		fixture string
		files   map[string]string // below sys/fs/cgroup
		want    string            // the path of the cgroup; "" for none
		file    string
	}{
		{"hybrid-6.18", nil, "", ""},
		{"hybrid-6.18", map[string]string{"unified/pod1/app/cpu.pressure": pressureText}, "/pod1/app", "unified/pod1/app/cpu.pressure"},
		{"hybrid-6.18", map[string]string{"unified/pod1/cpu.pressure": pressureText, "unified/cpu.pressure": pressureText}, "", ""},
		// Alibaba Cloud Linux with psi_v1=1.
		{"hybrid-6.18", map[string]string{"cpuacct/pod1/app/cpu.pressure": pressureText}, "/pod1/app", "cpuacct/pod1/app/cpu.pressure"},
		{"hybrid-6.18", map[string]string{
			"cpuacct/pod1/app/cpu.pressure": "of v1\n", "unified/pod1/app/cpu.pressure": pressureText,
		}, "/pod1/app", "unified/pod1/app/cpu.pressure"},
		{"v1-6.1", nil, "", ""},
		{"v2-6.1", nil, "", ""},
	} {
		root := fixture(t, test.fixture)
		for file, text := range test.files {
			write(t, filepath.Join(root, "sys/fs/cgroup", file), text)
		}
		g := open(t, newFS(t, root), container(t, root))
		var p PressureText
		err := g.ReadPressure(PressureCPU, &p)
		fd, openErr := g.OpenPressure(PressureCPU)
		if test.want == "" {
			if !errors.Is(err, ErrNoPressure) || !errors.Is(openErr, ErrNoPressure) || g.PressureFile(PressureCPU) != "" {
				t.Errorf("%s %v: %+v, %v, %v, %q; want no pressure", test.fixture, test.files, p, err, openErr, g.PressureFile(PressureCPU))
			}
			continue
		}
		if err != nil || p.Path != test.want || string(p.Text) != pressureText {
			t.Errorf("%s %v: %+v, %v", test.fixture, test.files, p, err)
		}
		want := filepath.Join(root, "sys/fs/cgroup", test.file)
		if got := g.PressureFile(PressureCPU); got != want {
			t.Errorf("file %s, want %s", got, want)
		}
		if openErr != nil {
			t.Fatal(openErr)
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		exec, err2 := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		to, err3 := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err := errors.Join(err, err2, err3); err != nil || flags&unix.O_ACCMODE != unix.O_RDWR || exec&unix.FD_CLOEXEC == 0 || to != want {
			t.Errorf("opened %s with flags %x and %x: %v", to, flags, exec, err)
		}
		unix.Close(fd)
		if err := g.ReadPressure(PressureIRQ, &p); !errors.Is(err, ErrNoPressure) {
			t.Errorf("a resource that the kernel does not count: %v", err)
		}
		g.Close()
		if err := g.ReadPressure(PressureCPU, &p); !errors.Is(err, os.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

// The kernel counts pressure in every cgroup of v2, without any controller, and stops to where it is told to.
func TestKernelPressure(t *testing.T) {
	k := newKernelTree(t)
	m := k.h.mounts[unified]
	if m == nil {
		t.Skip("no cgroup v2 is mounted")
	}
	if _, err := os.Stat("/proc/pressure/cpu"); err != nil {
		t.Skip("this kernel counts no pressure: ", err)
	}
	dir := m.point + k.name
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Rmdir(dir)
	g := open(t, NewFS(k.h), Paths{Unified: k.name})
	for _, r := range []Pressure{PressureCPU, PressureMemory, PressureIO} {
		var p PressureText
		if err := g.ReadPressure(r, &p); err != nil || !strings.HasPrefix(string(p.Text), "some avg10=") || p.Path != k.name {
			t.Errorf("%v: %+v, %v", r, p, err)
		}
		if got, want := g.PressureFile(r), dir+"/"+r.String()+".pressure"; got != want {
			t.Errorf("%v is at %s, want %s", r, got, want)
		}
	}
	if err := os.WriteFile(dir+"/cgroup.pressure", []byte("0"), 0); err != nil {
		t.Skip("this kernel cannot switch it off: ", err) // before Linux 6.1
	}
	var p PressureText
	if err := g.ReadPressure(PressureCPU, &p); !errors.Is(err, ErrNoPressure) {
		t.Errorf("switched off: %+v, %v", p, err)
	}
	if _, err := g.OpenPressure(PressureCPU); !errors.Is(err, ErrNoPressure) {
		t.Errorf("switched off: %v", err)
	}
	write(t, dir+"/cgroup.pressure", "1")
	time.Sleep(recheck + 10*time.Millisecond)
	if err := g.ReadPressure(PressureCPU, &p); err != nil {
		t.Errorf("switched on again: %v", err)
	}
	if err := unix.Rmdir(dir); err != nil {
		t.Fatal(err)
	}
	if err := g.ReadPressure(PressureCPU, &p); !errors.Is(err, ErrGone) {
		t.Errorf("removed: %v", err)
	}
}
