package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/control"
	"golang.org/x/sys/unix"
)

// The test binary is scopefs for its children: `<test> init`, and `run` with the options in a variable.
const optionsEnv = "SCOPEFS_TEST_RUN"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "init" {
		if err := Init(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(StatusFailed)
	}
	if text, ok := os.LookupEnv(optionsEnv); ok {
		os.Unsetenv(optionsEnv)
		var o Options
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		o.Private = fakeDaemon
		status, err := Run(o)
		var e *Error
		if errors.As(err, &e) {
			fmt.Fprintln(os.Stderr, "run:", err)
			status = e.Status
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// fakeDaemon is a daemon whose file system is a tmpfs with one file that names the container.
func fakeDaemon(dir string) (*Private, error) {
	mount := filepath.Join(dir, "fs")
	if err := os.Mkdir(mount, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("fake", mount, "tmpfs", 0, ""); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "control.sock")
	root, err := os.OpenRoot(mount) // as the real daemon, it serves a mount that has left the host's table
	if err != nil {
		return nil, err
	}
	s, err := control.Listen(socket, fake{root, mount})
	if err != nil {
		return nil, err
	}
	go s.Serve()
	return &Private{
		Socket: socket,
		Detach: func() error { return unix.Unmount(mount, unix.MNT_DETACH) },
		Stop:   func() { s.Close(); root.Close() },
	}, nil
}

type fake struct {
	root  *os.Root
	mount string
}

// The container's copy of the mount is of the same file system, so what is written after Detach is seen there.
func (f fake) Announce(req control.Request) (control.Response, error) {
	view := filepath.Join("c", req.ID)
	for file, content := range map[string]string{
		"proc/meminfo":                  fmt.Sprintf("MemTotal: %s\n", req.ID),
		"sys/devices/system/cpu/online": "7\n",
	} {
		file = filepath.Join(view, file)
		if err := f.root.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return control.Response{}, err
		}
		if err := f.root.WriteFile(file, []byte(content), 0o444); err != nil {
			return control.Response{}, err
		}
	}
	return control.Response{View: control.View{
		Path: filepath.Join(f.mount, view), Files: []string{"proc/meminfo", "proc/no-such-file", "sys/devices/system/cpu/online"},
	}}, nil
}

func (f fake) Forget(id string) error    { return f.root.RemoveAll(filepath.Join("c", id)) }
func (f fake) List() []control.Container { return nil }
func (f fake) Info() control.Response    { return control.Response{Mount: f.mount} }

// host is a place for runs, which must be empty again when the test ends.
type host struct {
	t      *testing.T
	dir    string
	parent string
}

func newHost(t *testing.T) *host {
	if os.Getuid() != 0 {
		t.Skip("needs root to make containers")
	}
	// Under /run, as the real one: it is a path of length that a socket's name may have.
	dir, err := os.MkdirTemp("/run", "scopefs-test-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t, dir, "/" + filepath.Base(dir)}
	t.Cleanup(func() {
		h.checkEmpty()
		for _, d := range groupDirs(h.parent) {
			if err := unix.Rmdir(d); err != nil && err != unix.ENOENT {
				t.Errorf("rmdir %s: %v", d, err)
			}
		}
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	return h
}

// checkEmpty looks for what a run should have removed.
func (h *host) checkEmpty() {
	h.t.Helper()
	if entries, _ := os.ReadDir(h.dir); len(entries) != 0 {
		h.t.Errorf("left in %s: %v", h.dir, entries)
	}
	if b, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(b, []byte(h.dir)) {
		h.t.Errorf("mounts are left:\n%s", b)
	}
	for _, d := range groupDirs(h.parent) {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if e.IsDir() {
				h.t.Errorf("cgroup left: %s/%s", d, e.Name())
			}
		}
	}
}

func (h *host) command(o Options, args ...string) *exec.Cmd {
	o.Args, o.Dir, o.Parent = args, h.dir, h.parent
	o.TimeNS = o.TimeNS || inTimeNS
	if o.Socket == "" {
		o.Socket = filepath.Join(h.dir, "no.sock")
	}
	text, err := json.Marshal(o)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), optionsEnv+"="+string(text))
	return cmd
}

// run returns what the command printed, stderr included, and its exit status.
func (h *host) run(o Options, args ...string) (string, int) {
	h.t.Helper()
	cmd := h.command(o, args...)
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
}

func (h *host) want(o Options, status int, output string, args ...string) {
	h.t.Helper()
	out, got := h.run(o, args...)
	if got != status || out != output {
		h.t.Errorf("%q: status %d, output %q; want %d, %q", args, got, out, status, output)
	}
}

func TestStatus(t *testing.T) {
	h := newHost(t)
	h.want(Options{}, 0, "", "true")
	h.want(Options{}, 3, "", "sh", "-c", "exit 3")
	h.want(Options{}, 127, "run: nosuchcommand: executable file not found in $PATH", "nosuchcommand")
	h.want(Options{}, 127, "run: /no/such: no such file or directory", "/no/such")
	h.want(Options{}, 126, "run: /etc/passwd: permission denied", "/etc/passwd")
	h.want(Options{Rootfs: "/no/such"}, 125, "run: --rootfs: lstat /no: no such file or directory", "true")
}

func TestView(t *testing.T) {
	h := newHost(t)
	out, status := h.run(Options{}, "sh", "-c", "cat /proc/meminfo /sys/devices/system/cpu/online; hostname; echo $$; ls -d /sys/fs/cgroup/*/. | wc -l; ls "+h.dir+"/*/fs")
	lines := strings.Split(out, "\n")
	if status != 0 || len(lines) != 5 || !strings.HasPrefix(lines[0], "MemTotal: run-") || lines[1] != "7" ||
		"MemTotal: "+lines[2] != lines[0] || lines[3] != "1" || lines[4] == "0" {
		t.Errorf("status %d, output:\n%s", status, out)
	}
}

func TestDescriptors(t *testing.T) {
	h := newHost(t)
	// One that run itself inherited does not reach the command either.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := h.command(Options{}, "sh", "-c", "echo /proc/1/fd/*")
	cmd.ExtraFiles = []*os.File{w, w}
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "/proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2 /proc/1/fd/3" && got != "/proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2" {
		t.Errorf("%s %v", out, err)
	}
}

func TestPipes(t *testing.T) {
	h := newHost(t)
	cmd := h.command(Options{}, "sh", "-c", "tr a-z A-Z; echo problem >&2")
	cmd.Stdin = strings.NewReader("input")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stdout.String() != "INPUT" || stderr.String() != "problem\n" {
		t.Errorf("%v, %q, %q", err, stdout.String(), stderr.String())
	}
}

// started starts a command that prints a line when it is ready.
func (h *host) started(script string) *exec.Cmd {
	h.t.Helper()
	cmd := h.command(Options{}, "sh", "-c", script)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cmd.Process.Kill() })
	return cmd
}

