package server

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// slowFS answers GETATTR of odd nodes only when it is let go.
type slowFS struct {
	fuse.RawFileSystem
	release chan struct{}
	mu      sync.Mutex
	waiting int
}

func (s *slowFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == 99 {
		panic("a bug")
	}
	if in.NodeId%2 == 1 {
		s.mu.Lock()
		s.waiting++
		s.mu.Unlock()
		<-s.release
	}
	out.Ino = in.NodeId
	return fuse.OK
}

// device is the kernel's end of a connection: a socket pair keeps messages apart as /dev/fuse does.
type device struct {
	t  *testing.T
	fd int
}

func serve(t *testing.T) (*device, *slowFS, *Loop) {
	t.Helper()
	fs := &slowFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), release: make(chan struct{})}
	d, l := serveFS(t, fs)
	return d, fs, l
}

func serveFS(t *testing.T, fs fuse.RawFileSystem) (*device, *Loop) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t, pair[0]}
	l := NewLoop(pair[1], fs)
	go l.Serve()
	t.Cleanup(func() {
		unix.Close(pair[0]) // ends the loop's reads
		<-l.ended
		unix.Close(pair[1])
	})
	return d, l
}

func (d *device) send(opcode uint32, unique, node uint64, body int) {
	d.t.Helper()
	d.sendBody(opcode, unique, node, make([]byte, body))
}

func (d *device) sendBody(opcode uint32, unique, node uint64, body []byte) {
	d.t.Helper()
	if _, err := unix.Write(d.fd, request(opcode, unique, node, body)); err != nil {
		d.t.Fatal(err)
	}
}

// request puts a header before a body.
func request(opcode uint32, unique, node uint64, body []byte) []byte {
	msg := append(make([]byte, inHeaderLen), body...)
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[headerOpcode:], opcode)
	binary.NativeEndian.PutUint64(msg[headerUnique:], unique)
	binary.NativeEndian.PutUint64(msg[16:], node)
	return msg
}

// receive returns the next reply: which request it answers, its error and its body.
func (d *device) receive() (unique uint64, errno int32, body []byte) {
	d.t.Helper()
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			d.t.Fatalf("no reply within 10 s: %v", err)
		}
		break
	}
	msg := make([]byte, replySize)
	n, err := unix.Read(d.fd, msg)
	if err != nil || n < outHeaderLen {
		d.t.Fatalf("a reply of %d bytes: %v", n, err)
	}
	return binary.NativeEndian.Uint64(msg[8:]), -int32(binary.NativeEndian.Uint32(msg[4:])), msg[outHeaderLen:n]
}

const attrBody = 16

func TestLoopAnswers(t *testing.T) {
	d, _, _ := serve(t)
	for i := uint64(2); i < 200; i += 2 {
		d.send(opGetattr, i, i, attrBody)
		if unique, errno, _ := d.receive(); unique != i || errno != 0 {
			t.Fatalf("request %d: reply to %d, errno %d", i, unique, errno)
		}
	}
}

// Requests that are stuck do not stop the others, and their answers still come.
func TestSlowRequestsStopNobody(t *testing.T) {
	d, fs, l := serve(t)
	const stuck = 20
	for i := range uint64(stuck) {
		d.send(opGetattr, 1000+i*2, 1, attrBody)
		d.send(opGetattr, 2+i*2, 2, attrBody)
		if unique, errno, _ := d.receive(); unique != 2+i*2 || errno != 0 {
			t.Fatalf("beside %d stuck requests: reply to %d, errno %d", i+1, unique, errno)
		}
	}
	fs.mu.Lock()
	waiting := fs.waiting
	fs.mu.Unlock()
	if waiting != stuck {
		t.Fatalf("%d requests wait, want %d", waiting, stuck)
	}
	close(fs.release)
	seen := map[uint64]bool{}
	for range stuck {
		unique, errno, _ := d.receive()
		if unique < 1000 || errno != 0 || seen[unique] {
			t.Errorf("reply to %d, errno %d", unique, errno)
		}
		seen[unique] = true
	}
	// The readers that were needed meanwhile are gone.
	for deadline := time.Now().Add(5 * time.Second); l.readers.Load() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d readers are left", l.readers.Load())
		}
	}
}

// A leader that is deposed at the moment when it becomes ready must not take the loop with it.
func TestDeposedLeadersDoNotEndTheLoop(t *testing.T) {
	d, fs, l := serve(t)
	close(fs.release)
	stop := make(chan struct{})
	var watches sync.WaitGroup
	defer watches.Wait()
	defer close(stop)
	for range 2 {
		watches.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if term := l.term.Load(); term%2 == 1 {
					l.depose(term)
				}
			}
		})
	}
	for i := uint64(2); i < 3_000; i += 2 {
		d.send(opGetattr, i, i, attrBody)
		if unique, errno, _ := d.receive(); unique != i || errno != 0 {
			t.Fatalf("request %d: reply to %d, errno %d", i, unique, errno)
		}
		select {
		case <-l.ended:
			t.Fatal("the loop ended")
		default:
		}
	}
}

