package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
)

// daemon is one that serves files.
type daemon struct {
	*process
	dir    string
	mount  string
	socket string // scopefs' control socket
	// abrupt has it killed at the end: LXCFS takes 5 s to stop its thread of load averages.
	abrupt bool
}

// startScopefs starts a daemon of the program under test; flags are serve's.
func (b *bench) startScopefs(name string, flags ...string) (*daemon, error) {
	dir, err := b.subdir(name)
	if err != nil {
		return nil, err
	}
	s := &daemon{dir: dir, mount: filepath.Join(dir, "fs"), socket: filepath.Join(dir, "control.sock")}
	args := append([]string{"serve", "--mount", s.mount, "--socket", s.socket}, flags...)
	return s, b.startDaemon(s, name, exec.Command(b.options.scopefs, args...), func() error {
		_, _, err := control.Ping(b.ctx, s.socket)
		return err
	})
}

// hasFlag says whether the program under test has a flag of serve's.
func (b *bench) hasFlag(flag string) bool {
	help, err := exec.Command(b.options.scopefs, "serve", "--help").Output()
	return err == nil && strings.Contains(string(help), flag)
}

// startFloor starts the daemon that serves a constant file, <mount>/file.
func (b *bench) startFloor() (*daemon, error) {
	dir, err := b.subdir("floor")
	if err != nil {
		return nil, err
	}
	s := &daemon{dir: dir, mount: filepath.Join(dir, "fs")}
	return s, b.startDaemon(s, "floor", roleCommand(roleFloor, s.mount), mounted(s.mount))
}

// errNoLXCFS says that it is not installed.
var errNoLXCFS = errors.New("lxcfs is not installed")

// startLXCFS starts LXCFS as its Debian package has it, with load averages on as scopefs has them.
func (b *bench) startLXCFS() (*daemon, error) {
	program, err := exec.LookPath("lxcfs")
	if err != nil {
		return nil, errNoLXCFS
	}
	dir, err := b.subdir("lxcfs")
	if err != nil {
		return nil, err
	}
	s := &daemon{dir: dir, mount: filepath.Join(dir, "fs"), abrupt: true}
	if err := os.Mkdir(s.mount, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-f", "-l", "-p", filepath.Join(dir, "pid"), s.mount)
	return s, b.startDaemon(s, "lxcfs", cmd, mounted(s.mount))
}

// mounted is ready when the mount point is one.
func mounted(point string) func() error {
	return func() error {
		var in, above unix.Stat_t
		if err := unix.Stat(point, &in); err != nil {
			return err
		}
		if err := unix.Stat(filepath.Dir(point), &above); err != nil {
			return err
		}
		if in.Dev == above.Dev {
			return errors.New("not mounted")
		}
		return nil
	}
}

func (b *bench) startDaemon(s *daemon, name string, cmd *exec.Cmd, ready func() error) error {
	var err error
	if s.process, err = start(b.ctx, name, true, cmd); err != nil {
		return err
	}
	b.onClose(s.stop)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return s.failed(fmt.Errorf("it ended at its start: %w", s.fate))
		case <-b.ctx.Done():
			return b.ctx.Err()
		default:
		}
		if time.Now().After(deadline) {
			return s.failed(fmt.Errorf("it does not answer: %w", err))
		}
	}
}

// stop ends the daemon and takes its mount away. It may be called twice.
func (s *daemon) stop() {
	sig := syscall.SIGTERM
	if s.abrupt {
		sig = syscall.SIGKILL
	}
	s.end(sig)
	_ = unix.Unmount(s.mount, unix.MNT_DETACH)
}

// announce makes a container known to a scopefs daemon and returns the directory of its files.
func (b *bench) announce(s *daemon, c *container) (string, error) {
	v, err := control.Announce(b.ctx, s.socket, c.id, c.pid())
	return v.Path, err
}

// allCPUs are those that this process may use.
var allCPUs = func() unix.CPUSet {
	var set unix.CPUSet
	_ = unix.SchedGetaffinity(0, &set)
	return set
}()

// oneCPU is the set of the first of allCPUs, where the reader and the daemon meet.
func oneCPU() (set unix.CPUSet) {
	for i := range 8 * len(set) * strconv.IntSize / 8 {
		if allCPUs.IsSet(i) {
			set.Set(i)
			return set
		}
	}
	return allCPUs
}

// pin has all threads of the process run on these CPUs, and those that they will make.
func (p *process) pin(set unix.CPUSet) error {
	// A thread that is made while we look may have missed it.
	for range 2 {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid()))
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, _ := strconv.Atoi(t.Name())
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pinning %s: %w", p.name, err)
			}
		}
	}
	return nil
}

// cpuTime is the CPU time that the process has used, to the nanosecond.
func (p *process) cpuTime() (time.Duration, error) {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of include/linux/posix-timers.h.
	clock := int32(^p.pid())<<3 | 2
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w", p.name, err)
	}
	return time.Duration(ts.Nano()), nil
}

// status is a number of /proc/PID/status, such as that of "VmRSS" (in kB) or "Threads".
func (p *process) status(key string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			f := strings.Fields(rest)
			return strconv.ParseInt(f[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in the status of %s", key, p.name)
}

// descriptors is how many files the process has open.
func (p *process) descriptors() (int, error) {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
	return len(list), err
}

// cpuTime is the CPU time of the variant's daemon, 0 for the kernel.
func (v *variant) cpuTime() (time.Duration, error) {
	if v.daemon == nil {
		return 0, nil
	}
	return v.daemon.cpuTime()
}
