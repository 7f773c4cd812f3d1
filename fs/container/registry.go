package container

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// maxFound bounds the containers that were found by their readers and are kept, whatever a hostile container makes of
// cgroups and pid namespaces.
const maxFound = 8192

// Options say where a Registry looks and what it keeps.
type Options struct {
	// Root is the directory that holds /proc and /sys; "" is the machine's own.
	Root string
	// LedgerDir is where the CPU ledgers survive the process; "" keeps them in memory.
	LedgerDir string
	// ReadOnly looks at the ledgers of another process without writing to them.
	ReadOnly bool
	// Policy is how containers are shown that make no choices of their own, to begin with (see SetPolicy).
	Policy policy.Policy
}

// Registry finds the container of a reader.
type Registry struct {
	opts Options
	host *host.FS
	cg   *cgroup.FS
	proc *procFS

	lastSlot atomic.Uint64
	maxAge   atomic.Int64 // ns, see SetMaxAge
	clock    func() time.Duration

	ledgerRows atomic.Int32 // of each ledger; 0: not known yet

	ledgersMu sync.Mutex
	ledgers   map[string]*ledger // open ones by name: a container may be announced when it has been found already

	// forgotten is told the slots of containers that are known no more, with mu held.
	forgotten func(slot uint64)

	mu sync.RWMutex
	// policy is that of containers without choices of their own.
	policy *policy.Policy
	// changes counts what makes the results of earlier look-ups void: announcements and policies.
	changes uint64
	byID    map[string]*Container // announced
	bySlot  map[uint64]*Container // announced
	found   map[domain]*Container // by their readers, and shown in the place of another
	callers map[caller]*Container // what a reader's cgroup and pid namespace led to
}

// domain is what tells the containers apart that nobody announced.
type domain struct {
	paths cgroup.Paths
	pidNS uint64
	of    uint64 // see Container
}

// domain is the one of a container that was not announced.
func (c *Container) domain() domain { return domain{c.paths, c.pidNS, c.of} }

// caller is what a look-up depends on: the text of /proc/PID/cgroup, the pid namespace, and the slot of the announced
// container in whose own tree the file is, 0 for the shared tree.
type caller struct {
	cgroup string
	pidNS  uint64
	within uint64
}

// Open makes a registry over the machine's (or a fixture's) /proc and cgroup hierarchies.
func Open(hostFS *host.FS, opts Options) (*Registry, error) {
	hier, err := cgroup.Discover(opts.Root)
	if err != nil {
		return nil, err
	}
	proc, err := openProc(opts.Root)
	if err != nil {
		return nil, err
	}
	r := &Registry{
		opts: opts, policy: &opts.Policy, clock: monotonic, host: hostFS, cg: cgroup.NewFS(hier), proc: proc,
		byID: map[string]*Container{}, bySlot: map[uint64]*Container{},
		found: map[domain]*Container{}, callers: map[caller]*Container{}, ledgers: map[string]*ledger{},
	}
	if opts.LedgerDir != "" && !opts.ReadOnly {
		if err := os.MkdirAll(opts.LedgerDir, 0o700); err != nil {
			return nil, fmt.Errorf("making the directory of the CPU ledgers: %w", err)
		}
		if err := sweepLedgers(opts.LedgerDir, inode); err != nil {
			slog.Warn("removing the CPU ledgers of cgroups that are gone", "err", err)
		}
	}
	return r, nil
}

// Run samples the load of the known containers and forgets those whose cgroup is gone, until ctx ends.
func (r *Registry) Run(ctx context.Context) { r.sampleLoads(ctx) }

// OnForget names the function that is told the slot of each container that is forgotten: it ended, or is not announced
// any more. It must not call the registry, nor wait. It is set before the registry is used.
func (r *Registry) OnForget(f func(slot uint64)) { r.forgotten = f }

// Close forgets every container.
func (r *Registry) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byID {
		c.Release()
	}
	for _, c := range r.found {
		c.Release()
	}
	r.byID, r.bySlot, r.found, r.callers = nil, nil, nil, nil
	unix.Close(r.proc.dir)
}

// SetPolicy changes how containers are shown from now on: those without choices of their own, and the others in what they
// do not choose. Whose numbers an open file shows stays what it is.
func (r *Registry) SetPolicy(p policy.Policy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy = &p
	for _, c := range r.byID {
		r.setPolicy(c, c.overrides)
	}
	for _, c := range r.found {
		r.setPolicy(c, nil)
	}
	r.changed()
}

// Policy is how containers are shown that make no choices of their own.
func (r *Registry) Policy() *policy.Policy {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.policy
}