// noticed is how long run takes to notice that the command runs; a guest of test/vm is some ten times slower.
var noticed = func() time.Duration {
	if os.Getenv("SCOPEFS_VM") != "" {
		return 500 * time.Millisecond
	}
	return 20 * time.Millisecond
}()

func TestSignals(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		script string
		sig    syscall.Signal
		status int
	}{
		{"trap 'exit 7' TERM; echo; while :; do sleep 0.05; done", unix.SIGTERM, 7},
		{"trap 'exit 8' USR1; echo; while :; do sleep 0.05; done", unix.SIGUSR1, 8},
		{"trap 'exit 9' WINCH; echo; while :; do sleep 0.05; done", unix.SIGWINCH, 9},
		{"trap 'exit 10' ALRM; echo; while :; do sleep 0.05; done", unix.SIGALRM, 10},
		{"trap 'exit 11' 40; echo; while :; do sleep 0.05; done", 40, 11},
		{"echo; exec sleep 100", unix.SIGALRM, 128 + 14},
		{"echo; exec sleep 100", unix.SIGVTALRM, 128 + 26},
		{"echo; exec sleep 100", unix.SIGABRT, 128 + 6},
		{"echo; exec sleep 100", 35, 128 + 35},
		{"echo; exec sleep 100", 64, 128 + 64},
		{"echo; exec sleep 100", unix.SIGTERM, 128 + 15},
		{"echo; exec sleep 100", unix.SIGINT, 128 + 2},
		{"echo; exec sleep 100", unix.SIGUSR2, 128 + 12},
		{"trap '' HUP; echo; sleep 1; exit 4", unix.SIGHUP, 4},
		{"echo; sleep 1; exit 5", unix.SIGWINCH, 5},
	} {
		cmd := h.started(c.script)
		time.Sleep(noticed)
		cmd.Process.Signal(c.sig)
		late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		cmd.Wait()
		late.Stop()
		if got := cmd.ProcessState.ExitCode(); got != c.status {
			t.Errorf("%s: %v: status %d, want %d", c.script, c.sig, got, c.status)
		}
	}
}

