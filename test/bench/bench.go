package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run. Sections use it from one goroutine at a time, but for the methods that say otherwise.
type bench struct {
	ctx     context.Context
	options options
	result  *Result
	section string // that runs
	dir     string // for the files of this run
	begun   time.Time

	cleanup struct {
		sync.Mutex
		steps []func()
	}
	names map[string]int // how often unique was asked for each
	st    *stand
}

func newBench(ctx context.Context, o options, result *Result) (*bench, error) {
	b := &bench{ctx: ctx, options: o, result: result, begun: time.Now(), names: map[string]int{}}
	removeLeft()
	var err error
	if b.dir, err = os.MkdirTemp(stateDir(), fmt.Sprintf("%s%d-", namePrefix, os.Getpid())); err != nil {
		return nil, err
	}
	b.onClose(func() { _ = os.RemoveAll(b.dir) })
	// What daemons keep of containers there is memory, as in /run of any distribution.
	if err := unix.Mount("bench", b.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		b.close()
		return nil, fmt.Errorf("mounting a tmpfs on %s: %w", b.dir, err)
	}
	b.onClose(func() { _ = unix.Unmount(b.dir, unix.MNT_DETACH) })
	if err := result.Machine.look(b); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// stateDir is where the directory of a run is made: where daemons keep their state in life, too.
func stateDir() string {
	if _, err := os.Stat("/run"); err != nil {
		return os.TempDir()
	}
	return "/run"
}

// removeLeft removes what a run left that was killed. Its mounts went with it.
func removeLeft() {
	for _, h := range append(hierarchies(), hierarchy{dir: stateDir()}) {
		paths, _ := filepath.Glob(filepath.Join(h.dir, namePrefix+"*"))
		for _, path := range paths {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namePrefix), "-")
			if n, err := strconv.Atoi(pid); err != nil || syscall.Kill(n, 0) == nil {
				continue // not ours, or of a run that lives
			}
			if h.dir == stateDir() {
				_ = os.RemoveAll(path)
			} else {
				removeGroups(path)
			}
		}
	}
}

// onClose adds a step to the clean-up, which takes the last first. It may be called from any goroutine.
func (b *bench) onClose(step func()) {
	b.cleanup.Lock()
	defer b.cleanup.Unlock()
	b.cleanup.steps = append(b.cleanup.steps, step)
}

func (b *bench) close() { b.closeTo(0) }

// mark and closeTo undo what a part of a section has made: defer b.closeTo(b.mark()).
func (b *bench) mark() int {
	b.cleanup.Lock()
	defer b.cleanup.Unlock()
	return len(b.cleanup.steps)
}

func (b *bench) closeTo(mark int) {
	for {
		b.cleanup.Lock()
		n := len(b.cleanup.steps)
		if n <= mark {
			b.cleanup.Unlock()
			return
		}
		step := b.cleanup.steps[n-1]
		b.cleanup.steps = b.cleanup.steps[:n-1]
		b.cleanup.Unlock()
		step()
	}
}

// unique is a name that was not given before.
func (b *bench) unique(name string) string {
	b.names[name]++
	return fmt.Sprintf("%s-%d", name, b.names[name])
}

// subdir makes a directory for the files of this run.
func (b *bench) subdir(name string) (string, error) {
	dir := filepath.Join(b.dir, b.unique(name))
	return dir, os.Mkdir(dir, 0o755)
}

// pick is the first in a real run and the second in a smoke test.
func pick[T any](b *bench, full, smoke T) T {
	if b.options.smoke {
		return smoke
	}
	return full
}

// record adds a measurement of the section that runs.
func (b *bench) record(m Measurement) {
	m.Section = b.section
	m.Value = median(m.Rounds)
	b.result.Measurements = append(b.result.Measurements, m)
}

// logf tells on standard error what is being done.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs %s\n", time.Since(b.begun).Seconds(), strings.TrimSpace(fmt.Sprintf(format, args...)))
}
