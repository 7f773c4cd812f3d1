package container

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// procFS looks at processes below a /proc, the machine's or a fixture. Its pids must be those that FUSE requests carry:
// the pid namespace of the process that mounted the file system.
type procFS struct {
	dir    int // descriptor of /proc
	hostNS uint64
	// fixture says that the pids below dir are not those of processes of this machine.
	fixture bool
}

func openProc(root string) (*procFS, error) {
	path := root + "/proc"
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	p := &procFS{dir: dir, fixture: root != ""}
	if p.hostNS, err = p.pidNS(self); err != nil {
		unix.Close(dir)
		return nil, fmt.Errorf("finding the host's pid namespace: %w", err)
	}
	return p, nil
}

// self is the task of this process.
const self = -1

// taskPath puts "<task>/<file>", 0-terminated, into buf. Paths are put together and passed to the kernel by hand, as package
// unix copies each to the heap.
func taskPath(buf *[64]byte, task int, file string) *byte {
	path := buf[:0]
	if task == self {
		path = append(path, "self"...)
	} else {
		path = strconv.AppendInt(path, int64(task), 10)
	}
	path = append(append(append(path, '/'), file...), 0)
	return &path[0]
}

// pathError is an error with a file of a task.
func pathError(op string, task int, file string, err error) error {
	var buf [64]byte
	return &os.PathError{Op: op, Path: "/proc/" + unix.BytePtrToString(taskPath(&buf, task, file)), Err: err}
}

// open opens /proc/<task>/<file> for reading.
func (p *procFS) open(task int, file string) (int, error) {
	var buf [64]byte
	path := taskPath(&buf, task, file)
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(p.dir), uintptr(unsafe.Pointer(path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, pathError("open", task, file, errno)
		}
	}
}

// read reads /proc/<task>/<file> into buf; what does not fit is cut off. It is a file that the kernel gives whole to the
// first read, as all are that are used here.
func (p *procFS) read(task int, file string, buf []byte) ([]byte, error) {
	fd, err := p.open(task, file)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		switch err {
		case nil:
			return buf[:n], nil
		case unix.EINTR:
		default:
			return nil, pathError("read", task, file, err)
		}
	}
}

// pidNS is the inode number of a task's pid namespace. The link names it, and reading that costs half of a stat(2) behind it.
func (p *procFS) pidNS(task int) (uint64, error) {
	const file = "ns/pid"
	var buf, link [64]byte
	path := taskPath(&buf, task, file)
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(p.dir), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&link[0])), uintptr(len(link)), 0, 0)
	if errno == 0 {
		if inode, ok := parseNSLink(link[:n]); ok {
			return inode, nil
		}
		errno = unix.EINVAL
	}
	if errno == unix.EINVAL && p.fixture { // whose namespaces are files
		var st unix.Stat_t
		if err := unix.Fstatat(p.dir, unix.BytePtrToString(path), &st, 0); err == nil {
			return st.Ino, nil
		}
	}
	return 0, pathError("readlink", task, file, errno)
}

// parseNSLink reads the text of a link below /proc/PID/ns, such as "pid:[4026531836]".
func parseNSLink(text []byte) (inode uint64, ok bool) {
	_, rest, _ := bytes.Cut(text, []byte(":["))
	digits, end, closed := bytes.Cut(rest, []byte("]"))
	inode, ok = parseDecimal(digits)
	return inode, ok && closed && len(end) == 0
}

// parseDecimal reads digits, at most those of 1<<63.
func parseDecimal(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' || n > (1<<63)/10-1 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(text) > 0
}

// stat is what scopefs needs of /proc/PID/stat.
type stat struct {
	state  byte          // R, S, D, Z …
	parent int           // pid of the parent, 0 if it is outside the pid namespace
	start  time.Duration // since boot, in whole USER_HZ ticks
}

func (p *procFS) stat(task int) (stat, error) {
	var buf [1024]byte
	text, err := p.read(task, "stat", buf[:])
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat. The second field is the command in parentheses and may hold anything, parentheses,
// blanks and newlines included, so the rest is found from the last closing one (proc_pid_stat(5)).
func parseStat(text []byte) (st stat, err error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no command in %q", string(text))
	}
	// Counted from the state, field 3: parent is field 4, starttime field 22.
	i := 0
	for field := range bytes.FieldsSeq(text[end+1:]) {
		n, isNumber := parseDecimal(field)
		switch {
		case i == 0 && len(field) == 1:
			st.state = field[0]
		case i == 1 && isNumber && n <= math.MaxInt32:
			st.parent = int(n)
		case i == 19 && isNumber && n <= 1<<53: // 2.8 million years: beyond that it is no time, and it must not overflow
			st.start = time.Duration(n) * (time.Second / userHz)
			return st, nil
		case i == 0 || i == 1 || i == 19:
			return stat{}, fmt.Errorf("field %d behind the command is %q in %q", i+1, string(field), string(text))
		}
		i++
	}
	return stat{}, fmt.Errorf("%d fields behind the command of %q", i, string(text))
}

// userHz is USER_HZ, the unit of times in /proc/PID/stat.
const userHz = 100

// innermostPID is the task's pid in its own pid namespace, from NSpid of /proc/PID/status.
func (p *procFS) innermostPID(task int) (int, error) {
	var buf [4096]byte
	text, err := p.read(task, "status", buf[:])
	if err != nil {
		return 0, err
	}
	return parseNSpid(text)
}

func parseNSpid(status []byte) (int, error) {
	_, rest, ok := bytes.Cut(status, []byte("\nNSpid:"))
	if !ok {
		return 0, errors.New("no NSpid in status")
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	line = bytes.TrimSpace(line)
	pid, ok := parseDecimal(line[bytes.LastIndexAny(line, " \t")+1:])
	if !ok || pid == 0 || pid > math.MaxInt32 {
		return 0, fmt.Errorf("NSpid %q", string(line))
	}
	return int(pid), nil
}
