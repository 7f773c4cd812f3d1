package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// namePrefix begins the names of all cgroups and directories that the benchmark makes.
const namePrefix = "scopefs-bench-"

// hierarchy is a mounted cgroup hierarchy.
type hierarchy struct {
	dir         string
	v2          bool
	controllers []string
}

// hierarchies are the machine's: one on v2, one for each controller or pair on v1, both kinds on a hybrid machine.
var hierarchies = sync.OnceValue(func() []hierarchy {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var list []hierarchy
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		h := hierarchy{dir: f[1]}
		switch f[2] {
		case "cgroup2":
			h.v2 = true
			text, err := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
			if err != nil {
				continue
			}
			h.controllers = strings.Fields(string(text))
		case "cgroup":
			h.controllers = strings.Split(f[3], ",")
		default:
			continue
		}
		list = append(list, h)
	}
	return list
})

// cgroupLayout is "v1", "v2" or "hybrid".
func cgroupLayout() string {
	var v1, v2 bool
	for _, h := range hierarchies() {
		v1 = v1 || !h.v2
		v2 = v2 || h.v2
	}
	switch {
	case v1 && v2:
		return "hybrid"
	case v2:
		return "v2"
	}
	return "v1"
}

func controllerOf(name string) (hierarchy, bool) {
	for _, h := range hierarchies() {
		if slices.Contains(h.controllers, name) {
			return h, true
		}
	}
	return hierarchy{}, false
}

// group is a cgroup: a directory of the same path in every hierarchy.
type group struct {
	path string
}

// newGroup makes a cgroup without limits, in the parent or in the root. On cgroup v2 the parent can hold no processes
// from then on. It is removed, with the processes in it, at the end.
func (b *bench) newGroup(parent *group) (*group, error) {
	path := fmt.Sprintf("/%s%d", namePrefix, os.Getpid())
	if parent != nil {
		path = parent.path + "/g"
	}
	g := &group{b.unique(path)}
	b.onClose(g.remove)
	for _, h := range hierarchies() {
		dir := h.dir + g.path
		if h.v2 {
			if err := delegate(h, filepath.Dir(dir)); err != nil {
				return nil, err
			}
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		if h.v2 || !slices.Contains(h.controllers, "cpuset") {
			continue
		}
		// A new cpuset of v1 is empty and takes no tasks.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(filepath.Join(dir, file), text, 0); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

// delegate switches the controllers on for the children of a v2 cgroup.
func delegate(h hierarchy, dir string) error {
	var on []string
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "io"} {
		if slices.Contains(h.controllers, c) {
			on = append(on, "+"+c)
		}
	}
	if len(on) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(on, " ")), 0)
}

// dirs are the group's directories in all hierarchies.
func (g *group) dirs() []string {
	var list []string
	for _, h := range hierarchies() {
		list = append(list, h.dir+g.path)
	}
	return list
}

// limitMemory limits the memory, where a controller for it exists.
func (g *group) limitMemory(bytes int64) error {
	h, ok := controllerOf("memory")
	if !ok {
		return nil
	}
	file := "memory.limit_in_bytes"
	if h.v2 {
		file = "memory.max"
	}
	return os.WriteFile(h.dir+g.path+"/"+file, []byte(strconv.FormatInt(bytes, 10)), 0)
}

// remove kills what still runs in the group and removes it.
func (g *group) remove() {
	for _, dir := range g.dirs() {
		if err := removeGroup(dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}

func removeGroup(dir string) error {
	var err error
	for range 200 {
		if err = syscall.Rmdir(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		procs, _ := os.ReadFile(dir + "/cgroup.procs")
		for pid := range strings.FieldsSeq(string(procs)) {
			if n, err := strconv.Atoi(pid); err == nil && n > 1 && n != os.Getpid() {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return &os.PathError{Op: "rmdir", Path: dir, Err: err}
}

// removeGroups removes a cgroup directory and those below it.
func removeGroups(dir string) {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		if err := removeGroup(dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}

// join moves this process into cgroups.
func join(dirs []string) error {
	for _, dir := range dirs {
		// "0" is the writer, in whatever pid namespace. The kernel refuses a process of which it is just making a thread, as
		// Go's runtime may any time (cpu_cgroup_can_attach, kernel/sched/core.c).
		err := os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0)
		for try := 0; errors.Is(err, syscall.EINVAL) && try < 100; try++ {
			time.Sleep(time.Millisecond)
			err = os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
