package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// container is a running one: an init, which is this program, in a cgroup, a pid namespace and a mount namespace of its
// own. What is done in it is done by its init.
type container struct {
	*process
	id    string
	group *group
}

// view is where containers have the files that are measured: <view>/<variant>/<file>, each bound by itself.
const view = "/mnt"

// startContainer starts a container in the group.
func (b *bench) startContainer(g *group) (*container, error) {
	c := &container{id: b.unique("bench"), group: g}
	cmd := roleCommand(roleInit)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	var err error
	if c.process, err = start(b.ctx, c.id, false, cmd); err != nil {
		return nil, err
	}
	b.onClose(c.stop)
	_, err = c.do(order{Join: g.dirs()})
	return c, err
}

// stop ends all processes of the container.
func (c *container) stop() { c.end(syscall.SIGKILL) }

// bindFile is a file to be bound in a container.
type bindFile struct {
	From string // as the container's init sees it
	To   string // below view
}

// bind binds files below view.
func (c *container) bind(files ...bindFile) error {
	_, err := c.do(order{Bind: files})
	return err
}

// latency has the init read a file as m says.
func (c *container) latency(m latencyOrder) (*Latency, error) {
	a, err := c.do(order{Latency: &m})
	if err != nil {
		return nil, err
	}
	return a.Latency, nil
}

// throughput has processes in the container read a file for a while.
func (c *container) throughput(t throughputOrder) (*Throughput, error) {
	a, err := c.do(order{Throughput: &t})
	if err != nil {
		return nil, err
	}
	return a.Throughput, nil
}

// order is what the benchmark tells an init to do: whatever is set, from top to bottom.
type order struct {
	Join       []string // cgroup directories to enter
	Bind       []bindFile
	Latency    *latencyOrder
	Throughput *throughputOrder
}

// answer is what comes of it.
type answer struct {
	Error      string
	Latency    *Latency
	Throughput *Throughput
}

// do has the container's init do something and waits until it is done.
func (c *container) do(o order) (answer, error) {
	var a answer
	if err := c.ask(o, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, fmt.Errorf("in %s: %s", c.id, a.Error)
	}
	return a, nil
}

// playInit is the init of a container. It ends with its standard input.
func playInit() error {
	if os.Getpid() != 1 {
		return errors.New("not in a pid namespace of its own")
	}
	runtime.LockOSThread()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := os.MkdirAll(view, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("bench", view, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("mounting a tmpfs on %s: %w", view, err)
	}
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	return answers(func(o order) (any, error) {
		var a answer
		if err := o.do(&a); err != nil {
			a.Error = err.Error()
		}
		return a, nil
	})
}

func (o *order) do(a *answer) error {
	if err := join(o.Join); err != nil {
		return err
	}
	for _, f := range o.Bind {
		if err := bindOne(f); err != nil {
			return err
		}
	}
	var err error
	if o.Latency != nil {
		if a.Latency, err = o.Latency.measure(); err != nil {
			return err
		}
	}
	if o.Throughput != nil {
		a.Throughput, err = o.Throughput.measure()
	}
	return err
}

func bindOne(f bindFile) error {
	to := filepath.Join(view, f.To)
	if !strings.HasPrefix(to, view+"/") {
		return fmt.Errorf("binding to %s: not below %s", to, view)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, nil, 0o644); err != nil {
		return err
	}
	if err := unix.Mount(f.From, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", f.From, err)
	}
	return nil
}

// seconds is a duration in JSON that people can read.
func seconds(d time.Duration) float64 { return d.Seconds() }
