// Package run runs a command in a throw-away container: namespaces and a cgroup of its own, the kernel's /proc and /sys
// with the container's view bound over them, and no runtime. Everything it makes is gone afterwards; what a killed run
// leaves, the next one removes.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/policy"
)

// Exit statuses of failures that are not the command's own, as docker has them.
const (
	StatusFailed        = 125 // the container could not be made
	StatusNotExecutable = 126
	StatusNotFound      = 127
)

// DefaultDir is where runs keep their state.
const DefaultDir = "/run/scopefs/run"

// Options say what to run and in what.
type Options struct {
	Limits
	Args   []string
	TimeNS bool   // a time namespace of its own, in which the machine boots as the command starts
	Rootfs string // "": the host's root
	Parent string // cgroup in which to make the container's; "": a group of all runs
	Socket string // of the running daemon; "": control.DefaultSocket
	Dir    string // for the state; "": DefaultDir
	// Policy holds the container's own choices of how it is shown.
	Policy policy.Overrides
	// Private starts a daemon if none answers on Socket; nil: that is an error.
	Private PrivateDaemon `json:"-"`
}

// Error is a failure with the exit status it is to have.
type Error struct {
	Status int
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Run runs the command and returns its exit status, 128+n if signal n ended it. Signals to this process go to the
// command meanwhile. An error is always an [*Error].
func Run(o Options) (status int, err error) {
	// The kernel ends the container when the thread that started it ends, so that thread is kept to the end; and its
	// children are in another time namespace, so it ends with the container.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		status, err = run(o)
	}()
	<-done
	var e *Error
	if err != nil && !errors.As(err, &e) {
		err = &Error{StatusFailed, err}
	}
	return status, err
}

func run(o Options) (status int, err error) {
	if err := o.complete(); err != nil {
		return 0, err
	}
	s, err := newSession(o.Dir)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := s.close(); cerr != nil && err == nil {
			err = fmt.Errorf("clear up: %w", cerr)
		}
	}()
	if s.Socket, s.private, err = findDaemon(o.Socket, s.dir(), o.Private); err != nil {
		return 0, err
	}
	s.Cgroup = path.Join(o.Parent, s.id)
	if err := s.save(); err != nil {
		return 0, err
	}
	var g *group
	err = withLock(o.Dir, func() (err error) {
		g, err = createGroup(s.Cgroup, o.Limits)
		return err
	})
	if err != nil {
		return 0, err
	}
	if o.TimeNS {
		if err := unshareTime(); err != nil {
			return 0, err
		}
	}
	c, err := start(g, o.TimeNS)
	if err != nil {
		return 0, err
	}
	return c.supervise(func() error { return s.handshake(c, o) })
}

// complete fills in the defaults and refuses what cannot work.
func (o *Options) complete() error {
	if len(o.Args) == 0 {
		return errors.New("no command")
	}
	if os.Geteuid() != 0 {
		return errors.New("making a container needs root")
	}
	if err := o.check(); err != nil {
		return err
	}
	if _, err := (policy.Policy{}).With(o.Policy); err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	if o.Rootfs != "" {
		abs, err := filepath.Abs(o.Rootfs)
		if err != nil {
			return err
		}
		if o.Rootfs, err = filepath.EvalSymlinks(abs); err != nil {
			return fmt.Errorf("--rootfs: %w", err)
		}
	}
	if o.Parent == "" {
		o.Parent = rootGroup
	}
	o.Parent = path.Clean("/" + o.Parent)
	if o.Socket == "" {
		o.Socket = control.DefaultSocket
	}
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	return nil
}

// handshake leads the container's init through its set-up until it has become the command.
func (s *session) handshake(c *child, o Options) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c.send(setup{ID: s.id, Rootfs: o.Rootfs, Args: o.Args})
	if err := c.expect(isolated); err != nil {
		return err
	}
	var v view
	var err error
	if s.private != nil {
		// The container has its own copy of the mount now, and no change of the host's reaches it.
		if v.Unmount, _, err = control.Ping(ctx, s.Socket); err != nil {
			return err
		}
		if err := s.private.Detach(); err != nil {
			return fmt.Errorf("detach the private daemon's mount: %w", err)
		}
	}
	announced, err := control.Call(ctx, s.Socket, control.Request{Op: control.OpAnnounce, ID: s.id, PID: c.pid(), Policy: o.Policy})
	if err != nil {
		return err
	}
	v.View = announced.View
	c.send(v)
	if err := c.expect(executing); err != nil {
		return err
	}
	// The socket is closed by execve, or tells why that failed.
	return c.expect(executed)
}
