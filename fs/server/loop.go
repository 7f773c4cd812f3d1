// Package server drives the FUSE device: it mounts the file system, reads requests, answers those of a reader itself and
// the others by go-fuse's protocol code, and writes the replies. What the files say is none of its business.
package server

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Sizes of the device's messages, in bytes.
const (
	// The largest WRITE: nothing but PSI triggers is ever written. It is more than the page that the kernel takes of one,
	// so that it is the kernel who refuses more.
	maxWrite = 8192
	maxRead  = 128 << 10 // the largest READ
	// The kernel wants room for its smallest buffer (FUSE_MIN_READ_BUFFER, 8192) and for a WRITE with its headers.
	requestSize = 8192 + maxWrite
	replySize   = maxRead + 4096
)

// slowAfter is how long a request may be served before somebody else starts to read the next ones. It is far above a
// warm read (tens of µs) and far below what a person notices.
const slowAfter = time.Millisecond

// lookEvery is how often the leader looks whether more requests wait than the one that it has read: one of so many. Then it
// reads up to readAhead of them before it serves one, and goes on like that until none wait. Looking costs a twentieth of a
// request, and reading readAhead far less time than slowAfter.
const (
	lookEvery = 8
	readAhead = 32
)

// maxReaders bounds the requests that are served slowly at the same time.
const maxReaders = 256

// Loop reads requests from a FUSE device and answers them.
//
// One goroutine, the leader, reads, serves and replies: handing requests between threads costs more than serving them.
// A request that takes longer than slowAfter deposes the leader: a new one goes on reading and the old one only finishes
// what it has, so that one stuck cgroup read never stops the others. Where requests wait for one another, those of a [Sharer]
// are served in turn.
type Loop struct {
	fd     int
	fs     fuse.RawFileSystem
	reader Reader // nil: go-fuse answers READ
	poller Poller // nil: every file can be read at once
	sharer Sharer // nil: all are one
	ps     *fuse.ProtocolServer

	// queue holds what was read beyond the request that is served. Whoever leads reads from the device only when it is
	// empty, or to fill it; who was deposed helps to empty it.
	queue queue

	// term is odd while the leader serves a request and even while it waits for one; it only grows. Whoever moves it on
	// from an odd value (the leader when done, or the watch when it took too long) owns the reading from then on.
	term    atomic.Uint64
	readers atomic.Int32
	ended   chan struct{} // closed when the last reader has gone
	end     sync.Once

	armed atomic.Bool // the watch's timer runs
	seen  uint64      // term at the watch's last look; only the timer's function touches it
	timer *time.Timer

	buffers sync.Pool
}

type buffers struct{ in, out []byte }

// NewLoop makes a loop over the device fd, which stays the caller's. fs answers the requests.
func NewLoop(fd int, fs fuse.RawFileSystem) *Loop {
	l := &Loop{fd: fd, fs: fs, ended: make(chan struct{})}
	l.reader, _ = fs.(Reader)
	l.poller, _ = fs.(Poller)
	l.sharer, _ = fs.(Sharer)
	l.ps = fuse.NewProtocolServer(fs, &fuse.MountOptions{
		MaxWrite:      maxWrite,
		MaxReadAhead:  maxRead,
		MaxBackground: 64,
		// A forged file handle must not reach another container's node through a single-file bind mount.
		ExtraCapabilities: fuse.CAP_NO_EXPORT_SUPPORT,
		// Listings are rare and looking every entry up would resolve callers for nothing.
		DisabledCapabilities: fuse.CAP_READDIRPLUS,
		Logger:               slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		PanicHandler:         panicked,
	})
	l.buffers.New = func() any {
		return &buffers{in: make([]byte, requestSize), out: make([]byte, replySize)}
	}
	l.timer = time.AfterFunc(time.Hour, l.watch)
	l.timer.Stop()
	return l
}

// Init answers the kernel's INIT, the first request on a new connection.
func (l *Loop) Init() error {
	b := l.buffers.Get().(*buffers)
	defer l.buffers.Put(b)
	n, errno := readDevice(l.fd, b.in)
	if errno != 0 {
		return fmt.Errorf("reading INIT from the FUSE device: %w", errno)
	}
	if n < inHeaderLen || opcode(b.in) != opInit {
		return fmt.Errorf("the first request on the FUSE device is not INIT: %.64x", b.in[:n])
	}
	m := l.Handle(b.in[:n], b.out)
	if m < initMaxPages+2 {
		return fmt.Errorf("answering INIT: %.64x", b.out[:m])
	}
	// go-fuse derives max_pages from MaxWrite; a READ of one page would cut larger buffers into several round trips.
	binary.NativeEndian.PutUint16(b.out[initMaxPages:], maxRead/4096)
	if errno := writeDevice(l.fd, b.out[:m]); errno != 0 {
		return fmt.Errorf("answering INIT: %w", errno)
	}
	return nil
}

// Serve answers requests until the connection ends.
func (l *Loop) Serve() {
	l.readers.Add(1)
	go l.lead()
	<-l.ended
	l.timer.Stop()
}

