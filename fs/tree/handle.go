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
	fh      uint64 // 0 while it is not open
	taken   bool   // a snapshot was
	length  uint64 // of the snapshot
	content []byte // the snapshot; nil where it was given up
}

// handles are the closed ones, to be used again; those that were writable are not.
var handles = sync.Pool{New: func() any { return new(handle) }}

// opened puts the handle into the table and returns its file handle, 0 if there is no room.
func (h *handle) opened(in *table[handle]) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fh = in.add(h)
	return h.fh
}

// closed makes a READ that has found the handle, and comes too late, fail.
func (h *handle) closed(texts *texts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fh, h.taken = 0, false
	h.forget(texts)
}

// reuse gives up a handle that is closed.
func (h *handle) reuse() {
	if h.writable {
		return // a WRITE looks at it without its lock
	}
	h.container = nil
	h.counted.Store(false)
	h.paged.Store(false)
	h.inTurn.Store(false)
	handles.Put(h)
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

// read copies the content at offset into buf. The handle's lock, which the caller holds, makes every answer a part of one
// whole snapshot, however many threads read the descriptor.
func (h *handle) read(buf []byte, offset uint64, texts *texts, render func([]byte) ([]byte, error)) (int, error) {
	atEnd := h.taken && offset >= h.length
	if offset == 0 || h.content == nil && !atEnd {
		old := h.content
		if old == nil {
			old = texts.take()
		}
		h.content, h.taken = nil, false // it is no snapshot before it is whole
		content, err := render(old[:0])
		if err != nil {
			texts.give(old)
			return 0, err
		}
		texts.grow(cap(content) - cap(old))
		h.content, h.length, h.taken = content, uint64(len(content)), true
	} else if atEnd && texts.scarce() {
		h.forget(texts)
	}
	return copyAt(buf, h.content, offset), nil
}

// forget gives up the memory of the snapshot.
func (h *handle) forget(texts *texts) {
	if h.content != nil {
		texts.give(h.content)
		h.content = nil
	}
}

func copyAt(buf, content []byte, offset uint64) int {
	if offset >= uint64(len(content)) {
		return 0
	}
	return copy(buf, content[offset:])
}

// texts is the memory of snapshots, to be used again and again.
type texts struct {
	held atomic.Int64 // bytes that open files have

	mu   sync.Mutex
	free [][]byte
	kept int // bytes of free
}

const (
	// maxKept bounds the memory that nobody uses, in bytes.
	maxKept = 1 << 20
	// maxHeld is how many bytes open files may have before those that were read to their end give theirs up. To read
	// such a file again behind its start takes another snapshot.
	maxHeld = 4 << 20
)

// take is memory for one snapshot.
func (t *texts) take() (b []byte) {
	t.mu.Lock()
	if last := len(t.free) - 1; last >= 0 {
		b, t.free = t.free[last], t.free[:last]
		t.kept -= cap(b)
	}
	t.mu.Unlock()
	t.grow(cap(b))
	return b
}

// grow counts n more bytes of memory that was taken.
func (t *texts) grow(n int) {
	if n != 0 {
		t.held.Add(int64(n))
	}
}

// scarce says whether open files have more memory than is good.
func (t *texts) scarce() bool { return t.held.Load() > maxHeld }

// give takes memory back.
func (t *texts) give(b []byte) {
	t.grow(-cap(b))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept+cap(b) <= maxKept && cap(b) > 0 {
		t.free = append(t.free, b)
		t.kept += cap(b)
	}
}

// table holds what is open: T is handle or dirHandle. A file handle is a position in it below how many were opened before,
// and so is never used again.
type table[T any] struct {
	mu    sync.Mutex
	last  uint64 // how many were opened
	slots []slot[T]
	free  []int // positions
}

type slot[T any] struct {
	fh uint64
	h  *T // nil: free
}

const (
	positionBits = 24
	// keptSlots is for how many open files the table keeps room when all are closed.
	keptSlots = 4096
)

// add gives h a file handle, 0 if there are too many.
func (t *table[T]) add(h *T) (fh uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := len(t.slots)
	if last := len(t.free) - 1; last >= 0 {
		i, t.free = t.free[last], t.free[:last]
	} else if i < 1<<positionBits {
		t.slots = append(t.slots, slot[T]{})
	} else {
		return 0
	}
	t.last++
	fh = t.last<<positionBits | uint64(i)
	t.slots[i] = slot[T]{fh, h}
	return fh
}

// at is the position of what is open by a file handle, -1 if nothing is.
func (t *table[T]) at(fh uint64) int {
	i := int(fh & (1<<positionBits - 1))
	if i < len(t.slots) && t.slots[i].fh == fh && fh != 0 {
		return i
	}
	return -1
}

func (t *table[T]) get(fh uint64) *T {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.at(fh); i >= 0 {
		return t.slots[i].h
	}
	return nil
}

// look calls f with what is open by a file handle, if something is. It stays open for as long.
func (t *table[T]) look(fh uint64, f func(*T)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.at(fh); i >= 0 {
		f(t.slots[i].h)
	}
}

func (t *table[T]) remove(fh uint64) *T {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.at(fh)
	if i < 0 {
		return nil
	}
	h := t.slots[i].h
	t.slots[i] = slot[T]{}
	t.free = append(t.free, i)
	if len(t.free) == len(t.slots) && len(t.slots) > keptSlots {
		t.slots, t.free = nil, nil
	}
	return h
}

// open is how many are.
func (t *table[T]) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.slots) - len(t.free)
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
