package container

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is one process that outlives our looks at it: the pid stays its own for as long as alive says so.
type process struct {
	pid   int
	fd    int // pidfd, -1 on kernels before 5.3 and for fixtures
	start time.Duration
	proc  *procFS
}

// hold pins a process by its pid.
func (p *procFS) hold(pid int) (*process, error) {
	fd := -1
	if !p.fixture {
		var err error
		if fd, err = unix.PidfdOpen(pid, 0); errors.Is(err, unix.ENOSYS) {
			fd = -1
		} else if err != nil {
			return nil, fmt.Errorf("pid %d: %w", pid, err)
		}
	}
	// Read behind pidfd_open: it is the start time of the process that the descriptor names, or of nobody.
	st, err := p.stat(pid)
	h := &process{pid: pid, fd: fd, start: st.start, proc: p}
	if err == nil && !h.alive() {
		err = fmt.Errorf("pid %d: %w", pid, unix.ESRCH)
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// alive says whether the process has not ended yet.
func (h *process) alive() bool {
	if h.fd < 0 {
		st, err := h.proc.stat(h.pid)
		return err == nil && st.start == h.start && st.state != 'Z' && st.state != 'X'
	}
	fds := [1]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return n == 0 && (err == nil || errors.Is(err, unix.EINTR))
}

func (h *process) close() {
	if h != nil && h.fd >= 0 {
		unix.Close(h.fd)
		h.fd = -1
	}
}

// initOf holds the init of a task's pid namespace. Nothing is forked: the kernel translates pid 1 where it can
// (NS_GET_PID_FROM_PIDNS, Linux 6.11), and else the init is looked for among the task's ancestors, then in near, the
// processes of its cgroup, then everywhere.
func (p *procFS) initOf(task int, near func(func(pid int) error) error) (*process, error) {
	ns, err := p.pidNS(task)
	if err != nil {
		return nil, err
	}
	if pid, ok := p.translateInit(task); ok {
		return p.holdInit(pid, ns)
	}
	for pid := task; ; {
		if h := p.tryInit(pid, ns); h != nil {
			return h, nil
		}
		st, err := p.stat(pid)
		if err != nil || st.parent <= 1 {
			break
		}
		pid = st.parent
	}
	var found *process
	visit := func(pid int) error {
		if found = p.tryInit(pid, ns); found != nil {
			return errFound
		}
		return nil
	}
	if near != nil {
		_ = near(visit) // a cgroup that goes away meanwhile is no reason not to look everywhere
	}
	if found == nil {
		if err := p.everybody(visit); err != nil && !errors.Is(err, errFound) {
			return nil, err
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no init found in the pid namespace of task %d", task)
	}
	return found, nil
}

var errFound = errors.New("found")

// tryInit holds the process if it is the init of the namespace, and returns nil if not.
func (p *procFS) tryInit(pid int, ns uint64) *process {
	if got, err := p.pidNS(pid); err != nil || got != ns {
		return nil
	}
	inner, err := p.innermostPID(pid)
	if err != nil || inner != 1 {
		return nil
	}
	h, err := p.holdInit(pid, ns)
	if err != nil {
		return nil
	}
	return h
}

// holdInit holds pid and then makes sure that it is still in the namespace, as the number may have been reused.
func (p *procFS) holdInit(pid int, ns uint64) (*process, error) {
	h, err := p.hold(pid)
	if err != nil {
		return nil, err
	}
	if got, err := p.pidNS(pid); err != nil || got != ns {
		h.close()
		return nil, fmt.Errorf("pid %d left pid namespace %d: %w", pid, ns, unix.ESRCH)
	}
	return h, nil
}

// The ioctls of a pid namespace's descriptor (include/uapi/linux/nsfs.h), Linux 6.11.
const (
	nsGetPIDFromPIDNS = 0x8004b706 // a pid of that namespace in ours
	nsGetPIDInPIDNS   = 0x8004b708 // one of ours in that namespace
)

func (p *procFS) translateInit(task int) (int, bool) {
	fd, err := p.open(task, "ns/pid")
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	return translate(fd, nsGetPIDFromPIDNS, 1)
}

// translate asks for a pid of one namespace in another; ok is false where there is none, or no such ioctl.
func translate(ns int, request, pid uintptr) (int, bool) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), request, pid)
	return int(n), errno == 0 && n > 0
}

// heldNS is a pid namespace whose descriptor is kept, to see pids in it.
type heldNS struct {
	inode  uint64
	fd     int  // 0: not opened yet
	cannot bool // be opened, or the kernel does not translate
}

// pid is the pid, as it is seen in the namespace, of a task that is in it and that waits for its request. Calls must not
// overlap.
func (ns *heldNS) pid(p *procFS, task int) (int, error) {
	if ns.inode == p.hostNS {
		return task, nil
	}
	if ns.fd == 0 && !ns.cannot {
		// Of this namespace for certain: the task does not leave it.
		if fd, err := p.open(task, "ns/pid"); err == nil {
			ns.fd = fd
		}
	}
	if ns.fd > 0 {
		if pid, ok := translate(ns.fd, nsGetPIDInPIDNS, uintptr(task)); ok {
			return pid, nil
		}
		ns.close()
	}
	ns.cannot = true
	return p.innermostPID(task)
}

func (ns *heldNS) close() {
	if ns.fd > 0 {
		unix.Close(ns.fd)
		ns.fd = 0
	}
}

// everybody calls fn with every pid below /proc until it returns an error.
func (p *procFS) everybody(fn func(pid int) error) error {
	fd, err := unix.Openat(p.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	dir := os.NewFile(uintptr(fd), "/proc")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil {
				if err := fn(pid); err != nil {
					return err
				}
			}
		}
		if err != nil || len(names) == 0 {
			return nil // io.EOF
		}
	}
}
