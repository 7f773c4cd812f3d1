package container

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/policy"
)

// ErrUnknownCaller says that a reader's process cannot be seen from here.
var ErrUnknownCaller = errors.New("the reader's process is not visible")

// Resolve finds the container that the shared tree shows to the task that makes a request; nil without an error is the
// machine itself. The container is the caller's to Release.
//
// The kernel keeps a task while it waits for its request, so that tid cannot be somebody else's meanwhile.
func (r *Registry) Resolve(tid int) (*Container, error) {
	c, err := r.resolve(tid, 0)
	if c != nil && c.init == nil && c.of == 0 && !c.limited(r.online) {
		c.Release() // a process of the host that nothing limits, now
		return nil, nil
	}
	return c, err
}

// ResolveIn finds the container that the own tree of the announced container in slot shows to a task: that container,
// unless its policy's Reader says otherwise; nil if none is announced in slot. A task that cannot be seen is shown that
// container too. The result is the caller's to Release.
func (r *Registry) ResolveIn(slot uint64, tid int) *Container {
	c := r.BySlot(slot)
	if c == nil {
		return nil
	}
	switch c.Policy().Reader {
	case policy.Parent:
		return r.inPlaceOf(c, c.paths)
	case policy.Caller:
		if shown, err := r.resolve(tid, slot); err == nil && shown != nil {
			c.Release()
			return shown
		}
	}
	return c
}

// resolve is the container that a task is shown in the own tree of a slot, or, with 0, in the shared tree, where it may
// also be a process of the host.
func (r *Registry) resolve(tid int, within uint64) (*Container, error) {
	if tid <= 0 {
		return nil, ErrUnknownCaller
	}
	var buf [cgroupTextSize]byte
	text, err := r.cgroupText(tid, buf[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownCaller, err)
	}
	ns, err := r.proc.pidNS(tid)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownCaller, err)
	}
	r.mu.RLock()
	c, known := r.callers[caller{string(text), ns, within}]
	c.retain()
	r.mu.RUnlock()
	if known && (c == nil || c.announced || c.current()) {
		return c, nil
	}
	c.Release()
	return r.find(tid, string(text), ns, within) // a copy, so that buf need not be on the heap
}

// find applies the rules of docs/views.md, "Who is the reader", and remembers the result.
func (r *Registry) find(tid int, text string, ns, within uint64) (*Container, error) {
	paths, err := cgroup.ParsePaths([]byte(text))
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	changes, reader := r.changes, r.policy.Reader
	c := r.bySlot[within]
	if within == 0 {
		c = r.announcedAround(paths)
	}
	c.retain()
	r.mu.RUnlock()
	if c != nil {
		c = r.inPlaceOf(c, paths)
	} else if c, err = r.unannounced(tid, paths, ns, reader); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Only what is in the maps is dropped from callers when it ends, and who was announced meanwhile comes first.
	if changes == r.changes && (c == nil || r.bySlot[c.Slot] == c || r.found[c.domain()] == c) {
		r.remember(caller{text, ns, within}, c)
	}
	return c, nil
}

// unannounced is the container of a task that is in no announced one; nil in the root cgroup.
func (r *Registry) unannounced(tid int, paths cgroup.Paths, ns uint64, reader policy.Reader) (*Container, error) {
	var init *process
	own := paths
	if ns != r.proc.hostNS {
		var err error
		init, err = r.proc.initOf(tid, func(visit func(int) error) error { return r.procsOf(paths, visit) })
		if err != nil {
			slog.Debug("no init found for a reader", "task", tid, "err", err)
		} else if around, err := r.pathsOf(init.pid); err == nil {
			if around = around.TrimInit(); !around.IsRoot() && around.Contains(paths) {
				own = around
			}
		}
	}
	d := domain{paths: shown(reader, own, paths), pidNS: ns}
	return r.foundIn(d, init, d.paths == own)
}

// inPlaceOf is the container that is shown to a task, which is in the cgroups at caller, in the place of an announced one.
// That one it takes over; the result is the caller's to Release.
func (r *Registry) inPlaceOf(c *Container, caller cgroup.Paths) *Container {
	paths := shown(c.Policy().Reader, c.paths, caller)
	if paths == c.paths {
		return c
	}
	other, err := r.foundIn(domain{paths, c.pidNS, c.Slot}, nil, false)
	if err != nil {
		slog.Debug("showing the container itself", "id", c.ID, "instead", paths.String(), "err", err)
		return c
	}
	c.Release()
	return other
}

// shown is whose cgroups a task in caller is shown, of a container in the cgroups at own. A task that entered from outside
// is shown the container.
func shown(reader policy.Reader, own, caller cgroup.Paths) cgroup.Paths {
	switch reader {
	case policy.Parent:
		return own.Parent()
	case policy.Caller:
		if caller = caller.TrimInit(); own.Contains(caller) {
			return caller
		}
	}
	return own
}

// remember keeps what a look-up found. A container that makes cgroups without end only makes look-ups slower.
func (r *Registry) remember(key caller, c *Container) {
	if len(r.callers) >= 4*maxFound {
		clear(r.callers)
	}
	r.callers[key] = c
}

