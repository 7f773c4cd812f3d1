package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/scopefs/scopefs/fs/control"
	"golang.org/x/sys/unix"
)

// The messages between run and the container's init, on a socket pair; init's is descriptor 3.
type (
	// setup is the first, from run.
	setup struct {
		ID     string
		Rootfs string
		Args   []string
	}
	// view is the second, from run, after isolated.
	view struct {
		control.View
		Unmount string // a mount that the container is to lose when it has its files
	}
	// report comes from init: a stage that it reached, or how it failed.
	report struct {
		Stage  stage
		Error  string
		Status int
	}
	stage int
)

const (
	isolated  stage = iota + 1 // the mount namespace gets nothing from the host's any more
	executing                  // execve is next
	executed                   // execve closed the socket: no message
)

// child is the container's first process: init at first, the command after that.
type child struct {
	process  *os.Process
	sock     *os.File
	enc      *json.Encoder
	dec      *json.Decoder
	group    string // path of its cgroup
	finished chan ended
}

// ended is what [os.Process.Wait] returns.
type ended struct {
	state *os.ProcessState
	err   error
}

// start starts init in g, in the time namespace of the calling thread's children if timeNS is set. The calling thread is
// its parent.
func start(g *group, timeNS bool) (*child, error) {
	dir := g.dir()
	if dir != nil {
		defer dir.Close()
	}
	c, err := clone(dir, timeNS)
	if err != nil && dir != nil {
		// Before Linux 5.7, or where a filter forbids clone3.
		dir = nil
		c, err = clone(nil, timeNS)
	}
	if err != nil {
		return nil, fmt.Errorf("start the container: %w", err)
	}
	if dir == nil {
		if err := g.add(c.pid()); err != nil {
			c.process.Kill()
			_, _ = c.process.Wait()
			c.sock.Close()
			return nil, fmt.Errorf("move the container into its cgroup: %w", err)
		}
	}
	c.group = g.path
	c.finished = make(chan ended, 1)
	go func() {
		state, err := c.process.Wait()
		c.finished <- ended{state, err}
	}()
	return c, nil
}

// attributes say how to start init.
type attributes struct {
	argv   []string
	flags  uintptr  // of clone(2)
	cgroup *os.File // nil: that of this process
	sock   *os.File // to be initSocket
}

const (
	self       = "/proc/self/exe"
	initSocket = 3 // descriptor
)

// clone starts init, in the cgroup dir if that is not nil.
func clone(dir *os.File, timeNS bool) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "init"), os.NewFile(uintptr(pair[1]), "run")
	defer theirs.Close()
	a := &attributes{
		argv:   []string{"scopefs", "init"},
		flags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		cgroup: dir, sock: theirs,
	}
	start := spawn
	if timeNS {
		start = fork
	}
	process, err := start(a)
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &child{process: process, sock: ours, enc: json.NewEncoder(ours), dec: json.NewDecoder(ours)}, nil
}

// spawn starts init as Go starts processes.
func spawn(a *attributes) (*os.Process, error) {
	sys := &syscall.SysProcAttr{Cloneflags: a.flags, Pdeathsig: unix.SIGKILL}
	if a.cgroup != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(a.cgroup.Fd())
	}
	return os.StartProcess(self, a.argv, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, a.sock}, Sys: sys})
}

func (c *child) pid() int { return c.process.Pid }

// send sends init a message. One that died does not get it, but may have said why: expect tells.
func (c *child) send(message any) { _ = c.enc.Encode(message) }

// kill ends the container. PID 1 alone is not enough: the kernel waits for the others, and one that is frozen does not
// die.
func (c *child) kill() {
	c.process.Kill()
	for _, dir := range groupDirs(c.group) {
		killTree(dir)
	}
}

// expect waits until init has reached a stage.
func (c *child) expect(want stage) error {
	var r report
	err := c.dec.Decode(&r)
	switch {
	case err == io.EOF && want == executed:
		return nil
	case err == io.EOF || errors.Is(err, unix.ECONNRESET):
		return errors.New("the container's init died before it could run the command; too little --memory or --pids?")
	case err != nil:
		return fmt.Errorf("talk to the container's init: %w", err)
	case r.Error != "":
		return &Error{r.Status, errors.New(r.Error)}
	case r.Stage != want:
		return fmt.Errorf("the container's init reports stage %d instead of %d", r.Stage, want)
	}
	return nil
}

// supervise runs the handshake and passes signals on until the child has ended. It returns the child's exit status.
func (c *child) supervise(handshake func() error) (int, error) {
	defer c.sock.Close()
	restore := keepTerminal()
	defer restore()
	signals := make(chan os.Signal, 64)
	for _, sig := range passed {
		// SIGHUP, as under nohup, and SIGINT stay ignored if they are, in the command too. Go's runtime loses this for
		// the others, which are passed on.
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	defer signal.Stop(signals)
	ready := make(chan error, 1)
	go func() { ready <- handshake() }()

	p := proxy{process: c.process, kill: c.kill}
	for {
		select {
		case err := <-ready:
			if err != nil {
				c.kill()
				<-c.finished
				if p.killedFor != 0 {
					return 128 + int(p.killedFor), nil
				}
				return 0, err
			}
			ready = nil
			p.running = true
		case sig := <-signals:
			p.deliver(sig.(syscall.Signal))
		case end := <-c.finished:
			if ready != nil {
				// The end came between execve and its notice here, or before execve.
				if err := <-ready; err != nil && p.killedFor == 0 {
					return 0, err
				}
			}
			return p.status(end.state, end.err)
		}
	}
}
