package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandEnv makes the test binary the benchmark.
const commandEnv = "SCOPEFS_BENCH_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" || os.Getenv(commandEnv) != "" {
		os.Exit(command(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// smoke is the benchmark as a command that is yet to be started.
func smoke(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it makes containers and mounts, so it needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	scopefs := os.Getenv("SCOPEFS_BIN")
	if scopefs == "" && os.Getenv("SCOPEFS_VM") != "" {
		scopefs = "scopefs" // in PATH
		if path, err := exec.LookPath(scopefs); err == nil {
			scopefs = path
		}
	} else if scopefs == "" {
		scopefs = filepath.Join(t.TempDir(), "scopefs")
		build := exec.Command("go", "build", "-o", scopefs, "../../cmd/scopefs")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	cmd := exec.Command(os.Args[0], append([]string{"-smoke", "-scopefs", scopefs}, args...)...)
	cmd.Env = append(os.Environ(), commandEnv+"=1")
	return cmd
}

// left is what there is on the machine of the benchmark that has or had this pid.
func left(t *testing.T, pid int) []string {
	t.Helper()
	name := fmt.Sprintf("%s%d-", namePrefix, pid)
	patterns := []string{filepath.Join(stateDir(), name+"*")}
	for _, h := range hierarchies() {
		patterns = append(patterns, filepath.Join(h.dir, name+"*"))
	}
	var list []string
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, paths...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			list = append(list, line)
		}
	}
	return list
}

// TestSmoke runs all sections.
func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	path, page := filepath.Join(dir, "r.json"), filepath.Join(dir, "performance.md")
	cmd := smoke(t, "-json", path, "-markdown", page)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if l := left(t, cmd.Process.Pid); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
	r, err := readResult(path)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Smoke {
		t.Error("its numbers do not say that they mean nothing")
	}
	for _, s := range sections {
		if !r.has(s.name) {
			t.Errorf("nothing was measured in section %s", s.name)
		}
	}
	for _, m := range r.Measurements {
		if len(m.Rounds) == 0 {
			t.Errorf("no rounds: %+v", m)
		}
	}
	for _, v := range []string{kernel, floor, own, compat} {
		for _, placement := range placements {
			for _, f := range mainFiles {
				p := Params{"file": f.name, "variant": v, "placement": placement}
				if us, ok := r.value("latency", "p50", p); !ok || us <= 0 {
					t.Errorf("p50 of %v: %v, %v", p, us, ok)
				}
			}
		}
		if v == kernel {
			continue
		}
		// No way around four messages: an open, two reads, a close. Each is read from the device and answered.
		for _, with := range r.values("syscalls", "with") {
			if n, ok := r.value("syscalls", "calls", Params{"file": "meminfo", "variant": v, "with": with}); !ok || n < 7 {
				t.Errorf("system calls for a read of %s: %v, %v", v, n, ok)
			}
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "(Not measured in this run.)") {
		t.Error("the page lacks a section")
	}
}

// TestInterrupt ends the benchmark while it measures.
func TestInterrupt(t *testing.T) {
	cmd := smoke(t, "-only", "latency")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for len(left(t, cmd.Process.Pid)) < 2 { // until it has made its directory and a cgroup
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, out.String())
		case <-deadline:
			_ = cmd.Process.Kill()
			t.Fatal("it makes nothing")
		case <-time.After(time.Millisecond):
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	select {
	case err := <-ended:
		// A fast machine may have been ready.
		if err != nil && !strings.Contains(out.String(), "interrupted") {
			t.Errorf("%v\n%s", err, out.String())
		}
	case <-deadline:
		_ = cmd.Process.Kill()
		t.Fatalf("it does not end on SIGINT\n%s", out.String())
	}
	if l := left(t, cmd.Process.Pid); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

// TestCounters counts the system calls of cat, which makes two for each line.
func TestCounters(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("counting another process's system calls needs root")
	}
	b := &bench{dir: t.TempDir(), names: map[string]int{}, ctx: t.Context()}
	id, err := b.tracepoint("raw_syscalls/sys_enter")
	if err != nil {
		t.Log("without the tracepoint: ", err)
	}
	for _, c := range []struct {
		name    string
		without error
		during  func(p *process, f func() error) (uint64, error)
	}{
		{"perf_event_open", err, func(p *process, f func() error) (uint64, error) { return countEvents(p, id, f) }},
		{"strace", func() error { _, err := exec.LookPath("strace"); return err }(), b.strace},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.without != nil {
				t.Skip(c.without)
			}
			cat, err := start(t.Context(), "cat", false, exec.Command("cat"))
			if err != nil {
				t.Fatal(err)
			}
			defer cat.end(syscall.SIGKILL)
			const lines = 50
			echo := func() error {
				for range lines {
					var line string
					if err := cat.ask("line", &line); err != nil || line != "line" {
						return fmt.Errorf("%q: %w", line, err)
					}
				}
				return nil
			}
			if err := echo(); err != nil {
				t.Fatal(err)
			}
			n, err := c.during(cat, echo)
			if err != nil {
				t.Fatal(err)
			}
			// The read that waited for the first line may count or not, and so may its restart under strace.
			if n < 2*lines-1 || n > 2*lines+3 {
				t.Errorf("%d system calls for %d lines", n, lines)
			}
		})
	}
}
