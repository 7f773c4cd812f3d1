package tree

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/policy"
)

const servicePID = 21 // of a cgroup of 50 MiB inside the container web

func mountWithService(t *testing.T) *client {
	t.Helper()
	c := mount(t)
	c.m.Cgroup("/c2/svc", map[string]string{"memory.max": "52428800\n"})
	c.m.Start(fixture.Process{PID: servicePID, Parent: webPID, Cgroup: "/c2/svc", NS: "c2", Inner: 2})
	return c
}

func (c *client) announce(o policy.Overrides) {
	c.t.Helper()
	if _, err := c.reg.Announce("web", webPID, o); err != nil {
		c.t.Fatal(err)
	}
}

// With the reader "caller" an inode of a container's own tree has several identities: each reader is given its own
// cgroup's numbers, through the page cache too, and a size that covers them.
func TestCallersInTheOwnTree(t *testing.T) {
	c := mountWithService(t)
	c.announce(policy.Overrides{"reader": "caller"})
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	want := map[uint32]int{webPID: 200, servicePID: 50, machinePID: 200, onePID: 200, 0: 200}
	for range 2 {
		for pid, want := range want {
			if got := total(c.cat(n, pid)); got != want {
				t.Errorf("reader %d: %d MiB, want %d", pid, got, want)
			}
			attr, errno := c.getattr(n, pid)
			fh := c.mustOpen(n, pid)
			text, _ := c.pageRead(n, fh, pid, 0, 65536)
			if errno != 0 || total(text) != want || attr.Size < uint64(len(text)) || attr.AttrValid != 0 || attr.AttrValidNsec != 0 {
				t.Errorf("reader %d through the page cache: errno %d, %d MiB, want %d; size %d for %d bytes, good for %d s",
					pid, errno, total(text), want, attr.Size, len(text), attr.AttrValid)
			}
			c.release(n, fh)
		}
	}
	if counts := c.tree.Fallbacks.Counts(); len(counts) != 0 {
		t.Errorf("fallbacks: %v", counts)
	}
}

