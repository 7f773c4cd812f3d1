package tree

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

// raceEnabled says that the race detector is on, under which sync.Pool drops items at random.
var raceEnabled bool

// A warm look at a file leaves nothing for the garbage collector, whatever file it is.
func TestWarmReadsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	c := mount(t)
	for i := range files {
		if c.tree.absent[firstFile+entryID(i)] {
			continue
		}
		t.Run(files[i].Path, func(t *testing.T) {
			look := newLooker(t, c, ownNode(1, firstFile+entryID(i)), webPID)
			look.whole()
			want := 0.0
			if files[i].container&container.NeedLoad != 0 {
				want = 1 // for the reader's pid namespace, which is a file in a fixture and a link elsewhere
			}
			if n := testing.AllocsPerRun(100, look.whole); n > want {
				t.Errorf("%v allocations, want %v", n, want)
			}
		})
	}
}

// BenchmarkWholeRead is a reader's stat, open, read to the end and close, without a kernel.
func BenchmarkWholeRead(b *testing.B) {
	c := mountOn(b, fixture.New(b), container.Options{})
	for i := range files {
		if c.tree.absent[firstFile+entryID(i)] {
			continue
		}
		b.Run(strings.ReplaceAll(files[i].Path, "/", "."), func(b *testing.B) {
			look := newLooker(b, c, ownNode(1, firstFile+entryID(i)), webPID)
			b.ReportAllocs()
			for b.Loop() {
				look.whole()
			}
		})
	}
}

// looker sends the messages of a whole look at one file, out of memory of its own.
type looker struct {
	t       testing.TB
	c       *client
	attr    fuse.GetAttrIn
	open    fuse.OpenIn
	read    fuse.ReadIn
	release fuse.ReleaseIn
	reply   []byte
}

func newLooker(t testing.TB, c *client, n node, pid uint32) *looker {
	l := &looker{t: t, c: c, reply: make([]byte, 1<<20)}
	for op, h := range map[uint32]*fuse.InHeader{
		opGetattr: &l.attr.InHeader, opOpen: &l.open.InHeader, opRead: &l.read.InHeader, opRelease: &l.release.InHeader,
	} {
		h.Opcode, h.Unique, h.NodeId, h.Pid = op, uint64(op), uint64(n), pid
	}
	l.read.Size, l.read.ReadFlags = 1<<20-4096, fuse.READ_LOCKOWNER
	return l
}

// whole is a stat, open, read to the end and close.
func (l *looker) whole() {
	send(l, &l.attr)
	send(l, &l.open)
	l.read.Fh = (*fuse.OpenOut)(unsafe.Pointer(&l.reply[outHeaderSize])).Fh
	l.release.Fh = l.read.Fh
	l.read.Offset = 0
	n := send(l, &l.read)
	if l.read.Offset = uint64(n); n == 0 || send(l, &l.read) != 0 {
		l.t.Fatalf("a read of %d bytes, and then of more", n)
	}
	send(l, &l.release)
}

// send sends a request, which begins with its header, and returns the length of the reply's body.
func send[T any](l *looker, request *T) int {
	h := (*fuse.InHeader)(unsafe.Pointer(request))
	h.Length = uint32(unsafe.Sizeof(*request))
	n := l.c.loop.Handle(bytesOf(request), l.reply)
	if out := (*fuse.OutHeader)(unsafe.Pointer(&l.reply[0])); out.Status != 0 || int(out.Length) != n || out.Unique != h.Unique {
		l.t.Fatalf("opcode %d: %+v, %d bytes", h.Opcode, *out, n)
	}
	return n - outHeaderSize
}
