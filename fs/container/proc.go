package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

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
	if p.hostNS, err = p.pidNS("self"); err != nil {
		unix.Close(dir)
		return nil, fmt.Errorf("finding the host's pid namespace: %w", err)
	}
	return p, nil
}

// read reads /proc/<task>/<file> into buf; what does not fit is cut off.
func (p *procFS) read(task, file string, buf []byte) ([]byte, error) {
	fd, err := openat(p.dir, task+"/"+file, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: "/proc/" + task + "/" + file, Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], nil
}

// pidNS is the inode number of a task's pid namespace.
func (p *procFS) pidNS(task string) (uint64, error) {
	var st unix.Stat_t
	path := task + "/ns/pid"
	if err := unix.Fstatat(p.dir, path, &st, 0); err != nil {
		return 0, &os.PathError{Op: "stat", Path: "/proc/" + path, Err: err}
	}
	return st.Ino, nil
}

// stat is what scopefs needs of /proc/PID/stat.
type stat struct {
	state  byte          // R, S, D, Z …
	parent int           // pid of the parent, 0 if it is outside the pid namespace
	start  time.Duration // since boot, in whole USER_HZ ticks
}

func (p *procFS) stat(task string) (stat, error) {
	var buf [1024]byte
	text, err := p.read(task, "stat", buf[:])
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat. The second field is the command in parentheses and may hold anything, parentheses,
// blanks and newlines included, so the rest is found from the last closing one (proc_pid_stat(5)).
func parseStat(text []byte) (stat, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no command in %q", text)
	}
	fields := bytes.Fields(text[end+1:])
	// Counted from the state, field 3: parent is field 4, starttime field 22.
	if len(fields) < 20 || len(fields[0]) != 1 {
		return stat{}, fmt.Errorf("%d fields behind the command of %q", len(fields), text)
	}
	parent, err1 := strconv.Atoi(string(fields[1]))
	ticks, err2 := strconv.ParseUint(string(fields[19]), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return stat{}, err
	}
	if ticks > 1<<53 { // 2.8 million years: not a time, and it must not overflow
		return stat{}, fmt.Errorf("starttime %d in %q", ticks, text)
	}
	return stat{state: fields[0][0], parent: parent, start: time.Duration(ticks) * (time.Second / userHz)}, nil
}

// userHz is USER_HZ, the unit of times in /proc/PID/stat.
const userHz = 100

// innermostPID is the task's pid in its own pid namespace, from NSpid of /proc/PID/status.
func (p *procFS) innermostPID(task string) (int, error) {
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
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return 0, errors.New("empty NSpid in status")
	}
	pid, err := strconv.Atoi(string(fields[len(fields)-1]))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("NSpid %q", line)
	}
	return pid, nil
}

// openat is openat(2), close-on-exec and retried when interrupted.
func openat(dir int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: "/proc/" + path, Err: err}
		}
		return fd, nil
	}
}