// They take turns, as containers do at a shared inode.
func TestCallersTakeTurnsInTheOwnTree(t *testing.T) {
	c := mountWithService(t)
	c.announce(policy.Overrides{"reader": "caller"})
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	first := c.mustOpen(n, webPID)
	c.pageRead(n, first, webPID, 0, 4096)
	service := make(chan uint64, 1)
	other := *c
	other.unique = 1 << 32
	go func() { service <- other.mustOpen(n, servicePID) }()
	select {
	case <-service:
		t.Fatal("a reader of another cgroup was let in while one read")
	case <-time.After(turnFor / 4):
	}
	c.release(n, first)
	select {
	case fh := <-service:
		if text, _ := c.pageRead(n, fh, servicePID, 0, 4096); total(text) != 50 {
			t.Errorf("the service reads %d MiB, want 50", total(text))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is left to wait for")
	}
}

// Whose numbers a descriptor shows stays; what is opened afterwards goes by the new policy.
func TestReaderTakesEffectAtTheNextOpen(t *testing.T) {
	c := mountWithService(t)
	c.m.Cgroup("/pod", map[string]string{"memory.max": "419430400\n"})
	c.m.Cgroup("/pod/c", map[string]string{"memory.max": "104857600\n"})
	c.m.Start(fixture.Process{PID: 30, Cgroup: "/pod/c", NS: "c", Inner: 1})
	if _, err := c.reg.Announce("c", 30, nil); err != nil {
		t.Fatal(err)
	}
	own, shared := c.walk(machinePID, "c", "c", "proc", "meminfo"), c.walk(30, "proc", "meminfo")
	for _, n := range []node{own, shared} {
		c.reg.SetPolicy(policy.Policy{})
		fh := c.mustOpen(n, 30)
		c.pageRead(n, fh, 30, 0, 4096)
		c.reg.SetPolicy(policy.Policy{Reader: policy.Parent})
		if text, _ := c.pread(n, fh, 30, 0, 65536); total(text) != 100 {
			t.Errorf("the open descriptor shows %d MiB, want 100", total(text))
		}
		if text, _ := c.pageRead(n, fh, 30, 0, 4096); total(text) != 100 {
			t.Errorf("the open descriptor shows %d MiB through the page cache, want 100", total(text))
		}
		c.release(n, fh)
		fh = c.mustOpen(n, 30)
		if text, _ := c.pageRead(n, fh, 30, 0, 4096); total(text) != 400 {
			t.Errorf("opened with the parent shown: %d MiB, want 400", total(text))
		}
		c.release(n, fh)
	}
	// The link leads to inodes of what is shown.
	if n := c.walk(30, "proc", "meminfo"); n == shared || total(c.cat(n, 30)) != 400 {
		t.Errorf("the link leads to node %x, before to %x", n, shared)
	}
	c.reg.SetPolicy(policy.Policy{})
	if got := total(c.cat(own, 30)); got != 100 {
		t.Errorf("changed back: %d MiB, want 100", got)
	}
}

// A file that is turned off shows the machine's content in a container that has it already, and comes back.
func TestFilesOff(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	fh := c.mustOpen(n, webPID)
	for _, step := range []struct {
		off  []string
		want int
	}{{nil, 200}, {[]string{"meminfo"}, 8192}, {nil, 200}} {
		p := policy.Policy{Off: step.off}
		c.reg.SetPolicy(p)
		if got := total(c.cat(n, webPID)); got != step.want {
			t.Errorf("%v off: %d MiB, want %d", step.off, got, step.want)
		}
		if text, _ := c.pread(n, fh, webPID, 0, 65536); total(text) != step.want {
			t.Errorf("%v off: the open descriptor shows %d MiB, want %d", step.off, total(text), step.want)
		}
		if listed := slices.Contains(c.tree.Files(&p), "proc/meminfo"); listed != (len(step.off) == 0) {
			t.Errorf("%v off: %v", step.off, c.tree.Files(&p))
		}
	}
	if list := c.tree.Files(&policy.Policy{Off: []string{"cpu"}}); slices.ContainsFunc(list, func(f string) bool { return strings.Contains(f, "/cpu/") }) {
		t.Errorf("the cpu tree is off: %v", list)
	}
	if counts := c.tree.Fallbacks.Counts(); len(counts) != 0 {
		t.Errorf("fallbacks: %v", counts)
	}
}

// What a container has open is bounded, in both trees and whoever of it is shown, and other containers do not pay for it.
func TestOpenFilesAreBounded(t *testing.T) {
	c := mountWithService(t)
	c.announce(policy.Overrides{"reader": "caller"})
	meminfo := c.walk(machinePID, "c", "web", "proc", "meminfo")
	cpu := c.walk(machinePID, "c", "web", "sys", "devices", "system", "cpu")
	online := c.walk(webPID, "sys", "devices", "system", "cpu", "online")
	var open []uint64
	for i := range container.MaxOpenFiles {
		open = append(open, c.mustOpen(meminfo, []uint32{webPID, servicePID}[i%2]))
	}
	full := func(want int32) {
		t.Helper()
		for _, pid := range []uint32{webPID, servicePID} {
			for _, n := range []node{meminfo, online} {
				fh, _, errno := c.open(n, pid, 0)
				if errno != want {
					t.Errorf("task %d, %x: errno %d, want %d", pid, n, errno, want)
				}
				if errno == 0 {
					c.release(n, fh)
				}
			}
			body, errno := c.call(opOpendir, cpu, pid, make([]byte, 8), 64)
			if errno != want {
				t.Errorf("task %d, a directory: errno %d, want %d", pid, errno, want)
			}
			if errno == 0 {
				c.call(opReleasedir, cpu, 0, append(body[:8:8], make([]byte, 16)...), 0)
			}
		}
	}
	full(int32(syscall.ENFILE))
	c.release(online, c.mustOpen(online, onePID))
	for range 2 { // the second time shows that what failed and what was closed is not counted
		c.release(meminfo, open[0])
		open = open[1:]
		full(0)
	}
	for _, fh := range open {
		c.release(meminfo, fh)
	}
}
