package server

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// textFS has one file, which always says the same. READ of node 99 panics.
type textFS struct {
	fuse.RawFileSystem
	text []byte
}

const textFh = 1<<40 | 7

func (f *textFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&unix.O_ACCMODE != unix.O_RDONLY {
		out.Fh = textFh
		return fuse.EACCES
	}
	out.Fh, out.OpenFlags = textFh, fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

func (f *textFS) ReadInto(in *fuse.ReadIn, buf []byte) (int, fuse.Status) {
	if in.NodeId == 99 {
		buf[0] = 'x'
		panic("a bug")
	}
	if in.Fh != textFh {
		return 7, fuse.EBADF
	}
	return copy(buf, f.text[min(in.Offset, uint64(len(f.text))):]), fuse.OK
}

func (f *textFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if in.Fh != textFh {
		panic("a release of what is not open")
	}
}

func (f *textFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Ino, out.Size = in.NodeId, uint64(len(f.text))
	return fuse.OK
}

func newTextFS() *textFS {
	return &textFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), text: bytes.Repeat([]byte("0123456789abcde\n"), 100)}
}

// body is a request without its header.
func body[T any](request T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&request)), unsafe.Sizeof(request))[inHeaderLen:])
}

func as[T any](t *testing.T, b []byte) (v T) {
	t.Helper()
	if len(b) != int(unsafe.Sizeof(v)) {
		t.Fatalf("a reply of %d bytes, want %d", len(b), unsafe.Sizeof(v))
	}
	return *(*T)(unsafe.Pointer(&b[0]))
}

// What a reader sends is answered as go-fuse would.
func TestReader(t *testing.T) {
	fs := newTextFS()
	d, _ := serveFS(t, fs)
	unique := uint64(0)
	call := func(opcode uint32, node uint64, request []byte) ([]byte, int32) {
		t.Helper()
		unique += 2
		d.sendBody(opcode, unique, node, request)
		got, errno, reply := d.receive()
		if got != unique {
			t.Fatalf("a reply to %d, want %d", got, unique)
		}
		if errno != 0 && len(reply) != 0 {
			t.Errorf("an error with a body of %d bytes", len(reply))
		}
		return reply, errno
	}
	for range 3 { // what one reply leaves in the buffers must not show in the next
		reply, errno := call(opGetattr, 2, body(fuse.GetAttrIn{}))
		if attr := as[fuse.AttrOut](t, reply); errno != 0 || attr.Ino != 2 || attr.Size != 1600 || attr.Mode != 0 || attr.AttrValid != 0 {
			t.Errorf("GETATTR: errno %d, %+v", errno, attr)
		}
		if _, errno := call(opOpen, 2, body(fuse.OpenIn{Flags: unix.O_RDWR})); errno != int32(unix.EACCES) {
			t.Errorf("OPEN to write: errno %d", errno)
		}
		reply, errno = call(opOpen, 2, body(fuse.OpenIn{}))
		if open := as[fuse.OpenOut](t, reply); errno != 0 || open != (fuse.OpenOut{Fh: textFh, OpenFlags: fuse.FOPEN_DIRECT_IO}) {
			t.Errorf("OPEN: errno %d, %+v", errno, open)
		}
		for _, r := range []struct{ offset, size, want int }{
			{0, 4096, 1600}, {1600, 4096, 0}, {1000, 100, 100}, {1, 1, 1}, {0, maxRead, 1600}, {1 << 40, 8, 0}, {0, 1 << 31, 1600},
		} {
			reply, errno := call(opRead, 2, body(fuse.ReadIn{Fh: textFh, Offset: uint64(r.offset), Size: uint32(r.size)}))
			from := min(r.offset, len(fs.text))
			if errno != 0 || !bytes.Equal(reply, fs.text[from:from+r.want]) {
				t.Errorf("READ of %d at %d: errno %d, %d bytes", r.size, r.offset, errno, len(reply))
			}
		}
		if _, errno := call(opRead, 2, body(fuse.ReadIn{Fh: 1, Size: 100})); errno != int32(unix.EBADF) {
			t.Errorf("READ of what is not open: errno %d", errno)
		}
		if reply, errno := call(opRelease, 2, body(fuse.ReleaseIn{Fh: textFh})); errno != 0 || len(reply) != 0 {
			t.Errorf("RELEASE: errno %d, %d bytes", errno, len(reply))
		}
		for opcode, request := range map[uint32][]byte{opRead: body(fuse.ReadIn{Size: 10}), opRelease: body(fuse.ReleaseIn{})} {
			if _, errno := call(opcode, 99, request); errno != int32(unix.EIO) {
				t.Errorf("opcode %d that panics: errno %d, want EIO", opcode, errno)
			}
		}
	}
}

