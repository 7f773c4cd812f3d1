package tree

import (
	"sync"
	"sync/atomic"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
)

// handle is an open file: whose numbers it shows, and the snapshot that it is at.
type handle struct {
	node      node
	file      *File
	container *container.Container // nil: the machine's numbers

	counted atomic.Bool // by pages, as one that may read through the page cache
	paged   atomic.Bool // it did

	inTurn atomic.Bool // it is one that turns waits for

	// writable, of a pressure file, and privileged, with CAP_SYS_RESOURCE in effect, as its opener was.
	writable, privileged bool
	setting              sync.Mutex // held to set the trigger
	trigger              atomic.Pointer[trigger]

	mu      sync.Mutex
	content []byte // of the last read at offset 0
	filled  bool
}

// slot is that of the handle's container, 0 for the machine.
func (h *handle) slot() uint64 {
	if h.container == nil {
		return 0
	}
	return h.container.Slot
}

// owner is whose bounds what the handle takes counts for; the zero value is the machine.
func (h *handle) owner() cgroup.Paths {
	if h.container == nil {
		return cgroup.Paths{}
	}
	return h.container.Owner()
}

// read copies the content at offset into buf. One lock makes every answer a part of one whole snapshot, however many
// threads read the descriptor.
func (h *handle) read(buf []byte, offset uint64, render func([]byte) ([]byte, error)) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if offset == 0 || !h.filled {
		content, err := render(h.content[:0])
		if err != nil {
			return 0, err
		}
		h.content, h.filled = content, true
	}
	return copyAt(buf, h.content, offset), nil
}

func copyAt(buf, content []byte, offset uint64) int {
	if offset >= uint64(len(content)) {
		return 0
	}
	return copy(buf, content[offset:])
}

// table holds what is open: T is handle or dirHandle. A file handle is a number that is never used again.
type table[T any] struct {
	last atomic.Uint64
	open sync.Map // uint64 → *T
}

func (t *table[T]) add(h *T) uint64 {
	fh := t.last.Add(1)
	t.open.Store(fh, h)
	return fh
}

func (t *table[T]) get(fh uint64) *T {
	h, _ := t.open.Load(fh)
	found, _ := h.(*T)
	return found
}

func (t *table[T]) remove(fh uint64) *T {
	h, _ := t.open.LoadAndDelete(fh)
	found, _ := h.(*T)
	return found
}

// work is the memory of one rendering.
type work struct {
	host      host.Snapshot
	container container.Snapshot

	// Of files below /sys.
	look          look
	path, machine []byte // the reader's, and the machine's
	text          []byte
}

var works = sync.Pool{New: func() any { return new(work) }}
