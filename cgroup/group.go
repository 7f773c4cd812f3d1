package cgroup

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// FS opens cgroups. The directories and files that Groups have in common, those of their ancestors above all, are open
// once.
type FS struct {
	hierarchies *Hierarchies
	hugePages   []hugePage

	mu   sync.Mutex
	dirs map[dirKey]*dir
}

// dirKey names a directory: a path below a mount point.
type dirKey struct {
	mount *mount
	rel   string
}

// NewFS returns an FS on hierarchies.
func NewFS(h *Hierarchies) *FS {
	return &FS{hierarchies: h, hugePages: findHugePages(h.root), dirs: map[dirKey]*dir{}}
}

// Hierarchies are where the cgroups are mounted.
func (fs *FS) Hierarchies() *Hierarchies { return fs.hierarchies }

// acquire returns the directory, with a reference that release gives back.
func (fs *FS) acquire(key dirKey) *dir {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d := fs.dirs[key]
	if d == nil {
		d = &dir{key: key, path: key.mount.point + key.rel, fd: -1}
		fs.dirs[key] = d
	}
	d.refs++
	return d
}

// release gives back one reference; the last one closes the directory and its files.
func (fs *FS) release(d *dir) {
	fs.mu.Lock()
	d.refs--
	last := d.refs == 0
	if last {
		delete(fs.dirs, d.key)
	}
	fs.mu.Unlock()
	if last {
		d.close()
	}
}

// Group is one container's cgroup in every hierarchy, with its ancestors. Its files are opened when they are first
// read, and stay open. Any number of goroutines may use a Group, and close it meanwhile: what still runs then ends with
// an error that wraps [os.ErrClosed].
type Group struct {
	fs     *FS
	paths  Paths
	dirs   []*dir
	closed atomic.Bool

	home        *dir // the directory that stands for the whole Group; nil for the root
	homeVersion Version

	memory     memoryFiles
	numa       numaFiles
	hugetlb    []hugetlbFiles
	cpu        cpuFiles
	cpus, mems cpusetFiles
	// pressure holds the places of each file, the best first.
	pressure [Pressures][]pressureFile
	pids     *file // pids.current; nil without one

	io       ioFiles
	slabinfo slabinfoFile
}

// Open returns the Group of p. It fails with [ErrGone] if there is no such cgroup.
func (fs *FS) Open(p Paths) (*Group, error) {
	g := &Group{fs: fs, paths: p}
	if err := g.build(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// build finds the directories and names the files.
func (g *Group) build() error {
	var chains [hierarchies][]level
	var versions [hierarchies]Version
	for h := range hierarchies {
		var err error
		if chains[h], versions[h], err = g.chain(h); err != nil {
			return err
		}
	}

	usage := cpuacct
	if versions[usage] == V0 {
		usage = unified
	}
	for _, h := range append([]hierarchy{usage}, showOrder[:]...) {
		if versions[h] != V0 {
			g.home, g.homeVersion = chains[h][0].dir, versions[h]
			break
		}
	}
	if g.home == nil {
		return nil
	}
	// An earlier Group may have left a directory here that has since been removed and made again.
	if err := g.home.verify(); err != nil {
		return err
	}

	g.memory = newMemoryFiles(chains[memory], versions[memory])
	g.numa = newNUMAFiles(chains[memory], versions[memory])
	g.hugetlb = newHugetlbFiles(chains[hugetlb], versions[hugetlb], g.fs.hugePages)
	g.cpu = newCPUFiles(chains[cpu], versions[cpu], chains[usage], versions[usage])
	g.cpu.setVersion = versions[cpuset]
	g.cpus.levels = newCPUSetFiles(chains[cpuset], versions[cpuset], "cpus")
	g.mems.levels = newCPUSetFiles(chains[cpuset], versions[cpuset], "mems")
	var own []level
	if versions[unified] != V0 {
		own = append(own, chains[unified][0])
	}
	if versions[cpuacct] == V1 {
		own = append(own, chains[cpuacct][0])
	}
	g.pressure = newPressureFiles(own...)
	if versions[pids] != V0 {
		g.pids = chains[pids][0].dir.file("pids.current")
	}
	g.io = newIOFiles(chains[blkio], versions[blkio])
	if versions[memory] == V1 {
		g.slabinfo.file = chains[memory][0].dir.file("memory.kmem.slabinfo")
	}
	return nil
}

// level is one cgroup on the way from a Group to the root of a hierarchy.
type level struct {
	path string // as in /proc/PID/cgroup
	dir  *dir
}

// chain acquires the levels of a Group in the hierarchy of a controller, its own first. The hierarchy's root is not one
// of them, and neither is what lies above the mount's root.
func (g *Group) chain(h hierarchy) ([]level, Version, error) {
	m, at, version := g.fs.hierarchies.locate(h, &g.paths)
	if m == nil {
		return nil, V0, nil
	}
	var levels []level
	for ; at != ""; at = at[:max(strings.LastIndexByte(at, '/'), 0)] {
		rel, ok := m.rel(at)
		if !ok {
			break
		}
		levels = append(levels, level{path: at, dir: g.dir(dirKey{m, rel})})
	}
	if len(levels) == 0 {
		return nil, V0, fmt.Errorf("cgroup: %s lies outside of what is mounted at %s", g.paths, m.point)
	}
	return levels, version, nil
}

// dir returns a directory of the Group, which holds one reference to each.
func (g *Group) dir(key dirKey) *dir {
	for _, d := range g.dirs {
		if d.key == key {
			return d
		}
	}
	d := g.fs.acquire(key)
	g.dirs = append(g.dirs, d)
	return d
}

// Close lets go of the directories and files that no other Group uses.
func (g *Group) Close() {
	if g.closed.Swap(true) {
		return
	}
	for _, d := range g.dirs {
		g.fs.release(d)
	}
}

// check fails once the Group is closed, also where another Group keeps its files open.
func (g *Group) check() error {
	if g.closed.Load() {
		return fmt.Errorf("cgroup: %s: %w", g.paths, os.ErrClosed)
	}
	return nil
}

// ID identifies this incarnation of the cgroup: the inode number of its directory, that of the CPU usage where there is
// one. A read that finds the cgroup removed and made again at its path goes on with the new one, and changes the ID.
// The root's is 0.
func (g *Group) ID() uint64 {
	if g.home == nil {
		return 0
	}
	return g.home.ino.Load()
}

// Dir is the directory that ID is the inode number of; "" for the root.
func (g *Group) Dir() string {
	if g.home == nil {
		return ""
	}
	return g.home.path
}

// Alive says that the cgroup which ID names is still there. It costs one stat(2).
func (g *Group) Alive() bool { return g.home == nil || g.home.exists() }

// TaskCount is the number of threads in the cgroup and below it: pids.current. ok is false without the pids controller.
func (g *Group) TaskCount() (n uint64, ok bool) {
	if g.pids == nil || g.check() != nil {
		return 0, false
	}
	s := getScratch()
	defer s.put()
	n, ok, _ = parse(g.pids, s, parseNumber)
	return n, ok
}