// announcedAround is the announced container whose cgroup is the longest prefix of paths.
func (r *Registry) announcedAround(paths cgroup.Paths) *Container {
	var best *Container
	for _, c := range r.byID {
		if c.paths.Contains(paths) && (best == nil || c.paths.Depth() > best.paths.Depth()) {
			best = c
		}
	}
	return best
}

// Why a container cannot be shown in the place of an announced one.
var (
	errForgotten = errors.New("the container is not announced any more")
	errTooMany   = fmt.Errorf("%d cgroups are shown in the place of the container already", maxInPlace)
)

// maxInPlace bounds the cgroups that are shown in the place of one container: each keeps descriptors of its files here, and a
// container that may make cgroups could use up those of all.
const maxInPlace = 256

// foundIn is the container of a domain, made when it is not known yet; nil for the root cgroup. It takes init over, with
// which the container ends and, if sinceInit, starts. The container is the caller's to Release.
func (r *Registry) foundIn(d domain, init *process, sinceInit bool) (*Container, error) {
	if d.paths.IsRoot() {
		init.close()
		return nil, nil
	}
	r.mu.RLock()
	known := r.found[d].retain()
	r.mu.RUnlock()
	if known != nil && known.alive() {
		init.close()
		return known, nil
	}
	defer known.Release()
	// Made outside of the lock: this looks at files and processes.
	c, err := r.newContainer(d.paths.String(), d.paths, init, sinceInit)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.found[d]; now != nil && now != known {
		c.Release() // another reader was faster
		return now.retain(), nil
	}
	c.pidNS, c.of = d.pidNS, d.of
	if d.of != 0 {
		of := r.bySlot[d.of]
		if of == nil {
			c.Release()
			return nil, errForgotten
		}
		if known == nil && r.inPlace(d.of) >= maxInPlace {
			c.Release()
			return nil, errTooMany
		}
		// Its policy may be another than that of others who are shown this cgroup, so its counters are its own.
		c.ledgerName += "-" + of.ID
		c.owner, c.openFiles = of.paths, of.openFiles
	}
	r.setPolicy(c, nil)
	r.drop(d)
	if len(r.found) >= maxFound {
		for d := range r.found {
			r.drop(d)
			break // any one: whoever needs it makes it again
		}
	}
	r.found[d] = c
	return c.retain(), nil
}

// inPlace counts the containers that are shown in the place of the one in slot.
func (r *Registry) inPlace(slot uint64) (n int) {
	for d := range r.found {
		if d.of == slot {
			n++
		}
	}
	return n
}

// drop forgets the container of a domain, if there is one.
func (r *Registry) drop(d domain) {
	c := r.found[d]
	if c == nil {
		return
	}
	delete(r.found, d)
	for k, v := range r.callers {
		if v == c {
			delete(r.callers, k)
		}
	}
	r.discard(c)
}

// newContainer makes a container in the next slot; setPolicy completes it. It takes init over, and closes it on an error.
// The container starts with its init, or, without one or if it is a view of other cgroups, with its oldest process.
func (r *Registry) newContainer(id string, paths cgroup.Paths, init *process, sinceInit bool) (*Container, error) {
	group, err := r.cg.Open(paths)
	if err != nil {
		init.close()
		return nil, err
	}
	slot := r.lastSlot.Add(1)
	if slot > MaxSlot {
		group.Close()
		init.close()
		return nil, errors.New("every slot for a container was used")
	}
	c := &Container{ID: id, Slot: slot, paths: paths, owner: paths, group: group, cgroupID: group.ID(), proc: r.proc, init: init, openFiles: new(atomic.Int32)}
	c.refs.Store(1)
	if init != nil && sinceInit {
		c.start = init.start
	} else {
		c.start = r.oldest(group)
	}
	c.registry, c.ledgerName = r, ledgerName(c.cgroupID, c.start)
	c.seedLoad(boottime())
	return c, nil
}

// oldest is the start of the oldest process of a cgroup.
func (r *Registry) oldest(group *cgroup.Group) (start time.Duration) {
	start = boottime()
	_ = group.Procs(func(pid int) error {
		if st, err := r.proc.stat(pid); err == nil {
			start = min(start, st.start)
		}
		return nil
	})
	return start
}

// AtPath is the container in a cgroup, named by its path below the root of the hierarchies that have it; a path below
// /sys/fs/cgroup is understood too. It is the announced one, if there is one; the start of any other is that of its oldest
// process. Whose cgroup readers are shown in its place does not matter here.
func (r *Registry) AtPath(path string) (*Container, error) {
	paths, err := r.cg.PathsAt(path)
	if err != nil {
		return nil, err
	}
	paths = paths.TrimInit()
	r.mu.RLock()
	announced := r.announcedAround(paths).retain()
	r.mu.RUnlock()
	if announced != nil && announced.paths == paths {
		return announced, nil
	}
	announced.Release()
	return r.foundIn(domain{paths: paths, pidNS: r.proc.hostNS}, nil, false)
}
