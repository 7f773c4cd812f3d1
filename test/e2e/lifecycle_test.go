package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
)

// TestSecondDaemon starts another one on the same mount point, socket or compat directory.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	elsewhere := scratch(t)
	for name, c := range map[string]struct {
		flags []string
		want  []string
	}{
		"mount":  {[]string{"--mount", d.mount}, []string{"another scopefs", fmt.Sprint(d.cmd.Process.Pid), "--mount"}},
		"socket": {[]string{"--mount", elsewhere + "/fs", "--lxcfs-compat", "", "--socket", d.socket}, []string{d.socket, fmt.Sprint(d.cmd.Process.Pid)}},
		"compat": {[]string{"--mount", elsewhere + "/fs", "--lxcfs-compat", d.compat}, []string{d.compat}},
	} {
		t.Run(name, func(t *testing.T) {
			second := prepareDaemon(t, elsewhere, scopefs, c.flags...)
			if _, err := second.result(); err == nil {
				t.Fatal("it ended well")
			}
			for _, want := range c.want {
				if !strings.Contains(second.log(), want) {
					t.Errorf("its message does not name %q: %s", want, second.log())
				}
			}
			if n := strings.Count(second.log(), "\n"); n > 2 {
				t.Errorf("its message has %d lines:\n%s", n, second.log())
			}
			if isMounted(elsewhere+"/fs") || isMounted(elsewhere+"/lxcfs") {
				t.Error("it left a mount")
			}
			// The first one goes on.
			if err := whole("proc/meminfo", readFile(t, d.compat+"/proc/meminfo")); err != nil {
				t.Error(err)
			}
			if _, pid, err := control.Ping(t.Context(), d.socket); err != nil || pid != d.cmd.Process.Pid {
				t.Errorf("the first daemon's socket: %d, %v", pid, err)
			}
		})
	}
}

// TestForeignMount mounts where something else is mounted.
func TestForeignMount(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	point := filepath.Join(dir, "fs")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", point, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(point, 0); err != nil {
			t.Error(err)
		}
	}()
	d := prepareDaemon(t, dir, scopefs)
	if _, err := d.result(); err == nil || !strings.Contains(d.log(), "tmpfs") || !strings.Contains(d.log(), point) {
		t.Errorf("it ended with %v: %s", err, d.log())
	}
}

// TestDeadMount kills a daemon and starts the next one over what it left.
func TestDeadMount(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	d := startDaemonIn(t, dir, scopefs)
	g := newGroup(t).memory(100 * miB)
	c := startContainer(t, d, g, options{bind: ownTree})
	is(t, "the container", c.read("proc/meminfo"), 100)
	d.crash()
	for _, path := range []string{d.mount, d.compat} {
		if err := unix.Statfs(path, &unix.Statfs_t{}); !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("%s of a killed daemon: %v", path, err)
		}
	}
	next := startDaemonIn(t, dir, scopefs)
	is(t, "the container at the next daemon", readFile(t, announce(t, next, c)+"/proc/meminfo"), 100)
	is(t, "the container in the shared tree", start(t, patience, c.outside("busybox", "cat", next.compat+"/proc/meminfo")).wait(), 100)
	if n := len(mountsBelow(dir)); n != 2 {
		t.Errorf("%d mounts, want 2: the dead ones are to be gone", n)
	}
}

// TestEnd ends a daemon by signals, and by umount(8).
func TestEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(d *daemon) error{
		"SIGTERM": func(d *daemon) error { return syscall.Kill(d.cmd.Process.Pid, syscall.SIGTERM) },
		"SIGINT":  func(d *daemon) error { return syscall.Kill(d.cmd.Process.Pid, syscall.SIGINT) },
		"SIGQUIT": func(d *daemon) error { return syscall.Kill(d.cmd.Process.Pid, syscall.SIGQUIT) },
		"umount": func(d *daemon) error {
			return errors.Join(unix.Unmount(d.compat, 0), unix.Unmount(d.mount, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t)
			readFile(t, d.compat+"/proc/meminfo")
			if err := end(d); err != nil {
				t.Fatal(err)
			}
			if _, err := d.result(); err != nil {
				t.Error(err)
			}
			for _, m := range mountsBelow(d.dir) {
				t.Errorf("%s is still mounted", m)
			}
			for _, path := range []string{d.socket, d.mount + ".lock"} {
				if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left: %v", path, err)
				}
			}
		})
	}
}

