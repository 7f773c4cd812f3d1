package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inventory is what the machine has of the kinds of things that tests make.
type inventory map[string]bool

// takeInventory lists mounts, cgroups and our children.
func takeInventory() (inventory, error) {
	have := inventory{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		// Others may mount things meanwhile: ours are below base, and those of private daemons below /run/scopefs.
		if base != "" && strings.Contains(line, base) || strings.Contains(line, " /run/scopefs/") {
			have["mount "+strings.TrimSpace(line)] = true
		}
	}
	for _, h := range hierarchies() {
		err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(path, fmt.Sprintf("%s%d-", groupPrefix, os.Getpid())) {
				have["cgroup "+path] = true
			}
			return nil // what goes away meanwhile is not ours
		})
		if err != nil {
			return nil, err
		}
	}
	children, err := childrenOf(os.Getpid())
	for _, c := range children {
		have[fmt.Sprintf("process %d (%s), %s", c.pid, c.name, c.state)] = true
	}
	return have, err
}

// left is what there is more of than before, after a moment in which the kernel finishes ending things.
func (before inventory) left() []string {
	var left []string
	for range 20 {
		left = nil
		reapOrphans()
		now, err := takeInventory()
		if err != nil {
			return []string{"nobody knows what: " + err.Error()}
		}
		for thing := range now {
			if !before[thing] {
				left = append(left, thing)
			}
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(timeout(100 * time.Millisecond))
	}
	entries, _ := os.ReadDir(base)
	for _, e := range entries {
		if e.IsDir() && e.Name() != rootfsName {
			left = append(left, "directory "+filepath.Join(base, e.Name()))
		}
	}
	slices.Sort(left)
	return left
}

// started holds the pids of the commands that somebody waits for.
var started struct {
	sync.Mutex
	pids map[int]bool
}

// startChild starts a command that reapOrphans leaves to its waiter.
func startChild(cmd *exec.Cmd) error {
	started.Lock()
	defer started.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	started.pids[cmd.Process.Pid] = true
	return nil
}

// forgetChild ends what startChild began, when the command was waited for.
func forgetChild(cmd *exec.Cmd) {
	started.Lock()
	defer started.Unlock()
	delete(started.pids, cmd.Process.Pid)
}

// adoptOrphans makes the orphans of containers our children, so that what a test leaves behind is found, and reaps them
// when they end: a pid namespace does not end before all that ever entered it are reaped.
func adoptOrphans() error {
	started.pids = map[int]bool{}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the reaper of orphans: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			reapOrphans()
		}
	}()
	return nil
}

func reapOrphans() {
	started.Lock()
	defer started.Unlock()
	children, _ := childrenOf(os.Getpid())
	for _, c := range children {
		if !started.pids[c.pid] && c.state == "Z" {
			_, _ = syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// child is a child process.
type child struct {
	pid         int
	name, state string
}

// childrenOf lists the child processes of a process.
func childrenOf(pid int) ([]child, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var list []child
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// The name may hold anything, parentheses and blanks too.
		begin, end := strings.IndexByte(string(text), '(')+1, strings.LastIndexByte(string(text), ')')
		f := strings.Fields(string(text[end+1:]))
		if len(f) > 1 && f[1] == strconv.Itoa(pid) {
			n, err := strconv.Atoi(strings.TrimSpace(string(text[:begin-1])))
			if err != nil {
				return nil, err
			}
			list = append(list, child{n, string(text[begin:end]), f[0]})
		}
	}
	return list, nil
}

// mountsBelow lists the mount points at and below a directory, the last mounted first.
func mountsBelow(dir string) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[4] == dir || strings.HasPrefix(f[4], dir+"/") {
			list = append(list, f[4])
		}
	}
	slices.Reverse(list)
	return list
}

// isMounted says whether the path is a mount point.
func isMounted(path string) bool {
	return slices.Contains(mountsBelow(path), path)
}
