package container

import (
	"errors"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

func open(t *testing.T, m *fixture.Machine) (*Registry, *host.FS) {
	t.Helper()
	h, err := host.Open(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(h, Options{Root: m.Root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); h.Close() })
	return r, h
}

// collect forgets the containers that ended. A file of a fixture can be read when it is removed, so that tells nothing.
func collect(r *Registry) {
	r.collect(r.known(nil), func(c *Container) bool { return c.ended(false) })
}

// resolve is the ID of the container that a task is in, "" for the machine.
func resolve(t *testing.T, r *Registry, tid int) string {
	t.Helper()
	c, err := r.Resolve(tid)
	if err != nil {
		t.Fatalf("resolving %d: %v", tid, err)
	}
	if c == nil {
		return ""
	}
	defer c.Release()
	return c.ID
}

func TestResolve(t *testing.T) {
	limited := map[string]string{"memory.max": "268435456\n"}
	m := fixture.New(t)
	m.Cgroup("/pod", limited)
	m.Cgroup("/pod/c1", nil)
	m.Cgroup("/pod/c1/sub", map[string]string{"memory.max": "67108864\n"})
	m.Cgroup("/pod/c2", nil)
	m.Cgroup("/pod/c1x", nil)
	m.Cgroup("/vm/init.scope", limited)
	m.Cgroup("/vm", limited)
	m.Cgroup("/free", nil)
	for _, p := range []fixture.Process{
		{PID: 1, Cgroup: "/init.scope"},
		{PID: 100, Parent: 1, Cgroup: "/pod/c1", NS: "c1", Inner: 1},
		{PID: 101, Parent: 100, Cgroup: "/pod/c1", NS: "c1", Inner: 7},
		{PID: 102, Parent: 101, Cgroup: "/pod/c1/sub", NS: "c1", Inner: 8},
		{PID: 103, Parent: 1, Cgroup: "/pod/c1", NS: "c1", Inner: 9},   // entered from outside
		{PID: 104, Parent: 100, Cgroup: "/pod/c2", NS: "c1", Inner: 3}, // shares the pid namespace
		{PID: 105, Parent: 1, Cgroup: "/pod/c1x", NS: "c1", Inner: 4},
		{PID: 106, Parent: 102, Cgroup: "/pod/c1/sub", NS: "nested", Inner: 1},
		{PID: 107, Parent: 106, Cgroup: "/pod/c1/sub", NS: "nested", Inner: 2},
		{PID: 200, Parent: 1, Cgroup: "/vm/init.scope", NS: "vm", Inner: 1},
		{PID: 201, Parent: 200, Cgroup: "/vm", NS: "vm", Inner: 40},
		{PID: 300, Parent: 1, Cgroup: "/"},
		{PID: 301, Parent: 1, Cgroup: "/free"},
		{PID: 302, Parent: 1, Cgroup: "/pod/c2"},
		{PID: 303, Parent: 1, Cgroup: "/free", NS: "bare", Inner: 1},
		{PID: 304, Parent: 1, Cgroup: "/", NS: "root", Inner: 1},
	} {
		m.Start(p)
	}
	r, _ := open(t, m)
	for _, test := range []struct {
		tid  int
		want string
		why  string
	}{
		{100, "/pod/c1", "the init"},
		{101, "/pod/c1", "a child of the init"},
		{102, "/pod/c1", "in a sub-cgroup: the init's cgroup contains it"},
		{103, "/pod/c1", "entered from outside, found without being the init's child"},
		{104, "/pod/c2", "in a shared pid namespace, its own cgroup"},
		{105, "/pod/c1x", "/pod/c1 does not contain /pod/c1x"},
		{106, "/pod/c1/sub", "a nested container: the innermost pid namespace"},
		{107, "/pod/c1/sub", "in a nested container"},
		{200, "/vm", "init.scope is a leaf of the container's own systemd"},
		{201, "/vm", "beside init.scope"},
		{300, "", "a process of the machine"},
		{301, "", "a process of the machine in a cgroup without limits"},
		{302, "/pod/c2", "a process of the machine in a limited cgroup"},
		{303, "/free", "a bare unshare in a cgroup without limits"},
		{304, "", "a bare unshare in the root cgroup"},
	} {
		for range 2 { // found and remembered
			if got := resolve(t, r, test.tid); got != test.want {
				t.Errorf("%d: %q, want %q: %s", test.tid, got, test.want, test.why)
			}
		}
	}

	if _, err := r.Announce("outer", 100, nil); err != nil {
		t.Fatal(err)
	}
	for tid, want := range map[int]string{101: "outer", 102: "outer", 107: "outer", 104: "/pod/c2", 105: "/pod/c1x"} {
		if got := resolve(t, r, tid); got != want {
			t.Errorf("with outer announced, %d: %q, want %q", tid, got, want)
		}
	}
	if _, err := r.Announce("inner", 106, nil); err != nil {
		t.Fatal(err)
	}
	if got := resolve(t, r, 107); got != "inner" {
		t.Errorf("the longest announced prefix: %q, want inner", got)
	}
	if err := r.Forget("inner"); err != nil {
		t.Fatal(err)
	}
	if got := resolve(t, r, 107); got != "outer" {
		t.Errorf("with inner forgotten: %q, want outer", got)
	}
}

func TestResolveSeesLimitsThatComeLater(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/svc", nil)
	m.Start(fixture.Process{PID: 50, Cgroup: "/svc"})
	r, _ := open(t, m)
	if got := resolve(t, r, 50); got != "" {
		t.Errorf("unlimited: %q, want the machine", got)
	}
	m.Write("sys/fs/cgroup/svc/cpu.max", "50000 100000\n")
	if got := resolve(t, r, 50); got != "/svc" {
		t.Errorf("limited: %q, want /svc", got)
	}
	m.Write("sys/fs/cgroup/svc/cpu.max", "max 100000\n")
	if got := resolve(t, r, 50); got != "" {
		t.Errorf("unlimited again: %q, want the machine", got)
	}
}

func TestResolveUnknownCallers(t *testing.T) {
	r, _ := open(t, fixture.New(t))
	for _, tid := range []int{0, -1, 4711} {
		if c, err := r.Resolve(tid); c != nil || !errors.Is(err, ErrUnknownCaller) {
			t.Errorf("%d: %v, %v", tid, c, err)
		}
	}
}

// A container that is started anew in the same cgroup is another one: it starts at 0.
func TestResolveARestartedContainer(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", map[string]string{"memory.max": "1048576\n"})
	m.Start(fixture.Process{PID: 70, Cgroup: "/c", NS: "first", Inner: 1, Start: 1000})
	r, _ := open(t, m)
	first, err := r.Resolve(70)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	m.Remove("proc/70")
	m.Start(fixture.Process{PID: 71, Cgroup: "/c", NS: "second", Inner: 1, Start: 2000})
	second, err := r.Resolve(71)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release()
	if first == second || first.Slot == second.Slot || second.start-first.start != 10*time.Second {
		t.Errorf("slots %d and %d, starts %v and %v", first.Slot, second.Slot, first.start, second.start)
	}
}

func TestAnnounce(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/a", nil)
	m.Cgroup("/b", nil)
	m.Start(fixture.Process{PID: 80, Cgroup: "/a", NS: "a", Inner: 1})
	m.Start(fixture.Process{PID: 81, Cgroup: "/b", NS: "b", Inner: 1})
	m.Start(fixture.Process{PID: 82, Cgroup: "/"})
	r, _ := open(t, m)
	a, err := r.Announce("web", 80, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Announce("web", 80, nil); err != nil || again != a {
		t.Errorf("announced twice: %v, %v", again, err)
	}
	if _, err := r.Announce("web", 81, nil); err == nil {
		t.Error("another container took the name of a living one")
	}
	if _, err := r.Announce("root", 82, nil); err == nil {
		t.Error("the root cgroup was announced as a container")
	}
	if _, err := r.Announce("nobody", 4711, nil); err == nil {
		t.Error("a process that does not exist was announced")
	}
	m.Remove("proc/80")
	b, err := r.Announce("web", 81, nil)
	if err != nil {
		t.Fatalf("the name of a dead container is free: %v", err)
	}
	if b.Slot == a.Slot {
		t.Error("a slot was used again")
	}
	if list := r.Announced(); len(list) != 1 || list[0].PID != 81 || list[0].Cgroup != "/b" {
		t.Errorf("listed: %+v", list)
	}
	m.Remove("sys/fs/cgroup/b")
	collect(r)
	if list := r.Announced(); len(list) != 0 {
		t.Errorf("a container whose cgroup is gone is still announced: %+v", list)
	}
	if err := r.Forget("web"); err == nil {
		t.Error("a container that is not there was forgotten")
	}
}

func TestFoundContainersAreCollected(t *testing.T) {
	m := fixture.New(t)
	m.Cgroup("/c", nil)
	m.Start(fixture.Process{PID: 90, Cgroup: "/c", NS: "c", Inner: 1})
	r, _ := open(t, m)
	resolve(t, r, 90)
	if len(r.found) != 1 || len(r.callers) != 1 {
		t.Fatalf("%d found, %d callers", len(r.found), len(r.callers))
	}
	collect(r)
	if len(r.found) != 1 {
		t.Error("a living container was collected")
	}
	m.Remove("proc/90")
	collect(r)
	if len(r.found) != 0 || len(r.callers) != 0 {
		t.Errorf("%d found, %d callers are left", len(r.found), len(r.callers))
	}
}
