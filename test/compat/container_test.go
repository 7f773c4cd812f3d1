package compat

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
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/control"
)

const miB = 1 << 20

// patience is what a program may take, the JVM on half a CPU of a busy machine included.
const patience = 2 * time.Minute

// daemon is a running `scopefs serve`.
type daemon struct{ mount, socket string }

func startDaemon(t *testing.T) daemon {
	t.Helper()
	dir := t.TempDir()
	d := daemon{filepath.Join(dir, "fs"), filepath.Join(dir, "control.sock")}
	cmd := exec.Command(scopefs(t), "serve", "--mount", d.mount, "--config", os.DevNull)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the daemon: %v", err)
			}
			if t.Failed() {
				t.Logf("the daemon's log:\n%s", log.String())
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("the daemon does not end: %v\n%s", <-ended, log.String())
		}
	})
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		_, _, err := control.Ping(t.Context(), d.socket)
		if err == nil {
			return d
		}
		if len(ended) > 0 || time.Since(begin) > patience {
			t.Fatalf("the daemon does not serve: %v", err)
		}
	}
}

// limits are a container's.
type limits struct {
	memory int64 // bytes
	cpus   float64
}

func (l limits) String() string { return fmt.Sprintf("%d MiB, %g CPUs", l.memory/miB, l.cpus) }

// container is a running one of runc.
type container struct {
	t      *testing.T
	limits limits
	root   string
	view   string // its own tree, as the host sees it
	// shared is a directory of the host that is /compat in the container.
	shared string
	// binds are the paths below which the view is bound.
	binds []string
	state string
	id    string
}

var lastContainer atomic.Int64

