package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

// NeedPressure is the need of one file of /proc/pressure.
func NeedPressure(r cgroup.Pressure) Need { return needPressure << r }

const _ = needPressure << (cgroup.Pressures - 1) // a Need has room for all

// OpenPressure opens /proc/pressure/<resource> for a trigger, to be written and polled. The descriptor is the caller's,
// and the trigger lives as long as it does. Who may open it, and which triggers it takes, depends on the capabilities of
// the calling thread, see AsUnprivileged.
func (f *FS) OpenPressure(r cgroup.Pressure) (fd int, err error) {
	path := filepath.Join("/", f.root, "proc/pressure", r.String())
	fd, err = retry(func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// Mode is the permission bits of a file, named by its path below the root; 0 if there is none.
func (f *FS) Mode(path string) uint32 {
	fi, err := os.Lstat(filepath.Join("/", f.root, path))
	if err != nil {
		return 0
	}
	return uint32(fi.Mode().Perm())
}

// Privileged says whether a task has CAP_SYS_RESOURCE in effect, and whether it has it over the machine, too, which root of
// a user namespace has not. Linux 6.5 and later ask the first, in any user namespace, of those who set triggers with short
// windows; before, the second was asked of all who open /proc/pressure for writing. A task that cannot be looked at has
// neither.
func (f *FS) Privileged(tid int) (inEffect, overMachine bool) {
	if tid <= 0 {
		return false, false
	}
	task := strconv.Itoa(tid)
	text, err := os.ReadFile(filepath.Join("/", f.root, "proc", task, "status"))
	if err != nil || effective(text)&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		return false, false
	}
	var ours, theirs [maxNSName]byte
	if _, err := f.taskLink(self, "ns/user", ours[:]); err != nil {
		return true, true // a kernel without user namespaces
	}
	_, err = f.taskLink(tid, "ns/user", theirs[:])
	return true, err == nil && theirs == ours
}

// effective is CapEff of /proc/PID/status, 0 where there is none.
func effective(status []byte) uint64 {
	_, rest, ok := bytes.Cut(status, []byte("\nCapEff:\t"))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseUint(string(line), 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// AsUnprivileged calls fn on a thread without CAP_SYS_RESOURCE in effect. The kernel remembers the capabilities of who
// opened a file, so what fn opens is as if it were opened by somebody without.
func AsUnprivileged(fn func() error) (err error) {
	runtime.LockOSThread() // capabilities are a thread's
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var was [2]unix.CapUserData
	if err := unix.Capget(&header, &was[0]); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("capget", err)
	}
	less := was
	less[unix.CAP_SYS_RESOURCE/32].Effective &^= 1 << (unix.CAP_SYS_RESOURCE % 32)
	if less == was {
		defer runtime.UnlockOSThread()
		return fn()
	}
	if err := unix.Capset(&header, &less[0]); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("capset", err)
	}
	err = fn()
	if restore := unix.Capset(&header, &was[0]); restore != nil {
		// Still locked: the thread ends with its goroutine.
		return errors.Join(err, fmt.Errorf("capset: %w", restore))
	}
	runtime.UnlockOSThread()
	return err
}
