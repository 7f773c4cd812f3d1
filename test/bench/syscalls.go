package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runSyscalls counts the daemons' system calls while a file is read, one read after the other.
func runSyscalls(b *bench) error {
	st, err := b.stand()
	if err != nil {
		return err
	}
	count := b.syscallCounter()
	b.logf("counting with %s", count.name)
	rounds, reads := pick(b, 3, 1), pick(b, 1000, 20)
	for _, f := range slices.Concat(mainFiles, moreFiles) {
		for _, v := range st.variants {
			if v.daemon == nil || !v.has(f) {
				continue
			}
			o := latencyOrder{Path: v.path(f), Count: reads, CPUs: allCPUs}
			if _, err := st.latency(o); err != nil {
				return err
			}
			var calls []float64
			for range rounds {
				n, err := count.during(v.daemon.process, func() error {
					_, err := st.latency(o)
					return err
				})
				if err != nil {
					return err
				}
				calls = append(calls, float64(n)/float64(reads))
			}
			p := Params{"file": f.name, "variant": v.name, "with": count.name}
			b.record(Measurement{Name: "calls", Unit: "", Params: p, Rounds: calls})
		}
	}
	return nil
}

// counter counts the system calls that all threads of a process make while f runs.
type counter struct {
	name   string
	during func(p *process, f func() error) (calls uint64, err error)
}

// syscallCounter is the kernel's tracepoint, which costs next to nothing, or strace, which makes each call some 50 times
// slower.
func (b *bench) syscallCounter() counter {
	id, err := b.tracepoint("raw_syscalls/sys_enter")
	if err != nil {
		b.logf("the tracepoint of system calls cannot be used: %v", err)
		return counter{"strace", b.strace}
	}
	return counter{"perf_event_open", func(p *process, f func() error) (uint64, error) { return countEvents(p, id, f) }}
}

// tracepoint is the number that perf_event_open(2) knows a tracepoint by.
func (b *bench) tracepoint(name string) (uint64, error) {
	dir := "/sys/kernel/tracing"
	if _, err := os.Stat(dir + "/events"); err != nil {
		if dir, err = b.subdir("tracing"); err != nil {
			return 0, err
		}
		if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
			return 0, fmt.Errorf("mounting tracefs: %w", err)
		}
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	}
	text, err := os.ReadFile(filepath.Join(dir, "events", name, "id"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// countEvents counts a tracepoint in the threads of a process, and in those that they make.
func countEvents(p *process, id uint64, f func() error) (uint64, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid()))
	if err != nil {
		return 0, err
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Bits: unix.PerfBitInherit}
	attr.Size = uint32(unsafe.Sizeof(attr))
	var events []int
	defer func() {
		for _, fd := range events {
			unix.Close(fd)
		}
	}()
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("perf_event_open: %w", err)
		}
		events = append(events, fd)
	}
	read := func() (sum uint64, err error) {
		for _, fd := range events {
			var n [8]byte
			if _, err := unix.Read(fd, n[:]); err != nil {
				return 0, fmt.Errorf("reading a counter: %w", err)
			}
			sum += binary.NativeEndian.Uint64(n[:])
		}
		return sum, nil
	}
	before, err := read()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := read()
	return after - before, err
}

// strace counts with strace -f -c.
func (b *bench) strace(p *process, f func() error) (uint64, error) {
	path := filepath.Join(b.dir, "strace")
	cmd := exec.Command("strace", "-f", "-c", "-o", path, "-p", strconv.Itoa(p.pid()))
	tracer, err := start(b.ctx, "strace", false, cmd)
	if err != nil {
		return 0, err
	}
	defer tracer.end(syscall.SIGINT)
	if err := traced(p, tracer); err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	tracer.end(syscall.SIGINT)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, tracer.failed(err)
	}
	return parseStrace(string(text))
}

// traced waits until all threads have a tracer.
func traced(p, tracer *process) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-tracer.done:
			return tracer.failed(fmt.Errorf("it ended at its start: %w", tracer.fate))
		default:
		}
		paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pid()))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(paths, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(text), "TracerPid:\t0\n")
		}) {
			return nil
		}
	}
	return tracer.failed(errors.New("it does not attach to all threads"))
}

// parseStrace is the number of calls in the summary of strace -c: the second last column but errors of its total.
func parseStrace(text string) (uint64, error) {
	calls := -1
	in := bufio.NewScanner(strings.NewReader(text))
	for in.Scan() {
		f := strings.Fields(in.Text())
		if i := slices.Index(f, "calls"); i >= 0 {
			// "% time seconds usecs/call calls errors syscall": the first name has a blank in it, and rows have not.
			calls = i - 1
		}
		if len(f) > 0 && f[len(f)-1] == "total" && calls >= 0 && calls < len(f) {
			return strconv.ParseUint(f[calls], 10, 64)
		}
	}
	return 0, fmt.Errorf("no total in what strace says:\n%s", text)
}

func reportSyscalls(r *Result, p *page) {
	const section = "syscalls"
	variants := r.values(section, "variant")
	for _, with := range r.values(section, "with") {
		p.text("For each read, counted with %s:", with)
		t := p.table(append([]string{"file"}, variants...)...)
		for _, f := range r.values(section, "file") {
			row := []string{f}
			for _, v := range variants {
				row = append(row, number(r.value(section, "calls", Params{"file": f, "variant": v, "with": with})))
			}
			t.row(row...)
		}
	}
}

func syscallBudgets(r *Result) []Budget {
	var list []Budget
	for _, with := range r.values("syscalls", "with") {
		for _, v := range []string{own, ownFresh} {
			if calls, ok := r.value("syscalls", "calls", Params{"file": "meminfo", "variant": v, "with": with}); ok {
				list = append(list, budget("system calls per read of meminfo, "+v, calls, 16, ""))
			}
		}
	}
	return list
}
