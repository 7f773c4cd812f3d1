package run

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed are the signals that go to the command: those that others send. SIGTTIN and SIGTTOU are about our own use of
// the terminal, and of the real-time signals Go's runtime keeps 32 to 34 to itself.
var passed = func() []os.Signal {
	list := []os.Signal{
		unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGVTALRM, unix.SIGPROF, unix.SIGXCPU, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT, unix.SIGWINCH, unix.SIGTSTP,
		unix.SIGCONT,
	}
	for sig := syscall.Signal(35); sig <= 64; sig++ {
		list = append(list, sig)
	}
	return list
}()

// proxy passes signals to PID 1 of a container. The kernel drops signals for which such a process has no handler, where
// any other would die or stop; the proxy does that in the kernel's place.
type proxy struct {
	process   *os.Process
	kill      func()         // ends the container
	running   bool           // the command runs, not init
	killedFor syscall.Signal // what the SIGKILL stands for
}

// deliver does what the signal would do if the command were not PID 1.
func (p *proxy) deliver(sig syscall.Signal) {
	if p.running && handles(p.process.Pid, sig) {
		if !(typed(sig) && foreground()) {
			p.process.Signal(sig)
		}
		return
	}
	switch sig {
	case unix.SIGWINCH: // ignored by default
	case unix.SIGCONT:
		p.process.Signal(sig)
	case unix.SIGTSTP:
		p.process.Signal(unix.SIGSTOP)
		unix.Kill(os.Getpid(), unix.SIGSTOP) // SIGCONT to us continues both
	default:
		p.killedFor = sig
		p.kill()
	}
}

// status returns the exit status of the command.
func (p *proxy) status(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return 0, fmt.Errorf("wait for the container: %w", err)
	}
	ws := state.Sys().(syscall.WaitStatus)
	switch {
	case ws.Exited():
		return ws.ExitStatus(), nil
	case p.killedFor != 0 && ws.Signal() == unix.SIGKILL:
		return 128 + int(p.killedFor), nil
	default:
		return 128 + int(ws.Signal()), nil
	}
}

// handles says whether a process catches or ignores sig. One that cannot be looked at is ending.
func handles(pid int, sig syscall.Signal) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), ":")
		if key != "SigCgt" && key != "SigIgn" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && mask&(1<<(sig-1)) != 0 {
			return true
		}
	}
	return false
}

// typed says whether sig is one that a terminal sends.
func typed(sig syscall.Signal) bool {
	return sig == unix.SIGINT || sig == unix.SIGQUIT || sig == unix.SIGTSTP || sig == unix.SIGWINCH
}

// foreground says whether our process group is the one that a terminal sends signals to. The command is in the same
// group, so it got them already, and passing them on would be a second press of the key.
func foreground() bool {
	pgrp, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}

// keepTerminal returns a function that gives the terminal back to our process group if we have it now: a shell in the
// container takes it and, as it cannot see our group from its pid namespace, cannot return it.
func keepTerminal() func() {
	if !foreground() {
		return func() {}
	}
	return func() {
		if foreground() {
			return
		}
		signal.Ignore(unix.SIGTTOU) // or the change would stop us, as we are in the background
		defer signal.Reset(unix.SIGTTOU)
		_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp())
	}
}
