package host

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// TimeNS is the time namespace (time_namespaces(7), Linux 5.6) of a reader, where it is not the machine's: that of this
// process. The zero value is the machine's.
type TimeNS struct {
	// Other says that it is another one than the machine's.
	Other bool
	// Boottime is what it adds to the machine's CLOCK_BOOTTIME.
	Boottime time.Duration
	// Boot is when the machine booted: CLOCK_REALTIME − CLOCK_BOOTTIME, since the epoch. btime of /proc/stat is Boot less
	// Boottime, in whole seconds. 0 before Linux 5.11, which shows the machine's btime, and the machine's start times of
	// processes, in every time namespace.
	Boot time.Duration
}

// timeNSs tells time namespaces apart.
type timeNSs struct {
	own    string        // the machine's, as its link names it; "": the kernel has none
	shifts bool          // the kernel shifts btime
	offset time.Duration // the machine's own, which is not 0 where this process is in one itself

	mu   sync.Mutex
	boot bootTime
}

// findTimeNS looks for the machine's own. Without one whose offset can be known, no reader's can be compared with it.
func (f *FS) findTimeNS() {
	t := &f.timeNS
	var buf [maxNSName]byte
	n, err := f.taskLink(self, "ns/time", buf[:])
	if err != nil {
		return // a kernel without time namespaces
	}
	if offset, err := f.boottimeOffset(self, buf[:n]); err == nil {
		t.own, t.offset = string(buf[:n]), offset
	}
	// What cannot be read is a kernel of the future.
	release, err := os.ReadFile(filepath.Join("/", f.root, "proc/sys/kernel/osrelease"))
	t.shifts = err != nil || shiftsBtime(string(release))
}

// shiftsBtime says whether a release of Linux, such as 6.1.0-13-amd64, applies the time namespace to btime.
func shiftsBtime(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return true
	}
	return major > 5 || major == 5 && minor >= 11
}

// ReadTimeNS fills dst.TimeNS with the time namespace of a task; 0 is none. ok is false where it can't be known, and the
// machine's is taken. It costs one readlink(2) for a task in the machine's, and nothing on kernels without time namespaces.
func (f *FS) ReadTimeNS(task int, dst *Snapshot) (ok bool) {
	dst.TimeNS = TimeNS{}
	if f.timeNS.own == "" {
		return true
	}
	if task <= 0 {
		return false
	}
	// Unlike stat(2) of it, to read the link makes no inode.
	var buf [maxNSName]byte
	n, err := f.taskLink(task, "ns/time", buf[:])
	if err != nil {
		return false
	}
	if ns := buf[:n]; string(ns) != f.timeNS.own {
		dst.TimeNS, err = f.otherTimeNS(task, ns)
	}
	return err == nil
}

// maxNSName is more than the longest name of a namespace, "time_for_children:[4294967295]".
const maxNSName = 48

// otherTimeNS is the time namespace ns of a task that is not in the machine's.
func (f *FS) otherTimeNS(task int, ns []byte) (TimeNS, error) {
	t := &f.timeNS
	offset, err := f.boottimeOffset(task, ns)
	if err != nil {
		return TimeNS{}, err
	}
	// The machine's own offset is in its CLOCK_BOOTTIME, and so in Boot, already.
	other := TimeNS{Other: true, Boottime: offset - t.offset}
	if t.shifts {
		if other.Boot, err = t.bootTime(); err != nil {
			return TimeNS{}, err
		}
	}
	return other, nil
}

// errOffset says that a task's children will be in another time namespace than itself, whose offsets the kernel shows then.
var errOffset = errors.New("the offsets of the task's time namespace are not shown")

// boottimeOffset is the offset of CLOCK_BOOTTIME in the time namespace ns of a task.
func (f *FS) boottimeOffset(task int, ns []byte) (time.Duration, error) {
	var buf [256]byte // for two lines of 43 bytes
	n, err := f.taskLink(task, "ns/time_for_children", buf[:])
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(buf[:n], ns) {
		return 0, errOffset
	}
	if n, err = f.taskText(task, "timens_offsets", buf[:]); err != nil {
		return 0, err
	}
	return parseBoottimeOffset(buf[:n])
}

// parseBoottimeOffset reads the line "boottime SECONDS NANOSECONDS" of timens_offsets; the nanoseconds are never negative.
func parseBoottimeOffset(text []byte) (time.Duration, error) {
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		name, numbers, _ := bytes.Cut(line, []byte{' '})
		if string(name) != "boottime" {
			continue
		}
		first, second, _ := bytes.Cut(bytes.TrimSpace(numbers), []byte{' '})
		sec, err1 := strconv.ParseInt(string(first), 10, 64)
		nsec, err2 := strconv.ParseUint(string(bytes.TrimSpace(second)), 10, 64)
		// The kernel takes no more than KTIME_SEC_MAX, 292 years.
		const most = math.MaxInt64/int64(time.Second) - 1
		if err1 != nil || err2 != nil || sec < -most || sec > most || nsec >= uint64(time.Second) {
			return 0, fmt.Errorf("no offset of boottime: %q", string(line))
		}
		return time.Duration(sec)*time.Second + time.Duration(nsec), nil
	}
	return 0, fmt.Errorf("no boottime in %.100q", string(text))
}

// bootTime is a measured Boot, and how far it may be off.
type bootTime struct{ at, off time.Duration }

// bootTime measures CLOCK_REALTIME − CLOCK_BOOTTIME, which changes when the clock is set and not otherwise. So what agrees
// with the last measurement is the same time, and the better one of the two is kept: btime must not waver.
func (t *timeNSs) bootTime() (time.Duration, error) {
	before, err1 := clock(unix.CLOCK_BOOTTIME)
	real, err2 := clock(unix.CLOCK_REALTIME)
	after, err3 := clock(unix.CLOCK_BOOTTIME)
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, err
	}
	half := (after-before)/2 + 1
	now := bootTime{at: real - before - half, off: half}

	t.mu.Lock()
	defer t.mu.Unlock()
	if now.off < t.boot.off || (now.at-t.boot.at).Abs() > now.off+t.boot.off {
		t.boot = now
	}
	return t.boot.at, nil
}

// clock reads a clock.
func clock(id int32) (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(id, &now); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(now.Nano()), nil
}
