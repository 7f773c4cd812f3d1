package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/scopefs/scopefs/hooks"
	"golang.org/x/sys/unix"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Init is the container's first process. [Run] starts it as `<this program> init`; it sets the container up from within
// and becomes the command. It returns only if it fails, and then run has the reason already unless an error comes back.
func Init() error {
	// execve makes this thread the process, so the signal at the parent's death has to be this thread's. A parent that
	// is dead already is noticed at the first message.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if _, err := unix.GetsockoptInt(initSocket, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || os.Getpid() != 1 {
		return errors.New("init is started by scopefs run, not by hand")
	}
	unix.CloseOnExec(initSocket)
	sock := os.NewFile(initSocket, "run")
	enc := json.NewEncoder(sock)
	err := become(enc, json.NewDecoder(sock))
	r := report{Error: err.Error(), Status: StatusFailed}
	var e *Error
	if errors.As(err, &e) {
		r.Status = e.Status
	}
	return enc.Encode(r)
}

// become turns init into the command.
func become(enc *json.Encoder, dec *json.Decoder) error {
	var s setup
	if err := dec.Decode(&s); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := enc.Encode(report{Stage: isolated}); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.ID)); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	root, err := prepareRoot(s.Rootfs)
	if err != nil {
		return err
	}
	var v view
	if err := dec.Decode(&v); err != nil {
		return err
	}
	if _, err := hooks.Overlay(v.View, root); err != nil {
		return err
	}
	if v.Unmount != "" {
		if err := unix.Unmount(v.Unmount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "umount", Path: v.Unmount, Err: err}
		}
	}
	if s.Rootfs != "" {
		if err := enterRoot(root); err != nil {
			return err
		}
	}
	return execute(s.Args, enc)
}

// execute becomes the command.
func execute(args []string, enc *json.Encoder) error {
	if os.Getenv("PATH") == "" {
		if err := os.Setenv("PATH", defaultPath); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return execError(args[0], err)
	}
	if err := closeOnExec(); err != nil {
		return err
	}
	if err := enc.Encode(report{Stage: executing}); err != nil {
		return err
	}
	return execError(args[0], unix.Exec(path, args, os.Environ()))
}

func execError(name string, err error) error {
	status := StatusNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		status = StatusNotFound
	}
	// LookPath's wrappings repeat the name.
	var e *exec.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &Error{status, fmt.Errorf("%s: %w", name, err)}
}

// closeOnExec keeps every descriptor but the standard ones from the command, those that run itself inherited included.
func closeOnExec() error {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(filepath.Base(e.Name())); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
