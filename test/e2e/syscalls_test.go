package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSystemCalls counts what the daemon asks of the kernel for a read of a container's meminfo.
func TestSystemCalls(t *testing.T) {
	if inVM {
		t.Skip("ptrace takes too long in a VM")
	}
	if !has(t, "strace") {
		t.Skip("strace is not installed")
	}
	for _, test := range []struct {
		maxAge string
		calls  int // at most, for each read
	}{
		{"0", 20}, // everything anew; how much that is depends on the hierarchies
		{"1s", 9}, // hardly more than the messages
	} {
		t.Run("max-age "+test.maxAge, func(t *testing.T) { countCalls(t, test.maxAge, test.calls) })
	}
}

func countCalls(t *testing.T, maxAge string, most int) {
	d := startDaemonIn(t, scratch(t), scopefs, "--max-age", maxAge)
	c := startContainer(t, d, smallGroup(t), options{bind: ownTree})
	path := fmt.Sprintf("/proc/%d/root/proc/meminfo", c.pid) // through the bind mount, without a look-up in the mount
	read := func() {
		if _, err := bounded(path, func() (int, error) { return readBare(path) }); err != nil {
			t.Fatal(err)
		}
	}
	read()

	const reads = 200
	calls := traced(t, d.process, func() {
		for range reads {
			read()
		}
	})
	t.Log(calls)
	for _, name := range []string{"read", "write"} { // OPEN, READ, READ at the end and RELEASE
		if n := calls[name]; n < 4*reads || n > 4*reads+reads/2 {
			t.Errorf("%d calls of %s for %d reads, want 4 for each", n, name, reads)
		}
	}
	sum := 0
	for name, n := range calls {
		// Go's scheduler makes these for each millisecond rather than for each read, and strace makes reads long.
		if !slices.Contains([]string{"futex", "nanosleep", "epoll_pwait", "tgkill", "getpid", "rt_sigreturn", "sched_yield", "restart_syscall"}, name) {
			sum += n
		}
	}
	if sum > most*reads+reads/2 {
		t.Errorf("%d system calls for %d reads, want at most %d for each", sum, reads, most)
	}
}

// readBare reads a file by the system calls that it takes, and no others, and returns its length.
func readBare(path string) (size int, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			return size, err
		}
		size += n
	}
}

// traced counts the system calls of a process while f runs.
func traced(t *testing.T, p *process, f func()) map[string]int {
	t.Helper()
	pid := p.cmd.Process.Pid
	summary := filepath.Join(scratch(t), "strace")
	tracer := start(t, time.Minute, exec.Command("strace", "-f", "-c", "-o", summary, "-p", strconv.Itoa(pid)))
	untraced := func() bool {
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		return len(paths) == 0 || slices.ContainsFunc(paths, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(text), "TracerPid:\t0\n")
		})
	}
	for deadline := time.Now().Add(timeout(patience)); untraced(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Skipf("strace cannot trace the daemon: %s", tracer.err.String())
		}
	}
	f()
	_ = syscall.Kill(tracer.cmd.Process.Pid, syscall.SIGINT)
	<-tracer.done
	calls := map[string]int{}
	column := -1
	for line := range strings.Lines(readFile(t, summary)) {
		fields := strings.Fields(line)
		if i := slices.Index(fields, "calls"); i > 0 {
			column = i - 1 // "% time" is two words
		}
		if column < 0 || len(fields) <= column {
			continue
		}
		if n, err := strconv.Atoi(fields[column]); err == nil && fields[len(fields)-1] != "total" {
			calls[fields[len(fields)-1]] += n
		}
	}
	if len(calls) == 0 {
		t.Fatalf("no calls in what strace says:\n%s", readFile(t, summary))
	}
	return calls
}
