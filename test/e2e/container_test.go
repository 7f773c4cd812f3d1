package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/fs/tree"
)

// container is a running one, of whatever kind.
type container struct {
	t   testing.TB
	id  string
	pid int // of its init, on the host
	// group is the cgroup that its processes are in.
	group *group
	init  *process
	// exec is how the runtime runs a command in it, nil for a container without runtime.
	exec func(args ...string) *exec.Cmd
}

// options vary how a container is made.
type options struct {
	// bind says which tree the files come from.
	bind bindKind
	// sharePID leaves the container in the host's pid namespace.
	sharePID bool
	comm     string // of its init
	// policy holds the choices that it is announced with (ownTree).
	policy policy.Overrides
	// in makes it inside another container: in its mounts, a child of its pid namespace.
	in *container
}

type bindKind int

const (
	ownTree    bindKind = iota // announced, and bound as scopefs' hook does it
	ownFUSE                    // the same, with all files from FUSE
	compatTree                 // bound from the tree laid out as LXCFS's, by the container's init
	hostBinds                  // the same, before the container's init entered its cgroup
	noBinds                    // nothing bound
)

var lastContainer atomic.Int64

// boundFiles are what is bound into a container: all that this machine has.
func boundFiles() []string {
	return tree.Binds(func(path string) bool {
		_, err := os.Lstat("/" + path)
		return err == nil
	}, func(string) bool { return true })
}

