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
	c := r.announcedAround(paths)
	if c != nil {
		r.callers[key] = c.retain()
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()

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
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err = r.foundIn(domain{paths, ns}, init)
	if err != nil {
		return nil, err
	}
	r.callers[key] = c
	return c.retain(), nil
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

// foundIn is the container of a domain, made when it is not known yet; nil for the root cgroup. It takes init over.
func (r *Registry) foundIn(d domain, init *process) (*Container, error) {
	if d.paths.IsRoot() {
		init.close()
		return nil, nil
	}
	if c := r.found[d]; c != nil {
		if c.alive() {
			init.close()
			return c, nil
		}
		r.drop(d, c)
	}
	if len(r.found) >= maxFound {
		for d, c := range r.found {
			r.drop(d, c)
			break // any one: whoever needs it makes it again
		}
	}
	c, err := r.newContainer(d.paths.String(), d.paths, init)
	if err != nil {
		return nil, err
	}
	r.found[d] = c
	return c, nil
}

// drop takes a found container out of the maps.
func (r *Registry) drop(d domain, c *Container) {
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
	r.lastSlot++
	c := &Container{ID: id, Slot: r.lastSlot, paths: paths, group: group, proc: r.proc, init: init, noSwap: r.opts.NoSwap}
	c.refs.Store(1)
	if init != nil {
		c.start = init.start
	} else {
		c.start = r.oldest(group)
	}
	c.openLedger, c.ledgerName = r.openLedger, ledgerName(group.ID(), c.start)
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
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.foundIn(domain{paths.TrimInit(), r.proc.hostNS}, nil)
	return c.retain(), err
}
