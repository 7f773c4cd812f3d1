package server

import (
	"encoding/binary"
	"log/slog"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Opcodes and offsets of the FUSE protocol (include/uapi/linux/fuse.h) that the loop itself looks at.
const (
	opGetattr   = 3
	opOpen      = 14
	opRead      = 15
	opRelease   = 18
	opInit      = 26
	opInterrupt = 36
	opPoll      = 40

	headerOpcode = 4  // offset of fuse_in_header.opcode
	headerUnique = 8  // offset of fuse_in_header.unique
	headerNode   = 16 // offset of fuse_in_header.nodeid
	inHeaderLen  = 40 // sizeof(struct fuse_in_header)
	outHeaderLen = 16 // sizeof(struct fuse_out_header)
	initMaxPages = outHeaderLen + 28

	pollFh     = inHeaderLen // offset of fuse_poll_in.fh, kh, flags
	pollKh     = inHeaderLen + 8
	pollFlags  = inHeaderLen + 16
	pollInEnd  = inHeaderLen + 24
	pollNotify = 1 // FUSE_POLL_SCHEDULE_NOTIFY

	notifyPoll       = 1 // FUSE_NOTIFY_POLL
	notifyInvalInode = 2 // FUSE_NOTIFY_INVAL_INODE

	pollRdNorm = 0x40 // POLLRDNORM, the same on every architecture
)

// Reader is what a file system may implement besides go-fuse's requests, to answer READ without garbage.
type Reader interface {
	// ReadInto puts what an open file says at in.Offset into buf, which is as long as the kernel asks for, and says how
	// much that is. Like all that answers a request it must keep neither in nor buf.
	ReadInto(in *fuse.ReadIn, buf []byte) (n int, status fuse.Status)
}

// Poller is another.
type Poller interface {
	// Poll says what poll(2) says of the open file fh: POLLIN and the like. It does not block. With schedule somebody
	// waits, and wants [Loop.NotifyPoll] to be called with kh when it is worth while to ask again.
	Poll(fh, kh uint64, schedule bool) (events uint32)
}

// Handle answers one request: it puts the reply into out and returns its length, 0 for a request that gets none. out has
// room for the largest READ.
//
// What a reader sends again and again is answered here, for go-fuse allocates memory and takes two locks of the whole
// connection for each request.
func (l *Loop) Handle(in, out []byte) int {
	if len(in) < inHeaderLen {
		return 0
	}
	switch op := opcode(in); {
	case op == opOpen, op == opRelease, op == opGetattr, op == opPoll, op == opRead && l.reader != nil:
		return l.answer(in, out)
	case op == opInterrupt:
		// No request here ends earlier for it. Without a reply the kernel waits for that of the request; EAGAIN, go-fuse's
		// for requests that it does not know, would make it ask again at once, and so for ever.
		return 0
	}
	n, _ := l.ps.HandleRequest([][]byte{in}, [][]byte{out})
	return n
}

// answer answers OPEN, READ, RELEASE, GETATTR and POLL.
func (l *Loop) answer(in, out []byte) (n int) {
	defer func() {
		if v := recover(); v != nil {
			n = reply(in, out, 0, panicked(v))
		}
	}()
	body := out[outHeaderLen:]
	switch opcode(in) {
	case opOpen:
		if req := over[fuse.OpenIn](in); req != nil {
			open := cleared[fuse.OpenOut](body)
			return reply(in, out, int(unsafe.Sizeof(*open)), l.fs.Open(nil, req, open))
		}
	case opRead:
		if req := over[fuse.ReadIn](in); req != nil {
			k, status := l.reader.ReadInto(req, body[:min(int(req.Size), len(body))])
			return reply(in, out, k, status)
		}
	case opRelease:
		if req := over[fuse.ReleaseIn](in); req != nil {
			l.fs.Release(nil, req)
			return reply(in, out, 0, fuse.OK)
		}
	case opGetattr:
		if req := over[fuse.GetAttrIn](in); req != nil {
			attr := cleared[fuse.AttrOut](body)
			return reply(in, out, int(unsafe.Sizeof(*attr)), l.fs.GetAttr(nil, req, attr))
		}
	case opPoll:
		return reply(in, out, l.poll(in, body), fuse.OK)
	}
	slog.Error("a request is cut short", "opcode", opcode(in), "bytes", len(in))
	return reply(in, out, 0, fuse.EIO)
}

// over is the request that lies at the start of b, header and all; nil if b is too short for it.
func over[T any](b []byte) *T {
	if len(b) < int(unsafe.Sizeof(*new(T))) {
		return nil
	}
	return (*T)(unsafe.Pointer(&b[0]))
}

// cleared is the same for a reply.
func cleared[T any](b []byte) *T {
	clear(b[:unsafe.Sizeof(*new(T))])
	return over[T](b)
}

// reply puts the header of a reply into out, before a body of n bytes, and returns the length of both. An error has no body.
func reply(in, out []byte, n int, status fuse.Status) int {
	if !status.Ok() {
		n = 0
	}
	n += outHeaderLen
	binary.NativeEndian.PutUint32(out, uint32(n))
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(status)))
	copy(out[8:outHeaderLen], in[headerUnique:])
	return n
}

// panicked is the answer to a request that panicked; the others go on.
func panicked(v any) fuse.Status {
	slog.Error("request panicked", "panic", v)
	return fuse.EIO
}

// poll says that a file can be read at once, as procfs does, unless the file system knows better. An answer of ENOSYS,
// go-fuse's, would stick to the connection and rule out pressure triggers for as long as it lives.
func (l *Loop) poll(in, body []byte) (n int) {
	events := uint32(unix.POLLIN | pollRdNorm)
	if l.poller != nil && len(in) >= pollInEnd {
		events = l.poller.Poll(binary.NativeEndian.Uint64(in[pollFh:]), binary.NativeEndian.Uint64(in[pollKh:]),
			binary.NativeEndian.Uint32(in[pollFlags:])&pollNotify != 0)
	}
	binary.NativeEndian.PutUint64(body, 0) // struct fuse_poll_out
	binary.NativeEndian.PutUint32(body, events)
	return 8
}

func opcode(request []byte) uint32 {
	return binary.NativeEndian.Uint32(request[headerOpcode:])
}
