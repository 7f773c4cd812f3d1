package container

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/scopefs/scopefs/cgroup"
)

// ErrUnknownCaller says that a reader's process cannot be seen from here.
var ErrUnknownCaller = errors.New("the reader's process is not visible")

// Resolve finds the container of the task that makes a request; nil without an error is the machine itself. The
// container is the caller's to Release.
//
// The kernel keeps a task while it waits for its request, so that tid cannot be somebody else's meanwhile.
func (r *Registry) Resolve(tid int) (*Container, error) {
	if tid <= 0 {
		return nil, ErrUnknownCaller
	}
	task := strconv.Itoa(tid)
	var buf [cgroupTextSize]byte
	text, err := r.cgroupText(task, buf[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownCaller, err)
	}
	ns, err := r.proc.pidNS(task)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownCaller, err)
	}
	r.mu.RLock()
	c, known := r.callers[caller{string(text), ns}]
	c.retain()
	r.mu.RUnlock()
	if !known || c != nil && !c.announced && !c.alive() {
		c.Release()
		if c, err = r.find(task, text, ns); err != nil {
			return nil, err
		}
	}
	if c != nil && c.init == nil && !c.limited(r.online()) {
		c.Release() // a process of the host that nothing limits, now
		return nil, nil
	}
	return c, nil
}

// find applies the rules of docs/views.md, "Who is the reader", and remembers the result.
func (r *Registry) find(task string, text []byte, ns uint64) (*Container, error) {
	paths, err := cgroup.ParsePaths(text)
	if err != nil {
		return nil, err
	}
	key := caller{string(text), ns}

	r.mu.Lock()
	c := r.announcedAround(paths).retain()
	if c != nil {
		r.remember(key, c)
	}
	announcements := r.announcements
	r.mu.Unlock()
	if c != nil {
		return c, nil
	}

	var init *process
	if ns != r.proc.hostNS {
		init, err = r.proc.initOf(task, func(visit func(int) error) error { return r.procsOf(paths, visit) })
		if err != nil {
			slog.Debug("no init found for a reader", "task", task, "err", err)
		} else if around, err := r.pathsOf(strconv.Itoa(init.pid)); err == nil {
			if around = around.TrimInit(); !around.IsRoot() && around.Contains(paths) {
				paths = around
			}
		}
	}
	if c, err = r.foundIn(domain{paths, ns}, init); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Only what is in the maps is dropped from callers when it ends, and who was announced meanwhile comes first.
	if (c == nil || r.found[domain{paths, ns}] == c) && announcements == r.announcements {
		r.remember(key, c)
	}
	return c, nil
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

// foundIn is the container of a domain, made when it is not known yet; nil for the root cgroup. It takes init over, and
// the container is the caller's to Release.
func (r *Registry) foundIn(d domain, init *process) (*Container, error) {
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
	c, err := r.newContainer(d.paths.String(), d.paths, init)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.found[d]; now != nil && now != known {
		c.Release() // another reader was faster
		return now.retain(), nil
	}
	c.pidNS = d.pidNS
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

// newContainer makes a container in the next slot. It takes init over, and closes it on an error.
func (r *Registry) newContainer(id string, paths cgroup.Paths, init *process) (*Container, error) {
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
	c := &Container{ID: id, Slot: slot, paths: paths, group: group, proc: r.proc, init: init}
	c.policy.Store(&r.opts.Policy)
	c.refs.Store(1)
	if init != nil {
		c.start = init.start
	} else {
		c.start = r.oldest(group)
	}
	c.registry, c.ledgerName = r, ledgerName(group.ID(), c.start)
	c.seedLoad(r.now())
	return c, nil
}

// oldest is the start of the oldest process of a cgroup.
func (r *Registry) oldest(group *cgroup.Group) (start time.Duration) {
	start = r.now()
	_ = group.Procs(func(pid int) error {
		if st, err := r.proc.stat(strconv.Itoa(pid)); err == nil {
			start = min(start, st.start)
		}
		return nil
	})
	return start
}

// AtPath is the container in a cgroup, named by its path below the root of the hierarchies that have it; a path below
// /sys/fs/cgroup is understood too. Its start is that of its oldest process.
func (r *Registry) AtPath(path string) (*Container, error) {
	paths, err := r.cg.PathsAt(path)
	if err != nil {
		return nil, err
	}
	return r.foundIn(domain{paths.TrimInit(), r.proc.hostNS}, nil)
}
