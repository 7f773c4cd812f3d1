package host

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// A 32-bit program on a 64-bit machine may have set its personality(2) to PER_LINUX32, and arm64 prints /proc/cpuinfo
// for its reader's: the features that 32-bit code can use, and a model name (arch/arm64/kernel/cpuinfo.c, c_show). No
// other architecture looks at it.
const cpuinfoHasPersonality = runtime.GOARCH == "arm64"

// The personalities (include/uapi/linux/personality.h).
const (
	perLinux32 = 0x0008
	perMask    = 0x00ff
	perAsk     = 0xffffffff // tells without setting
)

// Linux32 says whether /proc/cpuinfo is another one for this task, as its personality is PER_LINUX32. A task that cannot
// be looked at is an ordinary one.
func (f *FS) Linux32(tid int) bool {
	return cpuinfoHasPersonality && tid > 0 && f.personalityOf(tid)&perMask == perLinux32
}

func (f *FS) personalityOf(tid int) (p uint64) {
	var buf [16]byte // eight digits and a newline
	n, err := f.taskText(tid, "personality", buf[:])
	if err != nil {
		return 0
	}
	if p, err = strconv.ParseUint(string(bytes.TrimSpace(buf[:n])), 16, 64); err != nil {
		return 0
	}
	return p
}

// asLinux32 calls fn with the personality of a 32-bit program.
func asLinux32(fn func() error) error {
	runtime.LockOSThread() // a personality is a thread's
	was, err := personality(perAsk)
	if err == nil {
		_, err = personality(was&^perMask | perLinux32)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("personality: %w", err)
	}
	err = fn()
	if _, restore := personality(was); restore != nil {
		return fmt.Errorf("personality: %w", restore) // still locked: the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func personality(p uint64) (was uint64, err error) {
	old, _, errno := unix.Syscall(unix.SYS_PERSONALITY, uintptr(p), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return uint64(old), nil
}