// TestEndWhileRead ends a daemon in the midst of reads: none may hang.
func TestEndWhileRead(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: ownTree})
	loop := start(t, patience, c.command("busybox", "sh", "-c",
		`echo begun; while busybox cat /proc/meminfo; do :; done >/dev/null 2>&1; echo ended; exec 2>&1; busybox cat /proc/meminfo; true`))
	loop.expect("begun")
	time.Sleep(100 * time.Millisecond)
	d.stop()
	if out := loop.wait(); !strings.Contains(out, "not connected") && !strings.Contains(out, "abort") {
		t.Errorf("reads of a daemon that ended: %q", out)
	}
}

// TestCompatLayout checks that the compat directory is laid out as LXCFS's.
func TestCompatLayout(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for file := range files {
		if err := whole(file, readFile(t, filepath.Join(d.compat, file))); err != nil {
			t.Error(err)
		}
	}
}

// TestForgotten ends containers; the daemon forgets the announced ones when their cgroup goes.
func TestForgotten(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	g := newGroup(t).memory(100 * miB)
	c := startContainer(t, d, g, options{bind: ownTree})
	stays := startContainer(t, d, newGroup(t).memory(120*miB), options{bind: ownTree})
	told := startContainer(t, d, newGroup(t).memory(140*miB), options{bind: ownTree})
	if err := control.Forget(t.Context(), d.socket, told.id); err != nil {
		t.Error(err)
	}
	if err := control.Forget(t.Context(), d.socket, told.id); err == nil || !strings.Contains(err.Error(), told.id) {
		t.Errorf("forgetting twice: %v", err)
	}
	c.stop()
	g.remove()
	for deadline := time.Now().Add(timeout(patience)); ; time.Sleep(100 * time.Millisecond) {
		list, err := control.List(t.Context(), d.socket)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].ID == stays.id {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still announced: %+v, want only %s", list, stays.id)
		}
	}
	if _, err := os.Stat(filepath.Join(d.mount, "c", c.id)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the subtree of the forgotten: %v", err)
	}
	is(t, "who stays", stays.read("proc/meminfo"), 120)
	// The name is free again, for another container.
	again := startContainer(t, d, newGroup(t).memory(160*miB), options{bind: noBinds})
	again.id = c.id
	is(t, "the next of that name", readFile(t, announce(t, d, again)+"/proc/meminfo"), 160)
	ledgers, err := filepath.Glob(filepath.Join(d.dir, "ledger", "*"))
	if err != nil || len(ledgers) > 4 {
		t.Errorf("ledgers: %v, %v", ledgers, err)
	}
}

// TestAnnounceErrors announces what cannot be announced.
func TestAnnounceErrors(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t), options{bind: ownTree})
	other := startContainer(t, d, newGroup(t), options{bind: noBinds})
	for name, try := range map[string]struct {
		id   string
		pid  int
		want string
	}{
		"no such process": {"x", 1 << 30, fmt.Sprint(1 << 30)},
		"bad id":          {"../x", c.pid, "../x"},
		"taken":           {c.id, other.pid, c.id},
	} {
		if v, err := control.Announce(t.Context(), d.socket, try.id, try.pid); err == nil || !strings.Contains(err.Error(), try.want) {
			t.Errorf("%s: %+v, %v; want an error that names %s", name, v, err, try.want)
		}
	}
	if v, err := control.Announce(t.Context(), d.socket, c.id, c.pid); err != nil || v.Path != filepath.Join(d.mount, "c", c.id) {
		t.Errorf("announcing the same again: %+v, %v", v, err)
	}
}

// TestLogReaderGone ends whoever reads the daemon's log, as a restart of journald does: containers do not lose their files.
func TestLogReaderGone(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	wrapper := dir + "/wrapper"
	writeExecutable(t, wrapper, "#!/bin/sh\nbusybox mkfifo "+dir+"/log\nbusybox true <"+dir+"/log &\nexec "+scopefs+" \"$@\" 2>"+dir+"/log\n")
	writeConfig(t, dir+"/config.toml", "")
	d := startDaemonIn(t, dir, wrapper, "--config", dir+"/config.toml")
	c := startContainer(t, d, newGroup(t).memory(64*miB), options{bind: ownTree})
	_ = syscall.Kill(d.cmd.Process.Pid, syscall.SIGHUP) // which is logged
	for range 3 {
		if _, pid, err := control.Ping(t.Context(), d.socket); err != nil || pid != d.cmd.Process.Pid {
			t.Fatalf("without a reader of its log: %d, %v", pid, err)
		}
		if total := c.meminfo()["MemTotal"]; total != 64*miB {
			t.Errorf("MemTotal is %d", total)
		}
	}
}