func TestRequestsThatAreCutShort(t *testing.T) {
	d, _ := serveFS(t, newTextFS())
	for opcode, request := range map[uint32][]byte{
		opOpen: body(fuse.OpenIn{}), opRead: body(fuse.ReadIn{Fh: textFh}), opRelease: body(fuse.ReleaseIn{Fh: textFh}), opGetattr: body(fuse.GetAttrIn{}),
	} {
		for n := range len(request) {
			d.sendBody(opcode, 2, 2, request[:n])
			if unique, errno, reply := d.receive(); unique != 2 || errno != int32(unix.EIO) || len(reply) != 0 {
				t.Errorf("opcode %d with a body of %d bytes: reply to %d, errno %d, %d bytes", opcode, n, unique, errno, len(reply))
			}
		}
		d.sendBody(opcode, 4, 2, request)
		if unique, errno, _ := d.receive(); unique != 4 || errno != 0 {
			t.Errorf("opcode %d, whole: reply to %d, errno %d", opcode, unique, errno)
		}
	}
}

// An answer would be taken as a wish to be asked again, at once and for ever.
func TestInterruptsAreNotAnswered(t *testing.T) {
	d, fs, _ := serve(t)
	d.send(opGetattr, 2, 1, attrBody) // is stuck
	for _, unique := range []uint64{2, 4} {
		d.sendBody(opInterrupt, unique|1, 0, binary.NativeEndian.AppendUint64(nil, unique))
	}
	d.send(opGetattr, 6, 6, attrBody)
	if unique, errno, _ := d.receive(); unique != 6 || errno != 0 {
		t.Errorf("reply to %d, errno %d", unique, errno)
	}
	close(fs.release)
	if unique, errno, _ := d.receive(); unique != 2 || errno != 0 {
		t.Errorf("reply to %d, errno %d: the request that was interrupted", unique, errno)
	}
}

// A reader leaves nothing for the garbage collector.
func TestReaderAllocatesNothing(t *testing.T) {
	l := NewLoop(-1, newTextFS())
	var requests [][]byte
	for _, r := range []struct {
		opcode uint32
		body   []byte
	}{
		{opGetattr, body(fuse.GetAttrIn{})},
		{opOpen, body(fuse.OpenIn{})},
		{opRead, body(fuse.ReadIn{Fh: textFh, Size: 4096})},
		{opRead, body(fuse.ReadIn{Fh: textFh, Size: 4096, Offset: 1600})},
		{opRelease, body(fuse.ReleaseIn{Fh: textFh})},
		{opInterrupt, make([]byte, 8)},
		{opPoll, make([]byte, 24)},
	} {
		requests = append(requests, request(r.opcode, 2, 2, r.body))
	}
	out := make([]byte, replySize)
	if n := testing.AllocsPerRun(100, func() {
		for _, r := range requests {
			l.Handle(r, out)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzHandle sends anything: the reply, if there is one, is to it, and whole.
func FuzzHandle(f *testing.F) {
	for _, opcode := range []uint32{opGetattr, opOpen, opRead, opRelease, opPoll, opInterrupt, 1, 2, 16, 42} {
		for _, n := range []int{0, 7, 8, 16, 24, 40, 100} {
			f.Add(opcode, uint64(2), bytes.Repeat([]byte{byte(n)}, n))
		}
	}
	l := NewLoop(-1, newTextFS())
	f.Fuzz(func(t *testing.T, opcode uint32, node uint64, body []byte) {
		if opcode == opInit || len(body) > requestSize-inHeaderLen {
			return
		}
		const room, unique = maxRead + outHeaderLen, 1<<50 | 2
		out := slices.Repeat([]byte{0xa5}, room+64)
		n := l.Handle(request(opcode, unique, node, body), out[:room:room])
		if n == 0 {
			return
		}
		length, status := binary.NativeEndian.Uint32(out), int32(binary.NativeEndian.Uint32(out[4:]))
		if n < outHeaderLen || n > room || int(length) != n || binary.NativeEndian.Uint64(out[8:]) != unique || status > 0 || status <= -512 {
			t.Errorf("opcode %d: %d bytes, header %x", opcode, n, out[:outHeaderLen])
		}
		if status != 0 && n != outHeaderLen {
			t.Errorf("opcode %d: status %d with a body of %d bytes", opcode, status, n-outHeaderLen)
		}
		if !bytes.Equal(out[room:], slices.Repeat([]byte{0xa5}, 64)) {
			t.Errorf("opcode %d: wrote beyond the room for a reply", opcode)
		}
	})
}