// setPolicy gives a container its policy: the registry's with the overrides, which were checked, or that of the container
// in whose place it is shown.
func (r *Registry) setPolicy(c *Container, overrides policy.Overrides) {
	p := r.policy
	if of := r.bySlot[c.of]; of != nil {
		p = of.Policy()
	} else if len(overrides) > 0 {
		with, _ := p.With(overrides)
		p = &with
	}
	c.overrides = overrides
	c.policy.Store(p)
}

// changed makes every look-up start anew.
func (r *Registry) changed() {
	r.changes++
	clear(r.callers)
}

// Announce makes a container known by name, as the one that process pid is in, with its own choices of how it is shown.
// Announcing it again is no error, and changes these. The container stays the registry's.
func (r *Registry) Announce(id string, pid int, overrides policy.Overrides) (*Container, error) {
	if _, err := (policy.Policy{}).With(overrides); err != nil {
		return nil, fmt.Errorf("the policy of container %s: %w", id, err)
	}
	paths, err := r.pathsOf(pid)
	if err != nil {
		return nil, fmt.Errorf("finding the cgroup of pid %d: %w", pid, err)
	}
	paths = paths.TrimInit()
	if paths.IsRoot() {
		return nil, fmt.Errorf("pid %d is in the root cgroup: a container needs a cgroup of its own", pid)
	}
	ns, err := r.proc.pidNS(pid)
	if err != nil {
		return nil, err
	}
	var init *process
	if ns != r.proc.hostNS {
		init, err = r.proc.initOf(pid, nil)
	} else {
		init, err = r.proc.hold(pid)
	}
	if err != nil {
		return nil, fmt.Errorf("finding the init of container %s: %w", id, err)
	}

	c, err := r.newContainer(id, paths, init, true)
	if err != nil {
		return nil, err
	}
	c.announced, c.pidNS = true, ns
	return r.enter(c, overrides)
}

// enter makes an announced container known, or changes the one that it is already. It takes c over.
func (r *Registry) enter(c *Container, overrides policy.Overrides) (*Container, error) {
	defer c.retain().Release()
	r.mu.Lock()
	if old := r.byID[c.ID]; old != nil {
		if old.paths == c.paths && old.init.pid == c.init.pid && old.init.start == c.init.start {
			defer r.mu.Unlock()
			c.Release()
			r.setPolicy(old, overrides)
			r.passOn(old)
			r.changed()
			return old, nil
		}
		if old.alive() {
			defer r.mu.Unlock()
			c.Release()
			return nil, fmt.Errorf("container %s is announced already, as pid %d in %s", c.ID, old.init.pid, old.paths)
		}
		r.forget(old)
	}
	r.byID[c.ID], r.bySlot[c.Slot] = c, c
	r.setPolicy(c, overrides)
	r.changed() // who was found by another rule may now be in this one
	r.mu.Unlock()
	c.warm()
	return c, nil
}

// passOn gives the policy of a container to those that are shown in its place.
func (r *Registry) passOn(c *Container) {
	for _, shown := range r.found {
		if shown.of == c.Slot {
			r.setPolicy(shown, nil)
		}
	}
}

// Forget drops an announced container.
func (r *Registry) Forget(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.byID[id]
	if c == nil {
		return fmt.Errorf("no container %s is announced", id)
	}
	r.forget(c)
	return nil
}

func (r *Registry) forget(c *Container) {
	delete(r.byID, c.ID)
	delete(r.bySlot, c.Slot)
	for d := range r.found {
		if d.of == c.Slot {
			r.drop(d)
		}
	}
	r.changed()
	r.discard(c)
}

// discard gives up a container that was taken out of the maps. A new daemon could still want the ledger of a living one.
func (r *Registry) discard(c *Container) {
	alive := c.alive()
	// A living one that was only found is made again when it is needed.
	if r.forgotten != nil && (c.announced || !alive || c.of != 0 && r.bySlot[c.of] == nil) {
		r.forgotten(c.Slot)
	}
	if !alive && r.opts.LedgerDir != "" && !r.opts.ReadOnly {
		_ = os.Remove(filepath.Join(r.opts.LedgerDir, c.ledgerName))
	}
	c.Release()
}

// ByID is the announced container of that name, nil if there is none. It is the caller's to Release.
func (r *Registry) ByID(id string) *Container {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id].retain()
}

// BySlot is the announced container in that slot, nil if there is none. It is the caller's to Release.
func (r *Registry) BySlot(slot uint64) *Container {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bySlot[slot].retain()
}

// LastSlot is the newest slot that was given to a container.
func (r *Registry) LastSlot() uint64 { return min(r.lastSlot.Load(), MaxSlot) }

