package container

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/policy"
)

// A pod with two containers, of which the first has a service in a cgroup of its own.
func pod(t *testing.T) (*Registry, *host.FS, *fixture.Machine) {
	t.Helper()
	m := fixture.New(t)
	m.Cgroup("/pods", nil)
	m.Cgroup("/pods/p", map[string]string{"memory.max": "419430400\n", "cpu.max": "300000 100000\n"})
	m.Cgroup("/pods/p/c1", map[string]string{"memory.max": "209715200\n"})
	m.Cgroup("/pods/p/c1/init.scope", nil)
	m.Cgroup("/pods/p/c1/svc", map[string]string{"memory.max": "104857600\n"})
	m.Cgroup("/pods/p/c2", nil)
	m.Cgroup("/top", map[string]string{"memory.max": "52428800\n"})
	m.Cgroup("/user", nil)
	m.Cgroup("/user/session", nil)
	for _, p := range []fixture.Process{
		{PID: 1, Cgroup: "/"},
		{PID: 90, Cgroup: "/pods/p/c2", NS: "c2", Inner: 1, Start: 500},
		{PID: 100, Cgroup: "/pods/p/c1/init.scope", NS: "c1", Inner: 1, Start: 1000},
		{PID: 101, Parent: 100, Cgroup: "/pods/p/c1/svc", NS: "c1", Inner: 2, Start: 2000},
		{PID: 102, Cgroup: "/pods/p/c2", NS: "c1", Inner: 3, Start: 2000}, // entered its pid namespace alone
		{PID: 110, Cgroup: "/top", NS: "top", Inner: 1},
		{PID: 120, Cgroup: "/user/session"},
	} {
		m.Start(p)
	}
	r, h := open(t, m)
	return r, h, m
}

// of is the cgroup that is shown.
func of(c *Container) string {
	if c == nil {
		return ""
	}
	defer c.Release()
	return c.paths.String()
}

func TestReaderOfFoundContainers(t *testing.T) {
	for reader, want := range map[policy.Reader]map[int]string{
		policy.Container: {90: "/pods/p/c2", 100: "/pods/p/c1", 101: "/pods/p/c1", 102: "/pods/p/c2", 110: "/top", 120: ""},
		policy.Caller:    {90: "/pods/p/c2", 100: "/pods/p/c1", 101: "/pods/p/c1/svc", 102: "/pods/p/c2", 110: "/top", 120: ""},
		// The parent of /top is the root, which is nobody's; that of /user/session is unlimited.
		policy.Parent: {90: "/pods/p", 100: "/pods/p", 101: "/pods/p", 102: "/pods/p", 110: "/top", 120: ""},
	} {
		r, _, _ := pod(t)
		resolve(t, r, 101) // by another policy
		r.SetPolicy(policy.Policy{Reader: reader})
		for tid, want := range want {
			for range 2 { // found and remembered
				c, err := r.Resolve(tid)
				if got := of(c); err != nil || got != want {
					t.Errorf("reader %d, task %d: %q, %v, want %q", reader, tid, got, err, want)
				}
			}
		}
	}
}

func TestReaderOfAnAnnouncedContainer(t *testing.T) {
	r, _, _ := pod(t)
	announced := map[string]*Container{}
	announce := func(id string, pid int, o policy.Overrides) {
		t.Helper()
		c, err := r.Announce(id, pid, o)
		if err != nil {
			t.Fatal(err)
		}
		if old := announced[id]; old != nil && old != c {
			t.Errorf("%s became another container", id)
		}
		announced[id] = c
	}
	check := func(id string, tid int, own, shared string) {
		t.Helper()
		for range 2 {
			if got := of(r.ResolveIn(announced[id].Slot, tid)); got != own {
				t.Errorf("the own tree of %s shows %d %q, want %q", id, tid, got, own)
			}
			c, err := r.Resolve(tid)
			if got := of(c); err != nil || got != shared {
				t.Errorf("the shared tree shows %d %q, %v, want %q", tid, got, err, shared)
			}
		}
	}
	announce("c1", 100, nil)
	announce("top", 110, policy.Overrides{"reader": "parent"})
	check("c1", 101, "/pods/p/c1", "/pods/p/c1")
	check("top", 110, "/top", "/top")

	announce("c1", 100, policy.Overrides{"reader": "parent"})
	check("c1", 101, "/pods/p", "/pods/p")
	check("c1", 0+1, "/pods/p", "") // a process of the machine that looks into the tree
	announce("c1", 100, policy.Overrides{"reader": "caller"})
	check("c1", 101, "/pods/p/c1/svc", "/pods/p/c1/svc")
	check("c1", 100, "/pods/p/c1", "/pods/p/c1") // init.scope is its own systemd's
	check("c1", 90, "/pods/p/c1", "/pods/p/c2")  // not in it: the container
	if got := of(r.ResolveIn(announced["c1"].Slot, 0)); got != "/pods/p/c1" {
		t.Errorf("a task that cannot be seen is shown %q", got)
	}

	// The base policy holds where the container chose nothing.
	r.SetPolicy(policy.Policy{Reader: policy.Parent})
	check("c1", 101, "/pods/p/c1/svc", "/pods/p/c1/svc")
	announce("c1", 100, policy.Overrides{"swap": "off"})
	check("c1", 101, "/pods/p", "/pods/p")
	r.SetPolicy(policy.Policy{})
	check("c1", 101, "/pods/p/c1", "/pods/p/c1")

	r.SetPolicy(policy.Policy{Reader: policy.Parent})
	check("c1", 101, "/pods/p", "/pods/p")
	slot := announced["c1"].Slot
	if err := r.Forget("c1"); err != nil {
		t.Fatal(err)
	}
	if c := r.ResolveIn(slot, 101); c != nil {
		t.Errorf("a forgotten container is shown as %s", of(c))
	}
	for d := range r.found {
		if d.of == slot {
			t.Errorf("%v is left of a forgotten container", d.paths)
		}
	}
}

