package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// totalOf is MemTotal in what a command prints, in MiB.
func totalOf(t *testing.T, out string) int64 {
	t.Helper()
	i := strings.Index(out, "MemTotal:")
	if i < 0 {
		t.Fatalf("no MemTotal in %q", out)
	}
	var kb int64
	if _, err := fmt.Sscan(out[i+len("MemTotal:"):], &kb); err != nil {
		t.Fatal(err)
	}
	return kb * kiB / miB
}

// is checks whose meminfo a command printed, by its size in MiB.
func is(t *testing.T, who string, out string, want int64) {
	t.Helper()
	if got := totalOf(t, out); got != want {
		t.Errorf("%s sees %d MiB, want %d", who, got, want)
	}
}

// TestIdentity asks who is whose: readers that came into a container in unusual ways, and hosts.
func TestIdentity(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	compat := d.compat + "/proc/meminfo"
	machine := totalOf(t, readString(t, "/proc/meminfo"))
	own := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	found := startContainer(t, d, newGroup(t).memory(120*miB), options{bind: compatTree})

	t.Run("host", func(t *testing.T) {
		is(t, "a process of the host", output(t, "busybox", "cat", compat), machine)
		is(t, "the test", readFile(t, compat), machine)
	})
	t.Run("container", func(t *testing.T) {
		is(t, "the announced one", own.read("proc/meminfo"), 100)
		is(t, "the found one", found.read("proc/meminfo"), 120)
		is(t, "the announced one in the shared tree", own.run("busybox", "cat", compat), 100)
	})
	t.Run("shared pid namespace", func(t *testing.T) {
		for bind, size := range map[bindKind]int64{ownTree: 60, compatTree: 70} {
			c := startContainer(t, d, newGroup(t).memory(size*miB), options{bind: bind, sharePID: true})
			is(t, "the reader", c.read("proc/meminfo"), size)
		}
	})
	t.Run("sub-cgroup", func(t *testing.T) {
		for bind, size := range map[bindKind]int64{ownTree: 60, compatTree: 70} {
			g := newGroup(t).memory(size * miB)
			// As systemd does it: nobody stays at the container's own level.
			c := startContainer(t, d, g.child("init.scope"), options{bind: bind})
			sub := g.child("sub")
			is(t, "the init's cgroup", c.read("proc/meminfo"), size)
			is(t, "the reader", start(t, patience, c.commandIn(sub, "busybox", "cat", "/proc/meminfo")).wait(), size)
			sub.memory(40 * miB)
			is(t, "the reader in a smaller sub-cgroup", start(t, patience, c.commandIn(sub, "busybox", "cat", "/proc/meminfo")).wait(), size)
		}
	})
	t.Run("nested container", func(t *testing.T) {
		for bind, size := range map[bindKind]int64{ownTree: 160, compatTree: 170} {
			g := newGroup(t).memory(size * miB)
			outer := startContainer(t, d, g.child("init.scope"), options{bind: bind})
			inner := startContainer(t, d, g.child("inner").memory(50*miB), options{bind: bind, in: outer})
			is(t, "the inner one", inner.read("proc/meminfo"), 50)
			is(t, "the outer one", outer.read("proc/meminfo"), size)
		}
	})
	t.Run("from outside", func(t *testing.T) {
		// As kubectl debug or an administrator does it: in the namespaces, not in the cgroup.
		is(t, "who entered the announced one", start(t, patience, own.commandIn(nil, "busybox", "cat", "/proc/meminfo")).wait(), 100)
		if has(t, "nsenter") {
			pid := fmt.Sprint(own.pid)
			is(t, "nsenter", output(t, "nsenter", "-t", pid, "-m", "-p", "busybox", "cat", "/proc/meminfo"), 100)
		}
		is(t, "who looks through /proc/PID/root", output(t, "busybox", "cat", fmt.Sprintf("/proc/%d/root/proc/meminfo", own.pid)), 100)
	})
	t.Run("bare unshare", func(t *testing.T) {
		c := startContainer(t, d, newGroup(t).memory(90*miB), options{bind: noBinds})
		is(t, "the reader", c.run("busybox", "cat", compat), 90)
		c = startContainer(t, d, newGroup(t).memory(80*miB), options{bind: noBinds, sharePID: true})
		is(t, "the reader in the host's pid namespace", c.run("busybox", "cat", compat), 80)
		if has(t, "unshare") {
			is(t, "unshare -pf", c.run("unshare", "-pf", "busybox", "cat", compat), 80)
		}
	})
	t.Run("thread", func(t *testing.T) {
		is(t, "a thread of the announced one", own.run(selfExe, "thread", "/proc/meminfo"), 100)
		is(t, "a thread of the found one", found.run(selfExe, "thread", "/proc/meminfo"), 120)
	})
	t.Run("descriptor handed over", func(t *testing.T) {
		// Identity is the opener's, as on procfs.
		fd, err := unix.Open(compat, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		cmd := found.command("busybox", "dd", "bs=64k", "status=none")
		cmd.Stdin = fileOf(fd)
		is(t, "the reader of the host's descriptor", start(t, patience, cmd).wait(), machine)
	})
	t.Run("process in no limited cgroup", func(t *testing.T) {
		c := startContainer(t, d, newGroup(t), options{bind: compatTree})
		is(t, "the reader", c.read("proc/meminfo"), machine)
	})
}

// TestInvisibleReader reads from a process that the daemon cannot see: the daemon lives in a pid namespace below.
func TestInvisibleReader(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The mount is in the new mount namespace only; it is reached through the daemon's root.
	wrapper := dir + "/wrapper"
	writeExecutable(t, wrapper, fmt.Sprintf("#!/bin/sh\n%s=below exec %s %s \"$@\"\n", roleEnv, self, scopefs))
	d := startDaemonIn(t, dir, wrapper)
	d.fallbacks = true
	inside, err := childrenOf(d.cmd.Process.Pid)
	if err != nil || len(inside) != 1 {
		t.Fatalf("the daemon in its pid namespace: %v, %v", inside, err)
	}
	pid := inside[0].pid
	root := fmt.Sprintf("/proc/%d/root%s/", pid, d.compat)
	is(t, "the reader", output(t, "busybox", "cat", root+"proc/meminfo"), totalOf(t, readString(t, "/proc/meminfo")))
	for file := range files {
		if err := whole(file, readFile(t, root+file)); err != nil {
			t.Error(err)
		}
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // who started it hands no signal on
	<-d.done
	if !strings.Contains(d.log(), fallbackMessage) {
		t.Error("no fallback was counted")
	}
}