// startContainer starts a container in the group with nothing but Linux: it is this binary in new namespaces.
func startContainer(t testing.TB, d *daemon, g *group, o options) *container {
	t.Helper()
	c, err := tryContainer(t, d, g, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryContainer(t testing.TB, d *daemon, g *group, o options) (*container, error) {
	t.Helper()
	c := &container{t: t, group: g, id: fmt.Sprintf("e2e-%d", lastContainer.Add(1))}
	cmd := exec.Command(selfExe)
	cmd.Env = append(cmd.Environ(), roleEnv+"=init")
	flags := uintptr(syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC)
	if !o.sharePID {
		flags |= syscall.CLONE_NEWPID
	}
	if o.in != nil {
		cmd = o.in.command(selfExe, "nest")
	} else {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	}
	c.init = start(t, 30*time.Minute, cmd)
	c.pid = c.init.cmd.Process.Pid
	enter := orders{Join: g.dirs(), Comm: o.comm}
	if o.bind != hostBinds {
		if err := c.order(enter); err != nil {
			return nil, err
		}
	}
	if o.in != nil {
		pid, err := newestInit(g)
		if err != nil {
			return nil, err
		}
		c.pid = pid
	}
	var bind orders
	switch o.bind {
	case ownTree, ownFUSE:
		resp, err := control.Call(t.Context(), d.socket, control.Request{Op: control.OpAnnounce, ID: c.id, PID: c.pid, Policy: o.policy})
		if err != nil {
			return nil, err
		}
		v := resp.View
		if o.bind == ownFUSE {
			v.Direct = nil
		}
		bind = orders{View: v, Hook: true}
	case compatTree, hostBinds:
		bind = orders{View: control.View{Path: d.compat, Files: boundFiles()}}
	case noBinds:
	}
	bind.Sysfs = o.in != nil
	if err := c.order(bind); err != nil {
		return nil, err
	}
	if o.bind == hostBinds {
		return c, c.order(enter)
	}
	return c, nil
}

// order has the container's init do something and waits until it is done.
func (c *container) order(o orders) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	n := strings.Count(c.init.out.String(), "done\n")
	if _, err := fmt.Fprintf(c.init.in, "%s\n", line); err != nil {
		return fmt.Errorf("the container's init ended: %w\n%s", err, c.init.err.String())
	}
	return c.init.tryExpect(strings.Repeat("done\n", n+1))
}

// stop ends the container's init, and with it all of its processes.
func (c *container) stop() { c.init.kill() }

// command is a command to be run in the container: in its cgroup, pid and mount namespaces. A name from roles after
// selfExe makes the test binary play it there.
func (c *container) command(args ...string) *exec.Cmd {
	if c.pid == 0 {
		return c.exec(args...)
	}
	return c.commandIn(c.group, args...)
}

// commandIn is the same in another cgroup; nil leaves it in that of the tests.
func (c *container) commandIn(g *group, args ...string) *exec.Cmd {
	var path string
	if g != nil {
		path = g.path
	}
	cmd := exec.Command(selfExe, append([]string{fmt.Sprint(c.pid), path}, args...)...)
	cmd.Env = append(cmd.Environ(), roleEnv+"=enter")
	return cmd
}

// outside is a command of the container, in its cgroup and pid namespace, that sees the host's mounts of now.
func (c *container) outside(args ...string) *exec.Cmd {
	cmd := c.command(args...)
	cmd.Args[1] = "/" + cmd.Args[1]
	return cmd
}

// maxAge is how old what a reader is shown may be, if nothing else is said.
const maxAge = 5 * time.Millisecond

// run runs a command in the container to its end and returns what it printed. What it reads is not older than the call.
func (c *container) run(args ...string) string {
	c.t.Helper()
	time.Sleep(maxAge)
	return start(c.t, patience, c.command(args...)).wait()
}

// shell runs a script of busybox's shell.
func (c *container) shell(script string) string {
	c.t.Helper()
	return c.run("busybox", "sh", "-c", script)
}

// start starts a role in the container and waits for its first word.
func (c *container) start(word string, role ...string) *process {
	c.t.Helper()
	p := start(c.t, 10*time.Minute, c.command(append([]string{selfExe}, role...)...))
	p.expect(word)
	return p
}

// touch starts a process that is about to use memory, and begin makes it do so. The process itself needs some too.
func (c *container) touch(bytes int64) (p *process, begin func()) {
	c.t.Helper()
	p = c.start("ready", "touch", fmt.Sprint(bytes))
	return p, func() {
		c.t.Helper()
		if _, err := p.in.Write([]byte("\n")); err != nil {
			c.t.Fatal(err)
		}
		p.expect("touched")
	}
}

// touched is touch with its begin done.
func (c *container) touched(bytes int64) *process {
	c.t.Helper()
	p, begin := c.touch(bytes)
	begin()
	return p
}

// finish ends a role that waits for the end of its input.
func finish(p *process) {
	p.t.Helper()
	_ = p.in.Close()
	p.wait()
}

// read is a file as the container's processes read it.
func (c *container) read(file string) string {
	c.t.Helper()
	return c.run("busybox", "dd", "if=/"+file, "bs=64k", "status=none")
}

func (c *container) meminfo() meminfo {
	c.t.Helper()
	return parseMeminfo(c.t, c.read("proc/meminfo"))
}

func (c *container) stat() procStat {
	c.t.Helper()
	return parseStat(c.t, c.read("proc/stat"))
}

// newestInit is the pid of the process in the group whose pid is 1 in its own pid namespace.
func newestInit(g *group) (int, error) {
	for _, dir := range g.dirs() {
		paths, err := filepath.Glob(dir + "/cgroup.procs")
		if err != nil || len(paths) == 0 {
			continue
		}
		for pid := range strings.FieldsSeq(readString(g.t, paths[0])) {
			status := readString(g.t, "/proc/"+pid+"/status")
			_, rest, _ := strings.Cut(status, "NSpid:")
			line, _, _ := strings.Cut(rest, "\n")
			if f := strings.Fields(line); len(f) > 1 && f[len(f)-1] == "1" {
				var n int
				_, err := fmt.Sscan(pid, &n)
				return n, err
			}
		}
	}
	return 0, fmt.Errorf("no init in %s", g.path)
}

// announce makes the container known to a daemon under its id and returns its subtree.
func announce(t testing.TB, d *daemon, c *container) string {
	t.Helper()
	v, err := control.Announce(t.Context(), d.socket, c.id, c.pid)
	if err != nil {
		t.Fatal(err)
	}
	return v.Path
}
