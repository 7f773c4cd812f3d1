package tree

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopefs/scopefs/cgroup"
)

// turns keeps containers apart that read one inode through the kernel's page cache (see pages), as where the host bound it
// for all of them, or where the cgroups in a container are shown each its own (policy.Caller): what one read there the
// other would get. The kernel empties the cache at every open, so containers are let in one after the other: an open
// waits while handles of another may still read there.
//
// An inode takes turns from the first read through the page cache on, until it has seen none for a while. A handle's
// turn ends when it is closed, when it turns out to be read with read(2), or after turnFor.
type turns struct {
	taken atomic.Bool // an inode takes turns: what all others need not lock for

	mu      sync.Mutex
	inodes  map[node]*turn
	pruned  time.Time
	waiting map[cgroup.Paths]int // opens, by whose they are
}

// maxWaiting bounds the opens of one container that wait: each keeps one of the server's readers, of which it has 256 for
// all. An open beyond it is let in at once.
const maxWaiting = 16

// turnFor bounds what a descriptor that is kept open costs others, and ownTurnFor what it costs them in one container's own
// tree, where nobody else is kept waiting.
const (
	turnFor    = 100 * time.Millisecond
	ownTurnFor = time.Second
)

type turn struct {
	limit   time.Duration
	slot    uint64                // of the container that reads, 0 for the machine
	readers map[*handle]time.Time // nil: there are none
	used    time.Time             // the last read through the page cache
	changed chan struct{}         // closed when a reader ends; nil: nobody waits for that
}

// wait lets a new handle in.
func (t *turns) wait(h *handle) {
	if !t.taken.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var timeout <-chan time.Time
	for {
		i := t.inodes[h.node]
		if i == nil {
			return
		}
		if timeout == nil {
			timeout = time.After(i.limit)
		}
		if time.Since(i.used) > forgetAfter {
			delete(t.inodes, h.node)
			t.taken.Store(len(t.inodes) > 0)
			return
		}
		if i.slot == h.slot() || !i.busy() {
			i.slot = h.slot()
			i.enter(h)
			return
		}
		owner := h.owner()
		if t.waiting[owner] >= maxWaiting {
			return
		}
		if t.waiting == nil {
			t.waiting = map[cgroup.Paths]int{}
		}
		t.waiting[owner]++
		if i.changed == nil {
			i.changed = make(chan struct{})
		}
		changed := i.changed
		t.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-timeout:
			over = true
		}
		t.mu.Lock()
		if t.waiting[owner]--; t.waiting[owner] == 0 {
			delete(t.waiting, owner)
		}
		if over {
			return // it may read what another one left, but it reads
		}
	}
}

func (i *turn) enter(h *handle) {
	if i.readers == nil {
		i.readers = map[*handle]time.Time{}
	}
	i.readers[h] = time.Now()
	h.inTurn.Store(true)
}

// busy says whether a handle may still read through the page cache.
func (i *turn) busy() bool {
	for h, since := range i.readers {
		if time.Since(since) < i.limit {
			return true
		}
		delete(i.readers, h)
	}
	return false
}

// read notes that a handle is read through the page cache.
func (t *turns) read(h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.inodes[h.node]
	if i == nil {
		if t.inodes == nil {
			t.inodes = map[node]*turn{}
		}
		t.prune()
		i = &turn{limit: turnFor, slot: h.slot()}
		if h.node.own() {
			i.limit = ownTurnFor
		}
		i.enter(h)
		t.inodes[h.node] = i
		t.taken.Store(true)
	}
	i.used = time.Now()
}

// prune drops the inodes that have taken no turns for long. Like that of pages it looks at all, so not often.
func (t *turns) prune() {
	if time.Since(t.pruned) < stale {
		return
	}
	t.pruned = time.Now()
	maps.DeleteFunc(t.inodes, func(_ node, i *turn) bool { return time.Since(i.used) > forgetAfter && !i.busy() })
}

// done ends a handle's turn.
func (t *turns) done(h *handle) {
	if !h.inTurn.Load() || !h.inTurn.CompareAndSwap(true, false) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.inodes[h.node]
	if i == nil {
		return
	}
	if _, reads := i.readers[h]; reads {
		if delete(i.readers, h); len(i.readers) == 0 {
			i.readers = nil
		}
		if i.changed != nil {
			close(i.changed)
			i.changed = nil
		}
	}
}
