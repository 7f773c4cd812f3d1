package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a command may take that does not say otherwise.
const patience = 20 * time.Second

// process is a started command, the leader of a process group of its own. It does not outlive the test, and a test does
// not hang on it: when its time is over it is killed, and where the kernel keeps it because a daemon owes it an answer,
// the daemons are killed too.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  lockedBuffer
	err  lockedBuffer
	done chan struct{}
	fate error // how it ended, when done is closed
	over bool  // its time was over
}

// start starts a command that is killed after limit, or at the end of the test.
func start(t testing.TB, limit time.Duration, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: strings.Join(cmd.Args, " "), cmd: cmd, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if cmd.Stdout == nil {
		cmd.Stdout, cmd.Stderr = &p.out, &p.err
	}
	// A grandchild that holds the pipes keeps nobody waiting.
	cmd.WaitDelay = timeout(5 * time.Second)
	if cmd.Stdin == nil {
		var err error
		if p.in, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := startChild(cmd); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	go func() {
		p.fate = cmd.Wait()
		forgetChild(cmd)
		close(p.done)
	}()
	watch := time.AfterFunc(timeout(limit), func() {
		p.over = true
		p.kill()
	})
	t.Cleanup(func() {
		watch.Stop()
		p.kill()
	})
	return p
}

// kill ends the process group and returns when it has ended.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	select {
	case <-p.done:
	case <-time.After(timeout(5 * time.Second)):
		p.t.Errorf("%s hangs in the kernel: ending every daemon", p.name)
		killDaemons()
		select {
		case <-p.done:
		case <-time.After(timeout(5 * time.Second)):
			p.t.Errorf("%s hangs in the kernel", p.name)
		}
	}
}

// wait returns when the process has ended, with its standard output; a failure fails the test.
func (p *process) wait() string {
	p.t.Helper()
	out, err := p.result()
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *process) result() (string, error) {
	<-p.done
	if p.over {
		return p.out.String(), fmt.Errorf("%s: took longer than %v\n%s%s", p.name, timeout(patience), p.out.String(), p.err.String())
	}
	if p.fate != nil {
		return p.out.String(), fmt.Errorf("%s: %w\n%s%s", p.name, p.fate, p.out.String(), p.err.String())
	}
	return p.out.String(), nil
}

// expect waits until the process has printed text.
func (p *process) expect(text string) {
	p.t.Helper()
	if err := p.tryExpect(text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) tryExpect(text string) error {
	for deadline := time.Now().Add(timeout(patience)); ; {
		if strings.Contains(p.out.String(), text) {
			return nil
		}
		select {
		case <-p.done:
			if strings.Contains(p.out.String(), text) {
				return nil
			}
			return fmt.Errorf("%s ended before it printed %q: %v\n%s%s", p.name, text, p.fate, p.out.String(), p.err.String())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not print %q:\n%s%s", p.name, text, p.out.String(), p.err.String())
		}
	}
}

// output runs a command of the host to its end and returns what it printed.
func output(t testing.TB, args ...string) string {
	t.Helper()
	return start(t, patience, exec.Command(args[0], args[1:]...)).wait()
}

// need skips the test where a program is missing.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed here", p)
		}
	}
}

// has says whether a program is installed, and logs when it is not.
func has(t testing.TB, program string) bool {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil {
		t.Logf("not checked with %s: it is not installed here", program)
	}
	return err == nil
}

// readFile reads a file that a daemon serves, without hanging on it.
func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := tryReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func tryReadFile(path string) (string, error) {
	return bounded(path, func() (string, error) {
		b, err := os.ReadFile(path)
		return string(b), err
	})
}

// bounded calls a function that touches a served file, and ends the daemons when it does not return.
func bounded[T any](what string, call func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := call()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-time.After(timeout(patience)):
		killDaemons()
		var none T
		return none, errors.New(what + ": no answer")
	}
}

// lockedBuffer is a bytes.Buffer that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fileOf is an os.File of a copy of the descriptor.
func fileOf(fd int) *os.File {
	copied, err := syscall.Dup(fd)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(copied), "handed over")
}

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), timeout(d))
}

func writeExecutable(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
