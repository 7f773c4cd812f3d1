package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

func TestPressure(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const cpu, io = "some avg10=1.00 avg60=0.00 avg300=0.00 total=1\n", "some avg10=2.00 avg60=0.00 avg300=0.00 total=2\n"
	write("proc/pressure/cpu", cpu)
	write("proc/pressure/io", io)
	for _, f := range []string{"online", "present", "possible"} {
		write("sys/devices/system/cpu/"+f, "0\n")
	}
	f, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s Snapshot
	if err := f.Snapshot(NeedPressure(cgroup.PressureIO), &s); err != nil || string(s.Pressure[cgroup.PressureIO]) != io || len(s.Pressure[cgroup.PressureCPU]) != 0 {
		t.Errorf("io: %q, %v", s.Pressure, err)
	}
	if err := f.Snapshot(NeedPressure(cgroup.PressureCPU), &s); err != nil || string(s.Pressure[cgroup.PressureCPU]) != cpu || len(s.Pressure[cgroup.PressureIO]) != 0 {
		t.Errorf("cpu: %q, %v", s.Pressure, err)
	}
	if err := f.Snapshot(NeedPressure(cgroup.PressureIRQ), &s); err == nil {
		t.Error("a file that the kernel does not have was read")
	}
	if mode := f.Mode("proc/pressure/cpu"); mode != 0o644 {
		t.Errorf("mode %o", mode)
	}
	if mode := f.Mode("proc/pressure/irq"); mode != 0 {
		t.Errorf("mode %o of no file", mode)
	}
	fd, err := f.OpenPressure(cgroup.PressureCPU)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := f.OpenPressure(cgroup.PressureIRQ); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening no file: %v", err)
	}
}

func TestPrivileged(t *testing.T) {
	root := t.TempDir()
	for pid, text := range map[string]string{
		"10": "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n",
		"11": "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n",
		"12": "Name:\tx\n",
		"13": "Name:\tx\nCapEff:\tgarbage\n",
	} {
		path := filepath.Join(root, "proc", pid, "status")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, root)
	for pid, want := range map[int]bool{10: true, 11: false, 12: false, 13: false, 14: false, 0: false} {
		if inEffect, overMachine := f.Privileged(pid); inEffect != want || overMachine != want {
			t.Errorf("task %d: %v, %v", pid, inEffect, overMachine)
		}
	}

	// Now with user namespaces: 10 is in ours, 15 in another one, and of 16 it cannot be known.
	for pid, ns := range map[string]string{"self": "ours", "10": "ours", "15": "theirs", "16": ""} {
		dir := filepath.Join(root, "proc", pid)
		err := errors.Join(os.MkdirAll(filepath.Join(dir, "ns"), 0o755),
			os.WriteFile(filepath.Join(dir, "status"), []byte("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0o644))
		if ns != "" {
			err = errors.Join(err, os.Symlink("user:["+ns+"]", filepath.Join(dir, "ns/user")))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for pid, want := range map[int]bool{10: true, 15: false, 16: false} {
		if inEffect, overMachine := f.Privileged(pid); !inEffect || overMachine != want {
			t.Errorf("task %d in its user namespace: %v, %v, want true, %v", pid, inEffect, overMachine, want)
		}
	}
}

func FuzzEffective(f *testing.F) {
	f.Add([]byte("Name:\tx\nCapEff:\t000001ffffffffff\n"))
	f.Add([]byte("Name:\tx\nCapEff:\t"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		if effective(text) != 0 && !strings.Contains(string(text), "CapEff:") {
			t.Errorf("capabilities in %q", text)
		}
	})
}

func TestAsUnprivileged(t *testing.T) {
	own := func() uint64 {
		text, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			t.Fatal(err)
		}
		return effective(text)
	}
	before := own()
	failure := errors.New("a failure")
	err := AsUnprivileged(func() error {
		if now := own(); now != before&^(1<<unix.CAP_SYS_RESOURCE) {
			t.Errorf("capabilities %x, before %x", now, before)
		}
		return failure
	})
	if err != failure {
		t.Errorf("%v, want what the function returned", err)
	}
	if after := own(); after != before {
		t.Errorf("capabilities %x afterwards, %x before", after, before)
	}
}