func startContainer(t *testing.T, d daemon, root, shared string, l limits) *container {
	t.Helper()
	c := &container{t: t, limits: l, root: root, shared: shared, id: fmt.Sprintf("scopefs-compat-%d-%d", os.Getpid(), lastContainer.Add(1))}
	c.view = filepath.Join(d.mount, "c", c.id)
	bundle := t.TempDir()
	c.state = filepath.Join(bundle, "state")
	if out, err := exec.Command("runc", "spec", "--bundle", bundle).CombinedOutput(); err != nil {
		t.Fatalf("runc spec: %v\n%s", err, out)
	}
	config := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	process := spec["process"].(object)
	process["terminal"] = false
	process["args"] = []string{"sleep", "100000"}
	spec["root"] = object{"path": root, "readonly": true}
	mounts := spec["mounts"].([]any)
	for _, dir := range []string{"/tmp", "/run"} {
		mounts = append(mounts, object{"destination": dir, "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "nodev"}})
	}
	spec["mounts"] = append(mounts, object{"destination": "/compat", "type": "bind", "source": shared, "options": []string{"bind", "rw"}})
	spec["hooks"] = object{"prestart": []any{object{
		"path": self, "args": []string{"hook", d.socket, root}, "env": []string{roleEnv + "=hook"}, "timeout": int(patience.Seconds()),
	}}}
	linux := spec["linux"].(object)
	linux["cgroupsPath"] = "/" + c.id
	resources := linux["resources"].(object)
	resources["memory"] = object{"limit": l.memory}
	resources["cpu"] = object{"quota": int64(l.cpus * 100000), "period": 100000}
	if text, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(bundle, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	t.Cleanup(func() {
		if out, err := c.runc("delete", "--force", c.id).CombinedOutput(); err != nil {
			t.Errorf("runc delete: %v\n%s", err, out)
		}
	})
	run := c.runc("run", "--detach", "--bundle", bundle, c.id)
	// The container keeps them: pipes would have us wait for its end.
	run.Stdout, run.Stderr = log, log
	if err := run.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("runc run: %v\n%s", err, text)
	}
	// For what is asked through the loopback.
	if _, err := os.Stat(root + "/sbin/ip"); err == nil {
		c.run("exec", "--cap", "CAP_NET_ADMIN", c.id, "ip", "link", "set", "lo", "up")
	}
	for line := range strings.Lines(c.run("exec", c.id, "cat", "/proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		// The pressure files can be the cgroup's own.
		point := strings.Fields(before)[4]
		if strings.HasPrefix(after, "fuse") || strings.HasPrefix(after, "cgroup2 ") && strings.HasPrefix(point, "/proc/") {
			c.binds = append(c.binds, point)
		}
	}
	return c
}

func (c *container) runc(args ...string) *exec.Cmd {
	return c.runcContext(context.Background(), args...)
}

func (c *container) runcContext(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "runc", append([]string{"--root", c.state}, args...)...)
}

// run runs runc to its end and returns what it printed.
func (c *container) run(args ...string) string {
	c.t.Helper()
	var stderr bytes.Buffer
	cmd := c.runc(args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("runc %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// served says whether scopefs shows the path to the container.
func (c *container) served(path string) bool {
	return slices.ContainsFunc(c.binds, func(bind string) bool { return path == bind || strings.HasPrefix(path, bind+"/") })
}

// trace runs a command in the container, and tells what it printed, the files of the kernel that it opened and the system
// calls that tell of the machine.
func (c *container) trace(command string) (output string, reads []string, err error) {
	c.t.Helper()
	file, err := os.CreateTemp(c.shared, "trace-")
	if err != nil {
		return "", nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	run := c.runcContext(ctx, "exec", "--env", "LC_ALL=C.UTF-8", "--env", "TERM=xterm", "--env", "HOME=/tmp",
		"--cap", "CAP_SETUID", "--cap", "CAP_SETGID", c.id, // nginx's workers change their user
		"strace", "-qq", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-e", "signal=none",
		"-e", "trace=openat,?open,sysinfo,sched_getaffinity", "-o", "/compat/"+filepath.Base(file.Name()),
		"sh", "-c", command)
	var stdout, stderr bytes.Buffer
	run.Stdout, run.Stderr = &stdout, &stderr
	run.WaitDelay = time.Second
	err = run.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	if stderr.Len() > 0 {
		err = errors.Join(err, fmt.Errorf("on standard error: %s", stderr.String()))
	}
	return stdout.String(), parseTrace(file), err
}

var (
	opened     = regexp.MustCompile(` = \d+<([^<>]+)>$`)
	systemCall = regexp.MustCompile(`^\d+ +(sysinfo|sched_getaffinity)\(`)
	ofProcess  = regexp.MustCompile(`^/proc/\d+`)
	// What programs look at of each CPU, node or block of memory is folded into one.
	ofOne = regexp.MustCompile(`^(/sys/devices/system/(?:cpu/cpu|node/node|memory/memory))\d+\b.*`)
)

// parseTrace lists what strace wrote down, each once, in the order of its first use.
func parseTrace(r io.Reader) []string {
	var list []string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var what string
		if m := systemCall.FindStringSubmatch(lines.Text()); m != nil {
			what = m[1] + "(2)"
		} else if m := opened.FindStringSubmatch(lines.Text()); m != nil {
			what = fold(m[1])
		}
		if what != "" && !slices.Contains(list, what) {
			list = append(list, what)
		}
	}
	return list
}

// fold makes one name of what differs between CPUs, processes and cgroups, and "" of what tells nothing of the machine's
// or the container's size.
func fold(path string) string {
	switch {
	case ofProcess.MatchString(path):
		if path = ofProcess.ReplaceAllString(path, "/proc/self"); path == "/proc/self/cgroup" {
			return path
		}
		return ""
	case path == "/proc", strings.HasPrefix(path, "/proc/sys/"), strings.HasPrefix(path, "/proc/tty/"), path == "/proc/filesystems":
		return ""
	case strings.HasPrefix(path, "/sys/fs/cgroup/"):
		return "/sys/fs/cgroup/…"
	case strings.HasPrefix(path, "/sys/devices/") && strings.Contains(path, "/block/"):
		return "/sys/block/…"
	case strings.HasPrefix(path, "/sys/devices/system/cpu/vulnerabilities"), strings.HasPrefix(path, "/sys/devices/system/clocksource"):
		return ""
	case strings.HasPrefix(path, "/proc/"), strings.HasPrefix(path, "/sys/devices/system/"):
		return ofOne.ReplaceAllString(path, "${1}N/…")
	}
	return ""
}
