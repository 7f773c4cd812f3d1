package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the walk below a cgroup. A container that nests deeper only miscounts its own tasks.
const maxDepth = 64

// Tasks calls fn for every thread in the cgroup and below it: v1 tasks | v2 cgroup.threads. Threads that start, end or
// move meanwhile may be missed or told twice. An error of fn ends the walk and is returned. The root has none to tell.
func (g *Group) Tasks(fn func(tid int) error) error {
	return g.walk("tasks", "cgroup.threads", fn)
}

// Procs is Tasks for processes: cgroup.procs.
func (g *Group) Procs(fn func(pid int) error) error {
	return g.walk("cgroup.procs", "cgroup.procs", fn)
}

// walker visits a tree of cgroups.
type walker struct {
	root string // of /proc
	name string // of the file
	fn   func(int) error
}

// stop carries an error of the caller's function through the walk, which shrugs off most others.
type stop struct{ error }

func (g *Group) walk(v1Name, v2Name string, fn func(int) error) error {
	if err := g.check(); err != nil {
		return err
	}
	if g.home == nil {
		return nil
	}
	fd, err := g.home.openList()
	if err != nil {
		return fmt.Errorf("cgroup: walk %s: %w", g.home.path, err)
	}
	w := walker{root: g.fs.hierarchies.root, name: v1Name, fn: fn}
	if g.home.version == V2 {
		w.name = v2Name
	}
	err = w.visit(fd, maxDepth)
	var stopped stop
	switch {
	case errors.As(err, &stopped):
		return stopped.error
	case err != nil:
		return fmt.Errorf("cgroup: walk %s: %w", g.home.path, err)
	}
	return nil
}

// visit tells the tasks of the directory fd, which it closes, and of those below.
func (w *walker) visit(fd, depth int) error {
	d := os.NewFile(uintptr(fd), "cgroup")
	defer d.Close()
	if err := w.list(fd); err != nil {
		return err
	}
	if depth == 0 {
		return nil
	}
	entries, err := d.ReadDir(-1)
	if err != nil && !isAbsent(err) {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		child, err := openat(fd, e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if isAbsent(err) {
			continue // removed since
		}
		if err == nil {
			err = w.visit(child, depth-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list tells the tasks of one cgroup.
func (w *walker) list(dir int) error {
	err := w.readIDs(dir, w.name, w.fn)
	if w.name == "cgroup.threads" && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT)) {
		err = w.readIDs(dir, "cgroup.procs", w.threads)
	}
	// The processes of a threaded cgroup are those of the domain above it, and told there.
	if isAbsent(err) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// threads tells the threads of one process, for a cgroup that cannot list them itself.
func (w *walker) threads(pid int) error {
	entries, err := os.ReadDir(w.root + "/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return nil // ended since
	}
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			if err := w.fn(tid); err != nil {
				return err
			}
		}
	}
	return nil
}

// readIDs calls fn for each number in a file. 0 is a process of another pid namespace that has no number in ours.
func (w *walker) readIDs(dir int, name string, fn func(int) error) error {
	fd, err := openat(dir, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		id, ok := parseUint(bytes.TrimSpace(line))
		if !ok || id == 0 || id > math.MaxInt32 {
			continue
		}
		err := fn(int(id))
		if err != nil && !errors.As(err, new(stop)) {
			err = stop{err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
