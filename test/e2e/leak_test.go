package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// inventory is what the machine has of the kinds of things that tests make.
type inventory map[string]bool

// takeInventory lists mounts, cgroups, temporary directories and our children.
func takeInventory() (inventory, error) {
	have := inventory{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		have["mount "+strings.TrimSpace(line)] = true
	}
	for _, h := range hierarchies() {
		err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(path, groupPrefix) {
				have["cgroup "+path] = true
			}
			return nil // what goes away meanwhile is not ours
		})
		if err != nil {
			return nil, err
		}
	}
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "scopefs-*"))
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		have["directory "+d] = true
	}
	children, err := children()
	for _, c := range children {
		have[c] = true
	}
	return have, err
}

// left is what there is more of than before, after a moment in which the kernel finishes ending things.
func (before inventory) left() []string {
	var left []string
	for range 20 {
		left = nil
		now, err := takeInventory()
		if err != nil {
			return []string{"nobody knows what: " + err.Error()}
		}
		for thing := range now {
			if !before[thing] && thing != "directory "+base {
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

// children lists our living child processes and reaps the dead ones.
func children() ([]string, error) {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			break
		}
	}
	return childrenOf(os.Getpid())
}

// childrenOf lists the child processes of a process, as "process 4711 (name)".
func childrenOf(pid int) ([]string, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var list []string
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// The name may hold anything, parentheses and blanks too.
		end := strings.LastIndexByte(string(text), ')') + 1
		if f := strings.Fields(string(text[end:])); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			list = append(list, fmt.Sprintf("process %s", text[:end]))
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
