package tree

import (
	"sync"
	"time"
)

// sendfile(2), splice(2) and private mappings read through the kernel's page cache, also from a file that was opened
// for direct I/O, and busybox cat does nothing else. The cache belongs to the inode, so all who read it this way at one
// time must be given the same bytes, and the inode's size must be exactly their number: a size that is too small cuts
// the file, and one that is too large pads it with zeros when the kernel cannot shrink it in time.
//
// An inode is kept track of from the first such read on. Its content is one snapshot, renewed when nobody is in the
// midst of reading it, or when it is older than stale.
type pages struct {
	invalidate func(node uint64)

	mu     sync.Mutex
	inodes map[node]*inode
}

// stale bounds the age of a snapshot that readers who overlap without an end share.
const stale = time.Second

// forgetAfter is how long an inode is kept track of after its last read through the page cache.
const forgetAfter = time.Minute

type inode struct {
	mu      sync.Mutex
	content []byte
	taken   time.Time // of the content
	readers int       // handles that have read from it
	used    time.Time
}

// size is the exact size of a node that is read through the page cache; exact is false for any other.
func (p *pages) size(n node, render func() ([]byte, error)) (size uint64, exact bool) {
	p.mu.Lock()
	i := p.inodes[n]
	p.mu.Unlock()
	if i == nil {
		return 0, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.readers == 0 || time.Since(i.taken) > stale {
		content, err := render()
		if err != nil {
			return 0, false
		}
		i.content, i.taken = content, time.Now()
	}
	return uint64(len(i.content)), true
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
		i = &inode{}
		p.inodes[h.node] = i
	}
	p.mu.Unlock()

	i.mu.Lock()
	defer i.mu.Unlock()
	h.mu.Lock()
	if !h.paging {
		h.paging = true
		i.readers++
	}
	h.mu.Unlock()
	i.used = time.Now()
	if i.taken.IsZero() {
		content, err := render(nil)
		if err != nil {
			return 0, err
		}
		i.content, i.taken = content, time.Now()
	}
	return copyAt(buf, i.content, offset), nil
}

// release ends a handle's reading. The size that the kernel has was right for it; the next reader asks again.
func (p *pages) release(h *handle) {
	if !h.paging {
		return
	}
	p.mu.Lock()
	i := p.inodes[h.node]
	p.mu.Unlock()
	if i == nil {
		return
	}
	i.mu.Lock()
	i.readers--
	i.mu.Unlock()
	if p.invalidate != nil {
		p.invalidate(uint64(h.node))
	}
}

// prune drops the inodes that nobody has read for long.
func (p *pages) prune() {
	for n, i := range p.inodes {
		i.mu.Lock()
		if i.readers == 0 && time.Since(i.used) > forgetAfter {
			delete(p.inodes, n)
		}
		i.mu.Unlock()
	}
}
