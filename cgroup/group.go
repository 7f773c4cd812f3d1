package cgroup

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FS opens cgroups. The directories and files that Groups have in common, those of their ancestors above all, are open
// once.
type FS struct {
	hierarchies *Hierarchies
	hugePages   []hugePage
	layouts     map[*mount]*layout

	maxAge    atomic.Int64 // of what ancestors say, in ns
	noSLI     atomic.Bool  // the kernel is not one of Alibaba Cloud Linux
	sets      cpuSets
	opened    atomic.Int64 // descriptors that are kept
	maxOpened atomic.Int64
	swept     atomic.Int64 // when room was made last, as scratch.now

	mu   sync.Mutex
	dirs map[dirKey]*dir
}

// dirKey names a directory: the cgroup in the hierarchy of a mount.
type dirKey struct {
	mount  *mount
	cgroup string // as in /proc/PID/cgroup
}

// NewFS returns an FS on hierarchies. It keeps at most half as many files open as RLIMIT_NOFILE allows now; see
// [FS.SetMaxOpen].
func NewFS(h *Hierarchies) *FS {
	fs := &FS{hierarchies: h, hugePages: findHugePages(h.root), layouts: map[*mount]*layout{}, dirs: map[dirKey]*dir{}}
	for _, m := range h.mounts {
		if m != nil && fs.layouts[m] == nil {
			fs.layouts[m] = newLayout(h, m, fs.hugePages)
		}
	}
	fs.maxOpened.Store(openLimit() / 2)
	return fs
}

// Hierarchies are where the cgroups are mounted.
func (fs *FS) Hierarchies() *Hierarchies { return fs.hierarchies }

// SetMaxAge says how old limits and usage of the cgroups above a Group's own may be, for reads from now on. They are read
// once within that time for all Groups below. 0, the default, is to read them each time. What is of a Group's own cgroup
// is always read.
func (fs *FS) SetMaxAge(age time.Duration) { fs.maxAge.Store(int64(age)) }

// acquire returns the directory, with a reference that release gives back. ok is false where it is not below the mount.
func (fs *FS) acquire(key dirKey) (d *dir, ok bool) {
	rel, ok := key.mount.rel(key.cgroup)
	if !ok {
		return nil, false
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.acquireLocked(key, rel), true
}

func (fs *FS) acquireLocked(key dirKey, rel string) *dir {
	d := fs.dirs[key]
	if d == nil {
		l := fs.layouts[key.mount]
		d = &dir{fs: fs, key: key, layout: l, path: key.mount.point + rel, fd: -1, files: make([]file, len(l.names))}
		if above := key.cgroup[:max(strings.LastIndexByte(key.cgroup, '/'), 0)]; above != "" && l.climbs {
			if rel, ok := key.mount.rel(above); ok {
				d.parent = fs.acquireLocked(dirKey{key.mount, above}, rel)
				if d.parent.above == nil && l.shares {
					d.parent.above = &ancestor{}
				}
			}
		}
		fs.dirs[key] = d
	}
	d.refs++
	return d
}

// release gives back one reference; the last one closes the directory and its files.
func (fs *FS) release(d *dir) {
	for d != nil {
		fs.mu.Lock()
		d.refs--
		last := d.refs == 0
		if last {
			delete(fs.dirs, d.key)
		}
		fs.mu.Unlock()
		if !last {
			return
		}
		d.close()
		d = d.parent
	}
}

// Group is one container's cgroup in every hierarchy, with its ancestors. Its files are opened when they are first
// read, and stay open until [FS.CloseIdle] finds them idle. Any number of goroutines may use a Group, and close it
// meanwhile: what still runs then ends with an error that wraps [os.ErrClosed].
type Group struct {
	fs     *FS
	paths  Paths
	own    [hierarchies]*dir // where the Group is for each controller, with one reference each; nil for a root
	usage  *dir              // that counts the CPU time
	home   *dir              // the directory that stands for the whole Group; nil for the root
	closed atomic.Bool

	cpus, mems atomic.Pointer[parsedSet]
	// swappiness is what the file said last, and swappinessUntil until when that is taken to be so, as scratch.now.
	swappiness      atomic.Int32
	swappinessUntil atomic.Int64
	// hugeUnlimited is until when no size of huge pages is taken to be limited, as scratch.now.
	hugeUnlimited atomic.Int64
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

// build finds the directories.
func (g *Group) build() error {
	for h := range hierarchies {
		m, at, _ := g.fs.hierarchies.locate(h, &g.paths)
		if m == nil {
			continue
		}
		d, ok := g.fs.acquire(dirKey{m, at})
		if !ok {
			return fmt.Errorf("cgroup: %s lies outside of what is mounted at %s", g.paths, m.point)
		}
		g.own[h] = d
	}
	if g.usage = g.own[cpuacct]; g.usage == nil {
		g.usage = g.own[unified]
	}
	g.home = g.usage
	for _, h := range showOrder {
		if g.home == nil {
			g.home = g.own[h]
		}
	}
	if g.home == nil {
		return nil
	}
	// An earlier Group may have left a directory here that has since been removed and made again.
	return g.home.verify()
}

// Close lets go of the directories and files that no other Group uses.
func (g *Group) Close() {
	if g.closed.Swap(true) {
		return
	}
	for _, d := range g.own {
		g.fs.release(d)
	}
}

// interfaceVersion is that of a Group's directory for a controller; V0 where there is none.
func (d *dir) interfaceVersion() Version {
	if d == nil {
		return V0
	}
	return d.version
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
	d := g.own[pids]
	if d == nil || g.check() != nil {
		return 0, false
	}
	s := getScratch()
	defer s.put()
	n, ok, _ = d.number(pidsCurrent, s, parseNumber)
	return n, ok
}