// InvalidateAttr makes the kernel forget the attributes of a node, its size above all.
func (l *Loop) InvalidateAttr(node uint64) {
	var msg [outHeaderLen + 24]byte
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[4:], notifyInvalInode)
	binary.NativeEndian.PutUint64(msg[outHeaderLen:], node)
	binary.NativeEndian.PutUint64(msg[outHeaderLen+8:], ^uint64(0)) // offset -1: attributes only, no pages
	// ENOENT: the kernel has forgotten the node already.
	if errno := writeDevice(l.fd, msg[:]); errno != 0 && errno != unix.ENOENT && errno != unix.ENODEV && errno != unix.EBADF {
		slog.Debug("invalidating attributes", "node", node, "err", errno)
	}
}

// NotifyPoll makes the kernel wake up those who wait for the open file that it knows by kh, so that they poll again.
func (l *Loop) NotifyPoll(kh uint64) {
	var msg [outHeaderLen + 8]byte
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[4:], notifyPoll)
	binary.NativeEndian.PutUint64(msg[outHeaderLen:], kh)
	if errno := writeDevice(l.fd, msg[:]); errno != 0 && errno != unix.ENODEV && errno != unix.EBADF {
		slog.Error("waking up who polls", "err", errno)
	}
}

// leave is what a reader does last.
func (l *Loop) leave() {
	if l.readers.Add(-1) == 0 {
		l.end.Do(func() { close(l.ended) })
	}
}

func (l *Loop) lead() {
	defer l.leave()
	b := l.buffers.Get().(*buffers)
	defer l.buffers.Put(b)
	for turn := 1; ; turn++ {
		n, waiting := 0, l.queue.size.Load() > 0
		if !waiting {
			var ok bool
			if n, ok = l.read(b.in); !ok {
				return
			}
		}
		term := l.term.Add(1)
		if !l.armed.Load() && l.armed.CompareAndSwap(false, true) {
			l.timer.Reset(slowAfter)
		}
		if waiting || turn%lookEvery == 0 && readable(l.fd) {
			n = l.gather(term, b.in, n)
		}
		if n > 0 {
			l.serve(b, n)
		}
		if !l.term.CompareAndSwap(term, term+1) { // deposed
			for n := l.queue.pop(b.in); n > 0; n = l.queue.pop(b.in) {
				l.serve(b, n)
			}
			return
		}
		if turn%256 == 0 {
			// The scheduler's monitor takes who is in system calls all the time for stuck, and wakes up for it.
			runtime.Gosched()
		}
	}
}

// read waits for a request; ok is false once there will be no more.
func (l *Loop) read(buf []byte) (n int, ok bool) {
	for {
		n, errno := readDevice(l.fd, buf)
		switch errno {
		case 0:
			if n < inHeaderLen {
				slog.Error("the FUSE device gave no whole request", "bytes", n)
				return 0, false
			}
			return n, true
		case unix.EINTR, unix.EAGAIN, unix.ENOENT: // ENOENT: the request was interrupted before it was read
		case unix.ENODEV, unix.EBADF: // unmounted, or closed by its owner
			return 0, false
		default:
			slog.Error("reading the FUSE device", "err", errno)
			return 0, false
		}
	}
}

// gather reads requests that wait in the device and puts in the one whose turn it is; n is the length of the one that is
// there already. A request that is taken back by its sender at the wrong moment makes it wait for another one; then somebody
// else leads before long, and serves the queue.
func (l *Loop) gather(term uint64, in []byte, n int) int {
	if n > 0 {
		l.queue.push(l.share(in), in[:n])
	}
	for range readAhead {
		if l.queue.size.Load() >= maxQueued || !readable(l.fd) {
			break
		}
		n, ok := l.read(in)
		if !ok {
			break
		}
		if l.term.Load() != term {
			return n
		}
		l.queue.push(l.share(in), in[:n])
	}
	return l.queue.pop(in)
}

// serve answers the request of n bytes in b.
func (l *Loop) serve(b *buffers, n int) {
	k := l.Handle(b.in[:n], b.out)
	if k == 0 {
		return
	}
	// ENOENT: the request was interrupted meanwhile and nobody waits for the reply.
	// ENODEV, EBADF: the connection has ended, by umount or by its owner.
	if errno := writeDevice(l.fd, b.out[:k]); errno != 0 && errno != unix.ENOENT && errno != unix.ENODEV && errno != unix.EBADF {
		slog.Error("writing the FUSE device", "err", errno, "opcode", opcode(b.in))
	}
}

// watch deposes a leader that has served the same request since the last look.
func (l *Loop) watch() {
	term := l.term.Load()
	if term%2 == 0 {
		l.armed.Store(false)
		// A request that began between the two lines above found the watch armed: look after it.
		if term = l.term.Load(); term%2 == 0 || !l.armed.CompareAndSwap(false, true) {
			return
		}
	}
	if term == l.seen {
		l.depose(term)
	}
	l.seen = term
	l.timer.Reset(slowAfter)
}

// depose starts a new leader, unless the old one has become ready meanwhile.
func (l *Loop) depose(term uint64) {
	// Counted before the old one may go: with the last reader the loop ends.
	if l.readers.Add(1) <= maxReaders && l.term.CompareAndSwap(term, term+1) {
		go l.lead()
	} else {
		l.leave()
	}
}

// readDevice tells the Go scheduler of the call, as it blocks for as long as nobody reads a file.
func readDevice(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// writeDevice does not: a reply is a copy of a few kB and the scheduler's book-keeping would cost as much.
func writeDevice(fd int, b []byte) syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return errno
}
