package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/control"
)

// daemon is a running `scopefs serve` with a mount of its own.
type daemon struct {
	*process
	t                     testing.TB
	dir                   string
	mount, compat, socket string
	// fallbacks says that the test means some readers to be shown the machine's numbers for want of their container's.
	fallbacks bool
	// errors says that the test means the daemon to log some.
	errors bool
}

// running are the daemons that have not ended, to be killed when a reader hangs.
var running struct {
	sync.Mutex
	daemons map[*daemon]bool
}

func killDaemons() {
	running.Lock()
	defer running.Unlock()
	for d := range running.daemons {
		_ = syscall.Kill(d.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// startDaemon starts a daemon for the time of the test.
func startDaemon(t *testing.T) *daemon {
	t.Helper()
	return startDaemonIn(t, scratch(t), scopefs)
}

// startDaemonIn starts a daemon whose files are in dir, which an earlier one may have left.
func startDaemonIn(t *testing.T, dir, program string, flags ...string) *daemon {
	t.Helper()
	return prepareDaemon(t, dir, program, flags...).ready()
}

// ready waits until the daemon serves.
func (d *daemon) ready() *daemon {
	t := d.t
	t.Helper()
	for deadline := time.Now().Add(timeout(patience)); ; time.Sleep(5 * time.Millisecond) {
		_, _, err := control.Ping(t.Context(), d.socket)
		if err == nil {
			return d
		}
		select {
		case <-d.done:
			t.Fatalf("the daemon ended at its start: %v\n%s%s", d.fate, d.out.String(), d.err.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not answer: %v\n%s", err, d.log())
		}
	}
}

// prepareDaemon starts a daemon without waiting for it to serve.
func prepareDaemon(t *testing.T, dir, program string, flags ...string) *daemon {
	t.Helper()
	args := append([]string{"serve", "--mount", filepath.Join(dir, "fs"), "--lxcfs-compat", filepath.Join(dir, "lxcfs")}, flags...)
	d := &daemon{
		t: t, dir: dir,
		mount: filepath.Join(dir, "fs"), compat: filepath.Join(dir, "lxcfs"), socket: filepath.Join(dir, "control.sock"),
	}
	d.process = start(t, 30*time.Minute, exec.Command(program, args...))
	running.Lock()
	if running.daemons == nil {
		running.daemons = map[*daemon]bool{}
	}
	running.daemons[d] = true
	running.Unlock()
	t.Cleanup(d.end)
	return d
}

func (d *daemon) log() string { return d.err.String() }

// stop ends the daemon as an administrator would and checks that it ends well.
func (d *daemon) stop() {
	d.t.Helper()
	_ = syscall.Kill(d.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-d.done:
		if d.fate != nil {
			d.t.Errorf("the daemon ended with %v\n%s", d.fate, d.log())
		}
	case <-time.After(timeout(10 * time.Second)):
		d.t.Errorf("the daemon does not end on SIGTERM\n%s", d.log())
		d.kill()
	}
	running.Lock()
	delete(running.daemons, d)
	running.Unlock()
}

// crash kills the daemon and leaves its dead mount.
func (d *daemon) crash() {
	d.kill()
	running.Lock()
	delete(running.daemons, d)
	running.Unlock()
}

// end is the end of the test: the log may tell of nothing that must not happen.
func (d *daemon) end() {
	d.t.Helper()
	select {
	case <-d.done:
	default:
		d.stop()
	}
	for _, m := range mountsBelow(d.dir) {
		_ = syscall.Unmount(m, syscall.MNT_DETACH) // of a daemon that a test crashed
	}
	log := d.log()
	for _, word := range []string{"panic", "DATA RACE", " ERROR "} {
		if strings.Contains(log, word) && !(d.errors && word == " ERROR ") {
			d.t.Errorf("%q in the daemon's log", word)
		}
	}
	for line := range strings.Lines(log) {
		// Where no cgroup counts pressure, every container is shown the machine's.
		expected := d.fallbacks || !countsPressure() && strings.Contains(line, "file=proc/pressure/")
		if !expected && strings.Contains(line, fallbackMessage) {
			d.t.Errorf("the daemon showed the machine's numbers for want of a container's: %s", line)
		}
	}
	if d.t.Failed() {
		d.t.Logf("the daemon's log:\n%s", tail(log, 100))
	}
}

// fallbackMessage is what a daemon logs of the first fallback of each kind.
const fallbackMessage = "showing the machine's numbers instead of a container's"

// tail is the last n lines.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
