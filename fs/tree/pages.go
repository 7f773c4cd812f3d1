package tree

import (
	"sync"
	"sync/atomic"
	"time"
)

// sendfile(2), splice(2) and private mappings read through the kernel's page cache, also from a file that was opened
// for direct I/O, and busybox cat does nothing else. The cache belongs to the inode, so all who read it this way at one
// time must be given the same bytes, and the inode's size must be exactly their number: a size that is too small cuts
// the file, and one that is too large pads it with zeros when the kernel cannot shrink it in time.
//
// An inode is kept track of from the first such read on. Its content is one snapshot. It is renewed when the kernel asks
// for the size, as it does at every open, and nobody else is between that question and the end of his reading: the kernel
// has one size, the last it was told, and answers reads from its cache without asking us. Readers who overlap without an
// end share a snapshot until it is stale, and are then given one of the same length as soon as there is one.
type pages struct {
	invalidate func(node uint64)

	any atomic.Bool // an inode is kept track of: what the look-up of all others need not lock for

	mu     sync.Mutex
	inodes map[node]*inode
	pruned time.Time
}

// stale bounds the age of a snapshot that readers who overlap share, and tooStale that of one whose length differs from
// that of the present one: to renew it may cut, or pad with zeros, what one of them is reading.
const (
	stale    = time.Second
	tooStale = 10 * time.Second
)

// How long somebody counts as in the midst of reading: after he was told a size, until he opens the file; and after
// he opened it or the kernel read for him, until he closes it. Who keeps a descriptor for longer must not hold up others.
const (
	openingFor = 250 * time.Millisecond
	readingFor = 500 * time.Millisecond
)

// forgetAfter is how long, at least, an inode is kept track of after its last read through the page cache.
const forgetAfter = time.Minute

// inode has memory for content and readers only while there is somebody who reads.
type inode struct {
	mu      sync.Mutex
	content []byte
	taken   time.Time // of the content; zero: there is none
	opening map[int]time.Time
	reading map[*handle]time.Time
	used    time.Time
	// told is set when the kernel was made to ask for the size at every open.
	told bool
}

func (p *pages) find(n node) *inode {
	if !p.any.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inodes[n]
}

// size is the exact size of a node that is read through the page cache, told to a task; exact is false for any other
// node.
func (p *pages) size(n node, task int, render func() ([]byte, error)) (size uint64, exact bool) {
	i := p.find(n)
	if i == nil {
		return 0, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	busy, age := i.busy(task), time.Since(i.taken)
	if !busy || age > stale {
		content, err := render()
		if err != nil {
			return 0, false
		}
		if !busy || len(content) == len(i.content) || age > tooStale {
			i.content, i.taken = content, time.Now()
		}
	}
	if i.opening == nil {
		i.opening = map[int]time.Time{}
	}
	i.opening[task] = time.Now()
	return uint64(len(i.content)), true
}

// busy says whether others than the task are in the midst of reading.
func (i *inode) busy(task int) (busy bool) {
	for t, since := range i.opening {
		if time.Since(since) > openingFor {
			delete(i.opening, t)
		} else if t != task {
			busy = true
		}
	}
	for h, since := range i.reading {
		if time.Since(since) > readingFor {
			delete(i.reading, h)
		} else {
			busy = true
		}
	}
	return busy
}

// open is the task's opening of a handle, whose reads may come from the page cache.
func (p *pages) open(h *handle, task int) {
	if i := p.find(h.node); i != nil {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.opening, task)
		i.read(h, time.Now())
	}
}

// read notes that a handle is read, or soon will be.
func (i *inode) read(h *handle, now time.Time) {
	if i.reading == nil {
		i.reading = map[*handle]time.Time{}
	}
	i.reading[h] = now
	h.counted.Store(true)
}

// read serves a read for the page cache.
func (p *pages) read(h *handle, buf []byte, offset uint64, render func([]byte) ([]byte, error)) (int, error) {
	p.mu.Lock()
	i := p.inodes[h.node]
	if i == nil {
		if p.inodes == nil {
			p.inodes = map[node]*inode{}
		}
		p.prune()
		i = new(inode)
		p.inodes[h.node] = i
		p.any.Store(true)
	}
	p.mu.Unlock()

	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	i.used = now
	i.read(h, now)
	h.paged.Store(true)
	if i.taken.IsZero() {
		content, err := render(nil)
		if err != nil {
			return 0, err
		}
		i.content, i.taken = content, now
	}
	return copyAt(buf, i.content, offset), nil
}

// done is a handle's end of reading through the page cache: it is closed, or it turns out to be read otherwise.
func (p *pages) done(h *handle) {
	if !h.counted.Load() || !h.counted.CompareAndSwap(true, false) {
		return
	}
	if i := p.find(h.node); i != nil {
		i.mu.Lock()
		defer i.mu.Unlock()
		if delete(i.reading, h); len(i.reading)+len(i.opening) == 0 {
			// Whoever comes next is given another snapshot.
			i.content, i.taken, i.opening, i.reading = nil, time.Time{}, nil, nil
		}
	}
}

// release ends a handle. The first to have read through the page cache makes the kernel forget the size that it was told
// before, for some time, as a guess. Only the first: to forget makes it disregard the size that it is being told meanwhile.
func (p *pages) release(h *handle) {
	p.done(h)
	if !h.paged.Load() || p.invalidate == nil {
		return
	}
	if i := p.find(h.node); i != nil {
		i.mu.Lock()
		told := i.told
		i.told = true
		i.mu.Unlock()
		if !told {
			p.invalidate(uint64(h.node))
		}
	}
}

// prune drops the inodes that nobody has read for long. It looks at all, so not often: a search through /sys reads thousands.
func (p *pages) prune() {
	if time.Since(p.pruned) < stale {
		return
	}
	p.pruned = time.Now()
	for n, i := range p.inodes {
		i.mu.Lock()
		if !i.busy(0) && time.Since(i.used) > forgetAfter {
			delete(p.inodes, n)
		}
		i.mu.Unlock()
	}
}