func TestLoopSurvivesAPanic(t *testing.T) {
	d, _, _ := serve(t)
	d.send(opGetattr, 2, 99, attrBody)
	if unique, errno, _ := d.receive(); unique != 2 || errno != int32(unix.EIO) {
		t.Errorf("reply to %d, errno %d, want EIO", unique, errno)
	}
	d.send(opGetattr, 4, 4, attrBody)
	if unique, errno, _ := d.receive(); unique != 4 || errno != 0 {
		t.Errorf("afterwards: reply to %d, errno %d", unique, errno)
	}
}

// An answer of ENOSYS to POLL would stick to the connection.
func TestPollIsAnswered(t *testing.T) {
	d, _, _ := serve(t)
	d.send(opPoll, 8, 2, 24)
	unique, errno, body := d.receive()
	if unique != 8 || errno != 0 || len(body) != 8 || binary.NativeEndian.Uint32(body)&unix.POLLIN == 0 {
		t.Errorf("reply to %d, errno %d, %x", unique, errno, body)
	}
}

// pollFS is a Poller that remembers the last question.
type pollFS struct {
	fuse.RawFileSystem
	mu   sync.Mutex
	last pollQuestion
}

type pollQuestion struct {
	fh, kh   uint64
	schedule bool
}

func (p *pollFS) Poll(fh, kh uint64, schedule bool) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = pollQuestion{fh, kh, schedule}
	return unix.POLLIN | unix.POLLPRI
}

// The file system is asked what poll(2) says, and can make the kernel ask again.
func TestPoller(t *testing.T) {
	fs := &pollFS{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	d, l := serveFS(t, fs)
	body := make([]byte, 24) // struct fuse_poll_in: fh, kh, flags, events
	binary.NativeEndian.PutUint64(body[0:], 1<<40|3)
	binary.NativeEndian.PutUint64(body[8:], 1<<41|4)
	for flags, schedule := range map[uint32]bool{0: false, 1: true, 2: false} {
		binary.NativeEndian.PutUint32(body[16:], flags)
		d.sendBody(opPoll, 8, 2, body)
		unique, errno, out := d.receive()
		if unique != 8 || errno != 0 || len(out) != 8 || binary.NativeEndian.Uint32(out) != unix.POLLIN|unix.POLLPRI {
			t.Errorf("reply to %d, errno %d, %x", unique, errno, out)
		}
		fs.mu.Lock()
		if want := (pollQuestion{1<<40 | 3, 1<<41 | 4, schedule}); fs.last != want {
			t.Errorf("asked %+v, want %+v", fs.last, want)
		}
		fs.mu.Unlock()
	}
	d.send(opPoll, 10, 2, 4) // cut short
	if unique, errno, out := d.receive(); unique != 10 || errno != 0 || binary.NativeEndian.Uint32(out) != unix.POLLIN|pollRdNorm {
		t.Errorf("reply to %d, errno %d, %x", unique, errno, out)
	}
	l.NotifyPoll(1<<41 | 4)
	if unique, code, out := d.receive(); unique != 0 || code != -notifyPoll || len(out) != 8 || binary.NativeEndian.Uint64(out) != 1<<41|4 {
		t.Errorf("notified with %d, code %d, %x", unique, code, out)
	}
}

func TestWatchRestsWhenNobodyReads(t *testing.T) {
	d, _, l := serve(t)
	d.send(opGetattr, 2, 2, attrBody)
	d.receive()
	for deadline := time.Now().Add(5 * time.Second); l.armed.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the watch's timer still runs")
		}
	}
}

func TestInit(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	d := &device{t, pair[0]}
	l := NewLoop(pair[1], fuse.NewDefaultRawFileSystem())
	msg := make([]byte, inHeaderLen+64)
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[headerOpcode:], opInit)
	binary.NativeEndian.PutUint64(msg[headerUnique:], 2)
	for i, v := range []uint32{7, 38, 1 << 17, ^uint32(0), ^uint32(0)} { // major, minor, max_readahead, flags, flags2
		binary.NativeEndian.PutUint32(msg[inHeaderLen+4*i:], v)
	}
	if _, err := unix.Write(d.fd, msg); err != nil {
		t.Fatal(err)
	}
	if err := l.Init(); err != nil {
		t.Fatal(err)
	}
	_, errno, body := d.receive()
	if errno != 0 || len(body) < 32 {
		t.Fatalf("errno %d, %d bytes", errno, len(body))
	}
	if pages := binary.NativeEndian.Uint16(body[initMaxPages-outHeaderLen:]); pages != maxRead/4096 {
		t.Errorf("max_pages %d: a READ of %d bytes would be cut", pages, maxRead)
	}
	flags := uint64(binary.NativeEndian.Uint32(body[12:])) | uint64(binary.NativeEndian.Uint32(body[32:]))<<32
	if flags&fuse.CAP_NO_EXPORT_SUPPORT == 0 {
		t.Error("NO_EXPORT_SUPPORT is not negotiated: a forged file handle reaches other containers' nodes")
	}
	if flags&fuse.CAP_READDIRPLUS != 0 {
		t.Error("READDIRPLUS is negotiated and not implemented")
	}

	d.send(opGetattr, 4, 1, attrBody)
	if err := l.Init(); err == nil {
		t.Error("a first request that is not INIT was taken for one")
	}
}
