package run

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unshareTime makes a time namespace (Linux 5.6) in which the machine boots now, for the processes that the calling
// thread forks from now on. The thread is of no use for anything else then: before Linux 6.2 it cannot even make
// threads.
func unshareTime() error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return errors.New("--timens: this kernel has no time namespaces: that takes Linux 5.6 and CONFIG_TIME_NS")
		}
		return fmt.Errorf("--timens: %w", os.NewSyscallError("unshare", err))
	}
	var offsets []byte
	for _, clock := range []struct {
		name string
		id   int32
	}{{"monotonic", unix.CLOCK_MONOTONIC}, {"boottime", unix.CLOCK_BOOTTIME}} {
		var now unix.Timespec
		if err := unix.ClockGettime(clock.id, &now); err != nil {
			return os.NewSyscallError("clock_gettime", err)
		}
		sec, nsec := negative(now.Unix())
		offsets = fmt.Appendf(offsets, "%s %d %d\n", clock.name, sec, nsec)
	}
	// Of this thread, where /proc/self is the process's first one.
	err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()), offsets, 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("--timens: setting the clocks of a time namespace takes CAP_SYS_TIME: %w", err)
	}
	if err != nil {
		return fmt.Errorf("--timens: %w", err)
	}
	return nil
}

// negative is −(sec + nsec), with nanoseconds that are not negative, as the kernel wants them.
func negative(sec, nsec int64) (int64, int64) {
	if nsec == 0 {
		return -sec, 0
	}
	return -sec - 1, 1e9 - nsec
}

// fork starts init like [os.StartProcess], but without sharing memory with it until execve: Linux before 6.2 lets no process into
// a time namespace otherwise.
func fork(a *attributes) (*os.Process, error) {
	path, err := syscall.BytePtrFromString(self)
	if err != nil {
		return nil, err
	}
	argv, err := syscall.SlicePtrFromStrings(a.argv)
	if err != nil {
		return nil, err
	}
	env, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return nil, err
	}
	args := &cloneArgs{flags: uint64(a.flags), exitSignal: uint64(unix.SIGCHLD)}
	if a.cgroup != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(a.cgroup.Fd())
	}
	// Without signals, for none is to start the fork over, nor to be handled in the child.
	var all, was unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	syscall.ForkLock.Lock() // no other thread has a descriptor open meanwhile that is not close-on-exec yet
	defer syscall.ForkLock.Unlock()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &was); err != nil {
		return nil, os.NewSyscallError("rt_sigprocmask", err)
	}
	pid, errno := forkExec(args, path, argv, env, uintptr(a.sock.Fd()), &was)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &was, nil); err != nil {
		return nil, os.NewSyscallError("rt_sigprocmask", err)
	}
	if errno != 0 {
		return nil, os.NewSyscallError("clone3", errno)
	}
	return os.FindProcess(int(pid))
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// forkExec forks. The child is one thread in a copy of this process's memory, which no Go code but this may run in: system
// calls alone, with what was made ready before. A child that cannot become init ends.
//
//go:norace
//go:noinline
func forkExec(args *cloneArgs, path *byte, argv, env []*byte, sock uintptr, mask *unix.Sigset_t) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	if sock == initSocket {
		_, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, sock, unix.F_SETFD, 0)
	} else {
		_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, sock, initSocket, 0)
	}
	if errno == 0 {
		_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	}
	if errno == 0 {
		_, _, errno = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(mask)), 0, 8, 0, 0)
	}
	if errno == 0 {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])),
			uintptr(unsafe.Pointer(&env[0])))
	}
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, StatusFailed, 0, 0)
	}
}
