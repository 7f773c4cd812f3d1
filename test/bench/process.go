package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// roleEnv makes this program play a part of the benchmark.
const roleEnv = "SCOPEFS_BENCH_ROLE"

// selfExe is this program in every mount namespace.
const selfExe = "/proc/self/exe"

// The parts.
const (
	roleMain   = "main"   // the benchmark, in a mount namespace of its own
	roleInit   = "init"   // of a container
	roleReader = "reader" // in a container, a child of its init
	roleFloor  = "floor"  // the daemon that serves a constant file
)

func play(role string) int {
	roles := map[string]func() error{roleInit: playInit, roleReader: playReader, roleFloor: playFloor}
	f := roles[role]
	if f == nil {
		fmt.Fprintf(os.Stderr, "bench: %s=%s: no such part\n", roleEnv, role)
		return 2
	}
	if err := f(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", role, err)
		return 1
	}
	return 0
}

// roleCommand is this program playing a part. The preemption of Go's scheduler is by signals, which would interrupt
// reads; args are for the part to find in os.Args.
func roleCommand(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(selfExe, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	if role != roleFloor {
		cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1")
	}
	return cmd
}

// process is one that the benchmark started. It gets a signal when the benchmark dies.
type process struct {
	cmd  *exec.Cmd
	name string
	in   io.WriteCloser
	out  *bufio.Reader
	err  *tailBuffer
	done chan struct{} // closed when it has ended
	fate error         // how, when done is closed
}

// starter is the thread that starts all processes, as the signal comes when the thread ends that started them.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// start starts a process that is killed when ctx ends. gently makes that SIGTERM, as at the benchmark's death, for those
// that clear up themselves.
func start(ctx context.Context, name string, gently bool, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, name: name, err: &tailBuffer{}, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	sig := syscall.SIGKILL
	if gently {
		sig = syscall.SIGTERM
	}
	cmd.SysProcAttr.Pdeathsig = sig
	cmd.SysProcAttr.Setpgid = true // the terminal's SIGINT is for the benchmark alone
	cmd.Stderr = p.err
	cmd.WaitDelay = 5 * time.Second
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(sig) })
	go func() {
		state, err := cmd.Process.Wait()
		if err == nil && !state.Success() {
			err = &exec.ExitError{ProcessState: state}
		}
		stop()
		p.fate = err
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end ends the process with a signal, and with SIGKILL if that takes too long.
func (p *process) end(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = p.in.Close()
}

// failed makes an error of the process's of what it said last.
func (p *process) failed(err error) error {
	if said := p.err.String(); said != "" {
		return fmt.Errorf("%s: %w\n%s", p.name, err, said)
	}
	return fmt.Errorf("%s: %w", p.name, err)
}

// ask sends a question, a line of JSON, and takes the answer into answer.
func (p *process) ask(question, answer any) error {
	if err := p.send(question); err != nil {
		return err
	}
	return p.receive(answer)
}

func (p *process) send(question any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return p.failed(err)
	}
	return nil
}

func (p *process) receive(answer any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return p.failed(err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		return p.failed(fmt.Errorf("%q: %w", line, err))
	}
	return nil
}

// answers takes questions of type Q from standard input until it ends, and answers them.
func answers[Q any](answer func(q Q) (any, error)) error {
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var q Q
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := answer(q)
		if err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// tailBuffer keeps the end of what a process wrote.
type tailBuffer struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4096

// Write implements io.Writer.
func (t *tailBuffer) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	return len(b), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
