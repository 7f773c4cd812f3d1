package server

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sharer is what a file system may implement so that one of its users cannot keep the others waiting.
type Sharer interface {
	// Share names the one whose request of a node is counted for: while requests of several wait, each has its turn.
	Share(node uint64) uint64
}

// maxQueued bounds the requests of the queue, and with them its memory: some 200 bytes for each.
const maxQueued = 4096

// queue holds requests that were read from the device and wait to be served. The device hands them out in the order in
// which they came; so who has many threads that read would have all others wait for as many requests. Here each share is a
// line of its own, and the lines are served in turn.
type queue struct {
	size atomic.Int32 // of all lines

	mu    sync.Mutex
	lines []*line // those where somebody waits, the next to be served first
	// What is not in use.
	noLines []*line
	spare   *queued
}

type line struct {
	share       uint64
	first, last *queued
}

// queued is a request that waits. What a reader sends is short.
type queued struct {
	next  *queued
	n     int
	short [128]byte
	long  []byte // instead of short
}

// push adds a copy of a request.
func (q *queue) push(share uint64, request []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.spare
	if r == nil {
		r = new(queued)
	}
	q.spare, r.next = r.next, nil
	if r.n = len(request); r.n <= len(r.short) {
		copy(r.short[:], request)
	} else {
		r.long = append([]byte(nil), request...)
	}
	l := q.line(share)
	if l.first == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
	q.size.Add(1)
}

// line is that of a share.
func (q *queue) line(share uint64) *line {
	for _, l := range q.lines {
		if l.share == share {
			return l
		}
	}
	var l *line
	if last := len(q.noLines) - 1; last >= 0 {
		l, q.noLines = q.noLines[last], q.noLines[:last]
	} else {
		l = new(line)
	}
	l.share = share
	q.lines = append(q.lines, l)
	return l
}

// pop takes the next request out and copies it to buf, which has room for any; it returns its length, 0 if nobody waits.
func (q *queue) pop(buf []byte) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 {
		return 0
	}
	l := q.lines[0]
	r := l.first
	l.first = r.next
	rest := q.lines[:copy(q.lines, q.lines[1:])]
	if l.first != nil {
		q.lines = append(rest, l)
	} else {
		q.lines = rest
		q.noLines = append(q.noLines, l)
	}
	if r.long != nil {
		n = copy(buf, r.long)
		r.long = nil
	} else {
		n = copy(buf, r.short[:r.n])
	}
	r.next, q.spare = q.spare, r
	q.size.Add(-1)
	return n
}

// share is whose line a request belongs to.
func (l *Loop) share(request []byte) uint64 {
	if l.sharer == nil {
		return 0
	}
	return l.sharer.Share(binary.NativeEndian.Uint64(request[headerNode:]))
}

// readable says whether a request waits in the device.
func readable(fd int) bool {
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1 && poll.Revents&unix.POLLIN != 0
}