func TestSuspend(t *testing.T) {
	h := newHost(t)
	cmd := h.started("echo; exec sleep 1")
	time.Sleep(noticed)
	cmd.Process.Signal(unix.SIGTSTP)
	time.Sleep(400 * time.Millisecond)
	var ws unix.WaitStatus
	pid, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WNOHANG|unix.WUNTRACED, nil)
	if pid != cmd.Process.Pid || err != nil || !ws.Stopped() {
		t.Errorf("wait4 = %d %v %v, want a stopped process", pid, ws, err)
	}
	cmd.Process.Signal(unix.SIGCONT)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTimeout(t *testing.T) {
	h := newHost(t)
	if exec.Command("timeout", "--version").Run() != nil {
		t.Skip("needs the timeout of coreutils")
	}
	cmd := h.command(Options{}, "sleep", "100")
	cmd.Path, _ = exec.LookPath("timeout")
	cmd.Args = []string{"timeout", "-s", "TERM", "--preserve-status", "0.5", os.Args[0]}
	start := time.Now()
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 128+15 || time.Since(start) > 5*time.Second {
		t.Errorf("status %d after %v", got, time.Since(start))
	}
}

// The command is killed from the host.
func TestKilledCommand(t *testing.T) {
	h := newHost(t)
	cmd := h.started("echo; exec sleep 100")
	for _, d := range groupDirs(h.parent) {
		if entries, _ := os.ReadDir(d); len(entries) > 0 {
			killTree(d)
			break
		}
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 128+9 {
		t.Errorf("status %d", got)
	}
}

func TestKilledRun(t *testing.T) {
	h := newHost(t)
	cmd := h.started("sleep 99 & mkdir -p /sys/fs/cgroup/unified" + h.parent + "/$(hostname)/sub 2>/dev/null; echo; wait")
	cmd.Process.Kill()
	cmd.Wait()
	if entries, _ := os.ReadDir(h.dir); len(entries) != 1 {
		t.Errorf("a killed run leaves %v", entries)
	}
	h.want(Options{}, 0, "", "true")
	h.checkEmpty()
}

func TestConcurrent(t *testing.T) {
	h := newHost(t)
	var cmds []*exec.Cmd
	var outs [10]strings.Builder
	for i := range outs {
		cmd := h.command(Options{Limits: Limits{Memory: int64(20+i) << 20}}, "sh", "-c", "sleep 0.1; cat /proc/meminfo; hostname")
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for i, cmd := range cmds {
		err := cmd.Wait()
		f := strings.Fields(outs[i].String())
		if err != nil || len(f) != 3 || f[1] != f[2] {
			t.Errorf("%v %q", err, outs[i].String())
		}
	}
}

func TestRootfs(t *testing.T) {
	h := newHost(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs a static busybox for a root")
	}
	root := t.TempDir()
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/sh"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{Rootfs: root}
	h.want(o, 0, "7", "sh", "-c", "cat /sys/devices/system/cpu/online")
	h.want(o, 0, "/ bin dev proc sys tmp", "sh", "-c", "echo $PWD $(ls /)")
	h.want(o, 0, "head: standard output: No space left on device\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero", "sh", "-c", "echo x >/dev/null; head -c 3 /dev/urandom >/dev/full; echo $(ls /dev)")
	h.want(o, 127, "run: nosuch: executable file not found in $PATH", "nosuch")
	if out, status := h.run(o, "sh", "-c", "cat /proc/meminfo; grep -c . /proc/mounts; touch /sys/x"); status == 0 || !strings.Contains(out, "MemTotal: run-") || strings.Contains(out, root) {
		t.Errorf("%d %s", status, out)
	}
	if err := os.Remove(filepath.Join(root, "dev")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(root, "dev")); err != nil {
		t.Fatal(err)
	}
	if out, status := h.run(o, "sh", "-c", "ls /dev"); status != 125 || !strings.Contains(out, "mount tmpfs on /dev") {
		t.Errorf("link as /dev: %d %s", status, out)
	}
}

// A running daemon is used, told, and told again at the end.
func TestRunningDaemon(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s, err := control.Listen(filepath.Join(t.TempDir(), "s"), fake{root, dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go s.Serve()
	cmd := h.command(Options{Socket: s.Path()}, "cat", "/proc/meminfo")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "MemTotal: run-") {
		t.Errorf("%v %s", err, out)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "c")); len(entries) != 0 || err != nil {
		t.Errorf("not forgotten: %v %v", entries, err)
	}
}

// Whenever run is killed, the next one removes what it made.
func TestKilledAnyTime(t *testing.T) {
	h := newHost(t)
	for i := range 20 {
		cmd := h.command(Options{}, "sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	h.want(Options{}, 0, "", "true")
}

// A shared mount, which systemd makes of every one, would carry what the host detaches into the container.
func TestSharedMounts(t *testing.T) {
	h := newHost(t)
	if err := unix.Mount("shared", h.dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", h.dir, "", unix.MS_SHARED, ""); err != nil {
		t.Error(err)
	}
	out, status := h.run(Options{}, "cat", "/proc/meminfo")
	if status != 0 || !strings.HasPrefix(out, "MemTotal: run-") {
		t.Errorf("%d %s", status, out)
	}
	if err := unix.Unmount(h.dir, 0); err != nil {
		t.Error(err)
	}
}
