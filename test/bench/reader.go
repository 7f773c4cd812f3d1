package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readSize is how much a reader asks for at a time, as many programs do (coreutils' cat: 128 KiB, procps: 8 KiB).
const readSize = 64 << 10

// reader opens, reads to the end and closes one file, over and over, without the help of Go's runtime: no allocation, no
// scheduler, no garbage collection. It belongs to one locked thread.
type reader struct {
	path *byte
	buf  []byte
	size int // of the content read last
}

func newReader(path string) (*reader, error) {
	p, err := unix.BytePtrFromString(path)
	return &reader{path: p, buf: make([]byte, readSize)}, err
}

// once reads the file once.
func (r *reader) once() syscall.Errno {
	const atCWD = ^uintptr(99) // AT_FDCWD
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, atCWD, uintptr(unsafe.Pointer(r.path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	r.size = 0
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&r.buf[0])), uintptr(len(r.buf)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
			return errno
		}
		if n == 0 {
			break
		}
		r.size += int(n)
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return errno
}

// latencyOrder is: read this file so often and say how long it took.
type latencyOrder struct {
	Path  string
	Count int
	Warm  int         // reads before that are not counted
	CPUs  unix.CPUSet // to run on
}

// Latency is how long reads took, in nanoseconds.
type Latency struct {
	Mean, P50, P99, Max float64
	Size                int // of the content, in bytes
}

func (o *latencyOrder) measure() (*Latency, error) {
	r, err := newReader(o.Path)
	if err != nil {
		return nil, err
	}
	if err := unix.SchedSetaffinity(0, &o.CPUs); err != nil {
		return nil, fmt.Errorf("pinning the reader: %w", err)
	}
	runtime.GC() // now, not meanwhile
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	took := make([]time.Duration, o.Count)
	for range o.Warm {
		if errno := r.once(); errno != 0 {
			return nil, &os.PathError{Op: "read", Path: o.Path, Err: errno}
		}
	}
	for i := range took {
		begun := time.Now()
		errno := r.once()
		took[i] = time.Since(begun)
		if errno != 0 {
			return nil, &os.PathError{Op: "read", Path: o.Path, Err: errno}
		}
	}
	l := summarize(took)
	l.Size = r.size
	return l, nil
}

// summarize sorts the durations.
func summarize(took []time.Duration) *Latency {
	if len(took) == 0 {
		return &Latency{}
	}
	slices.Sort(took)
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))]) }
	return &Latency{Mean: float64(sum) / float64(len(took)), P50: at(0.5), P99: at(0.99), Max: at(1)}
}

// throughputOrder is: have so many processes read the file for so long.
type throughputOrder struct {
	Path    string
	Readers int
	For     time.Duration
}

// Throughput is what they managed together.
type Throughput struct {
	Reads   int
	Seconds float64 // the mean of the readers
}

func (o *throughputOrder) measure() (*Throughput, error) {
	if err := unix.SchedSetaffinity(0, &allCPUs); err != nil {
		return nil, err
	}
	type child struct {
		cmd *exec.Cmd
		in  *os.File
		out *bufio.Reader
	}
	var children []child
	defer func() {
		for _, c := range children {
			_ = c.in.Close()
			_ = c.cmd.Wait()
		}
	}()
	for range o.Readers {
		cmd := roleCommand(roleReader, o.Path, o.For.String())
		cmd.Stderr = os.Stderr
		in, out, err := pipes(cmd)
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		_ = cmd.Stdin.(*os.File).Close()
		_ = cmd.Stdout.(*os.File).Close()
		children = append(children, child{cmd, in, bufio.NewReader(out)})
	}
	for _, c := range children {
		if _, err := c.out.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("a reader ended at its start: %w", err)
		}
	}
	for _, c := range children {
		if _, err := c.in.WriteString("\n"); err != nil {
			return nil, err
		}
	}
	var sum Throughput
	for _, c := range children {
		var one Throughput
		line, err := c.out.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &one)
		}
		if err != nil {
			return nil, fmt.Errorf("a reader ended early: %w", err)
		}
		sum.Reads += one.Reads
		sum.Seconds += one.Seconds / float64(o.Readers)
	}
	return &sum, nil
}

// pipes gives the command a standard input and output and returns our ends.
func pipes(cmd *exec.Cmd) (in, out *os.File, err error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		childIn.Close()
		in.Close()
		return nil, nil, err
	}
	cmd.Stdin, cmd.Stdout = childIn, childOut
	return in, out, nil
}

// playReader is one reading process: it says that it is ready, waits for a line, reads for a while and tells how often.
func playReader() error {
	path := os.Args[1]
	d, err := time.ParseDuration(os.Args[2])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	r, err := newReader(path)
	if err != nil {
		return err
	}
	if errno := r.once(); errno != 0 {
		return &os.PathError{Op: "read", Path: path, Err: errno}
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var t Throughput
	begun := time.Now()
	for time.Since(begun) < d {
		if errno := r.once(); errno != 0 {
			return &os.PathError{Op: "read", Path: path, Err: errno}
		}
		t.Reads++
	}
	t.Seconds = seconds(time.Since(begun))
	return json.NewEncoder(os.Stdout).Encode(t)
}
