package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

func TestPressure(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", map[string]string{"io.pressure": "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\n"})
	m.Start(fixture.Process{PID: 10, Cgroup: "/c", NS: "c", Inner: 1})
	r, _ := open(t, m)
	c, err := r.Resolve(10)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	var s Snapshot
	var h host.Snapshot
	if err := c.Snapshot(NeedPressure(cgroup.PressureIO), &h, 10, &s); err != nil {
		t.Fatal(err)
	}
	if p := s.View.Pressure[cgroup.PressureIO]; p == nil || p.Path != "/c" || !strings.HasSuffix(string(p.Text), "total=5\n") {
		t.Errorf("io: %+v", p)
	}
	if p := s.View.Pressure[cgroup.PressureCPU]; p != nil {
		t.Errorf("cpu was not asked for: %+v", p)
	}
	if err := c.Snapshot(NeedPressure(cgroup.PressureIRQ), &h, 10, &s); !errors.Is(err, cgroup.ErrNoPressure) {
		t.Errorf("irq: %v", err)
	}
	fd, err := c.OpenPressure(cgroup.PressureIO)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if got := c.Owner(); got != (cgroup.Paths{Unified: "/c"}) {
		t.Errorf("paths %v", got)
	}
}

// The cgroup's own file is of use only where root of the container can set triggers on it.
func TestDirectPressure(t *testing.T) {
	const plain = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	delegating := strings.Replace(plain, "cgroup2 rw\n", "cgroup2 rw,nsdelegate,memory_recursiveprot\n", 1)
	for name, test := range map[string]struct {
		mounts string
		own    []string // namespaces that are the container's own
		want   bool
	}{
		"plain":                              {plain, nil, true},
		"cgroup namespace":                   {plain, []string{"cgroup"}, true},
		"nsdelegate":                         {delegating, nil, true},
		"nsdelegate and cgroup namespace":    {delegating, []string{"cgroup"}, false},
		"user namespace":                     {plain, []string{"user"}, false},
		"user namespace, and all the others": {delegating, []string{"user", "cgroup"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := fixture.New(t)
			m.Write("proc/self/mountinfo", test.mounts)
			m.Cgroup("/c", nil)
			m.Start(fixture.Process{PID: 10, Cgroup: "/c", NS: "c", Inner: 1})
			for _, kind := range []string{"user", "cgroup"} {
				self := filepath.Join(m.Root, "proc/self/ns", kind)
				m.Write("proc/self/ns/"+kind, "")
				if err := os.Link(self, filepath.Join(m.Root, "proc/10/ns", kind)); err != nil {
					t.Fatal(err)
				}
			}
			for _, kind := range test.own {
				m.Remove("proc/10/ns/" + kind)
				m.Write("proc/10/ns/"+kind, "")
			}
			r, _ := open(t, m)
			c, err := r.Announce("web", 10, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if test.want {
				want = m.Root + "/sys/fs/cgroup/c/memory.pressure"
			}
			if got := c.DirectPressure(cgroup.PressureMemory); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if got := c.DirectPressure(cgroup.PressureIRQ); got != "" {
				t.Errorf("%q, the kernel has none", got)
			}
		})
	}
}

// What is told to be forgotten: what was announced, and what ended.
func TestOnForget(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/a", nil)
	m.Cgroup("/b", nil)
	m.Start(fixture.Process{PID: 10, Cgroup: "/a", NS: "a", Inner: 1})
	m.Start(fixture.Process{PID: 11, Cgroup: "/b", NS: "b", Inner: 1})
	r, _ := open(t, m)
	var told []uint64
	r.OnForget(func(slot uint64) { told = append(told, slot) })
	a, err := r.Announce("a", 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Resolve(11)
	if err != nil {
		t.Fatal(err)
	}
	b.Release()
	slots := []uint64{a.Slot, b.Slot}
	if err := r.Forget("a"); err != nil {
		t.Fatal(err)
	}
	m.Remove("sys/fs/cgroup/b")
	collect(r)
	if len(told) != 2 || told[0] != slots[0] || told[1] != slots[1] {
		t.Errorf("told of %v, want %v", told, slots)
	}
}