// A container that makes cgroups without end does not use up what others need; what is too much is shown the container.
func TestCgroupsInPlaceAreBounded(t *testing.T) {
	r, _, m := pod(t)
	c, err := r.Announce("c1", 100, policy.Overrides{"reader": "caller"})
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{}
	for i := range maxInPlace + 10 {
		cgroup := fmt.Sprintf("/pods/p/c1/%d", i)
		m.Cgroup(cgroup, nil)
		m.Start(fixture.Process{PID: 1000 + i, Parent: 100, Cgroup: cgroup, NS: "c1", Inner: 10 + i})
		shown[of(r.ResolveIn(c.Slot, 1000+i))]++
	}
	if len(shown) != maxInPlace+1 || shown["/pods/p/c1"] != 10 {
		t.Errorf("%d cgroups are shown and %d tasks the container, want %d and 10", len(shown), shown["/pods/p/c1"], maxInPlace+1)
	}
	if got := of(r.ResolveIn(c.Slot, 1000)); got != "/pods/p/c1/0" {
		t.Errorf("one that is known is shown %s", got)
	}
	if n := r.inPlace(c.Slot); n != maxInPlace {
		t.Errorf("%d are kept", n)
	}
}

// A view in the place of a container has its policy, follows it, and keeps counters of its own.
func TestPolicyOfAView(t *testing.T) {
	r, _, _ := pod(t)
	c, err := r.Announce("c1", 100, policy.Overrides{"reader": "parent", "cpu_source": "cpuset"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Announce("c2", 90, policy.Overrides{"reader": "parent"})
	if err != nil {
		t.Fatal(err)
	}
	view, beside := r.ResolveIn(c.Slot, 100), r.ResolveIn(other.Slot, 90)
	defer view.Release()
	defer beside.Release()
	if view.paths != beside.paths || view == beside || view.Slot == beside.Slot || view.ledgerName == beside.ledgerName {
		t.Errorf("two views of %v in slots %d and %d, with the ledgers %s and %s", view.paths, view.Slot, beside.Slot, view.ledgerName, beside.ledgerName)
	}
	if !strings.HasSuffix(view.ledgerName, "-c1") || view.ledgerName == c.ledgerName {
		t.Errorf("ledgers %s and %s", view.ledgerName, c.ledgerName)
	}
	// The pod is as old as its oldest process.
	if view.start >= c.start {
		t.Errorf("the pod started at %v, its container at %v", view.start, c.start)
	}
	if p := view.Policy(); p.CPUSource != policy.Cpuset || p.NoSwap {
		t.Errorf("the view is shown as %v", p.Text())
	}
	r.SetPolicy(policy.Policy{NoSwap: true})
	if p := view.Policy(); p.CPUSource != policy.Cpuset || !p.NoSwap {
		t.Errorf("with another base policy it is shown as %v", p.Text())
	}
	if _, err := r.Announce("c1", 100, policy.Overrides{"reader": "parent", "swap": "on"}); err != nil {
		t.Fatal(err)
	}
	if p := view.Policy(); p.CPUSource != policy.Quota || p.NoSwap {
		t.Errorf("announced again it is shown as %v", p.Text())
	}
}

func TestPolicyOfContainers(t *testing.T) {
	r, _, _ := pod(t)
	if _, err := r.Announce("c1", 100, policy.Overrides{"cpu_source": "weight"}); err == nil ||
		!strings.Contains(err.Error(), "cpu_source") || !strings.Contains(err.Error(), "quota, cpuset, shares") {
		t.Errorf("%v, want an error that names the setting and what it allows", err)
	}
	if list := r.Announced(); len(list) != 0 {
		t.Errorf("announced all the same: %+v", list)
	}
	c, err := r.Announce("c1", 100, policy.Overrides{"steal": "off"})
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.Resolve(90)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Release()
	r.SetPolicy(policy.Policy{NoSwap: true})
	if p := c.Policy(); !p.NoSteal || !p.NoSwap {
		t.Errorf("the announced one is shown as %v", p.Text())
	}
	if p := found.Policy(); p.NoSteal || !p.NoSwap {
		t.Errorf("the found one is shown as %v", p.Text())
	}
	list := r.Announced()
	if len(list) != 1 || list[0].Policy["steal"] != "off" || list[0].Policy["swap"] != "off" || fmt.Sprint(list[0].Overrides) != "map[steal:off]" {
		t.Errorf("listed as %+v", list)
	}
	if p := r.Policy(); !p.NoSwap || p.NoSteal {
		t.Errorf("the base is %v", p.Text())
	}
}

// Steal that is turned off and on while a container is held back: its counters only grow, and what was held back
// meanwhile is idle.
func TestStealOff(t *testing.T) {
	r, hostFS, m := pod(t)
	c, err := r.Announce("c1", 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	var h host.Snapshot
	var s Snapshot
	throttled, seconds := 0, time.Duration(0)
	read := func(ms int) (steal, idle uint64) {
		t.Helper()
		throttled += ms
		m.Write("sys/fs/cgroup/pods/p/cpu.stat", fmt.Sprintf("usage_usec 0\nuser_usec 0\nsystem_usec 0\nthrottled_usec %d\n", throttled*1000))
		if err := hostFS.Snapshot(host.NeedCPULists, &h); err != nil {
			t.Fatal(err)
		}
		seconds++
		h.Boottime = time.Hour + seconds*time.Second
		if err := c.Snapshot(NeedTimes, &h, 0, &s); err != nil {
			t.Fatal(err)
		}
		return s.View.Times.Total.Steal, s.View.Times.Total.Idle
	}
	before, _ := read(100)
	on, _ := read(500)
	if !near(on-before, 50, 3) { // rounded for each CPU
		t.Errorf("500 ms held back: steal grew by %d ticks", on-before)
	}
	r.SetPolicy(policy.Policy{NoSteal: true})
	_, idle := read(0)
	off, idleOff := read(700)
	if off != on {
		t.Errorf("turned off, steal went from %d to %d", on, off)
	}
	if idleOff <= idle {
		t.Errorf("turned off, idle went from %d to %d", idle, idleOff)
	}
	r.SetPolicy(policy.Policy{})
	again, idleAgain := read(200)
	if again != off || idleAgain < idleOff {
		t.Errorf("turned on again: steal from %d to %d, idle from %d to %d; what was held back before is no steal", off, again, idleOff, idleAgain)
	}
	if last, _ := read(300); !near(last-again, 30, 3) {
		t.Errorf("300 ms held back: steal grew by %d ticks", last-again)
	}
}

// Policies that change while readers look: the race detector looks on, and nobody sees half a policy.
func TestPolicyWhileReading(t *testing.T) {
	r, hostFS, _ := pod(t)
	c, err := r.Announce("c1", 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := policy.Policy{Reader: policy.Caller, NoSwap: true, NoSteal: true, Interrupts: policy.Zero}
	var readers, changes sync.WaitGroup
	stop := make(chan struct{})
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			r.SetPolicy([]policy.Policy{{}, one, {Reader: policy.Parent}}[i%3])
			if i%5 == 0 {
				if _, err := r.Announce("c2", 90, policy.Overrides{"reader": "parent"}); err != nil {
					t.Error(err)
				}
				_ = r.Forget("c2")
			}
		}
	})
	for range 4 {
		readers.Go(func() {
			var h host.Snapshot
			var s Snapshot
			for i := range 300 {
				shown := r.ResolveIn(c.Slot, 101)
				if i%2 == 0 {
					shown.Release()
					if shown, err := r.Resolve(102 - 2*(i%4/2)); err == nil {
						shown.Release()
					}
					continue
				}
				err := hostFS.Snapshot(host.NeedCPULists, &h)
				if err == nil {
					err = shown.Snapshot(NeedTimes, &h, 101, &s)
				}
				if p := s.View.Policy; err != nil || p.NoSwap != p.NoSteal || p.NoSwap != (p.Interrupts == policy.Zero) {
					t.Errorf("%v %+v", err, s.View.Policy)
				}
				shown.Release()
			}
		})
	}
	readers.Wait()
	close(stop)
	changes.Wait()
}