// Announced lists the announced containers by name.
func (r *Registry) Announced() []control.Container {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var list []control.Container
	for _, c := range r.byID {
		list = append(list, control.Container{
			ID: c.ID, PID: c.init.pid, Cgroup: c.paths.String(), Policy: c.Policy().Text(), Overrides: maps.Clone(c.overrides),
		})
	}
	slices.SortFunc(list, func(a, b control.Container) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// pathsOf is where a process stands in the cgroup hierarchies.
func (r *Registry) pathsOf(task int) (cgroup.Paths, error) {
	var buf [cgroupTextSize]byte
	text, err := r.cgroupText(task, buf[:])
	if err != nil {
		return cgroup.Paths{}, err
	}
	return cgroup.ParsePaths(text)
}

// cgroupTextSize holds /proc/PID/cgroup of all but strange processes.
const cgroupTextSize = 2048

// cgroupText is /proc/PID/cgroup, in buf if it fits.
func (r *Registry) cgroupText(task int, buf []byte) ([]byte, error) {
	for {
		text, err := r.proc.read(task, "cgroup", buf)
		if err != nil || len(text) < len(buf) {
			return text, err
		}
		buf = make([]byte, 8*len(buf))
	}
}

// procsOf calls visit with the processes of a cgroup.
func (r *Registry) procsOf(paths cgroup.Paths, visit func(pid int) error) error {
	group, err := r.cg.Open(paths)
	if err != nil {
		return err
	}
	defer group.Close()
	return group.Procs(visit)
}

// online is the number of CPUs that the machine has.
func (r *Registry) online() int {
	var h host.Snapshot
	if err := r.host.Snapshot(host.NeedOnlineCPUs, &h); err != nil {
		return 0
	}
	return len(h.OnlineCPUs)
}

// known appends every container to list, each to be released.
func (r *Registry) known(list []*Container) []*Container {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list = slices.Grow(list, len(r.byID)+len(r.found))
	for _, c := range r.byID {
		list = append(list, c.retain())
	}
	for _, c := range r.found {
		list = append(list, c.retain())
	}
	return list
}

// collect forgets those of the known containers, which it releases, that ended.
func (r *Registry) collect(known []*Container, ended func(*Container) bool) {
	for _, c := range known {
		if ended(c) { // looked at outside of the lock
			r.mu.Lock()
			if c.announced && r.byID[c.ID] == c {
				slog.Info("container ended", "id", c.ID, "cgroup", c.paths.String())
				r.forget(c)
			} else if d := c.domain(); !c.announced && r.found[d] == c {
				r.drop(d)
			}
			r.mu.Unlock()
		}
		c.Release()
	}
}

// openLedger opens the CPU ledger of a container, with a row for every CPU that it may ever see.
func (r *Registry) openLedger(c *Container) (*ledger, error) {
	rows, err := r.rows()
	if err != nil {
		return nil, err
	}
	r.ledgersMu.Lock()
	defer r.ledgersMu.Unlock()
	l := r.ledgers[c.ledgerName]
	if l == nil {
		if l, err = openLedger(r.opts.LedgerDir, c.ledgerName, c.group.Dir(), rows, r.opts.ReadOnly); err != nil {
			return nil, err
		}
		r.ledgers[c.ledgerName] = l
	}
	l.users++
	return l, nil
}

// rows is how many rows a ledger has. The possible CPUs stay the same from boot to boot.
func (r *Registry) rows() (int, error) {
	if rows := r.ledgerRows.Load(); rows > 0 {
		return int(rows), nil
	}
	var h host.Snapshot
	if err := r.host.Snapshot(host.NeedCPULists, &h); err != nil {
		return 0, err
	}
	possible, err := cgroup.ParseCPUList(nil, h.Possible)
	if err != nil {
		return 0, fmt.Errorf("the possible CPUs: %w", err)
	}
	rows := max(len(possible), len(h.OnlineCPUs))
	r.ledgerRows.Store(int32(rows))
	return rows, nil
}

// closeLedger gives up what openLedger returned.
func (r *Registry) closeLedger(c *Container, l *ledger) {
	r.ledgersMu.Lock()
	defer r.ledgersMu.Unlock()
	if l.users--; l.users == 0 {
		delete(r.ledgers, c.ledgerName)
		_ = l.close()
	}
}

// inode is the inode number of a directory.
func inode(dir string) (uint64, bool) {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	return st.Ino, err == nil
}

// boottime is CLOCK_BOOTTIME.
func boottime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // Linux 2.6.39
	return time.Duration(now.Nano())
}
