package server

import (
	"bytes"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestQueueTakesTurns: of each share the oldest, and the shares one after the other.
func TestQueueTakesTurns(t *testing.T) {
	var q queue
	for _, r := range []string{"a1", "a2", "a3", "b1", "c1", "b2"} {
		q.push(uint64(r[0]), []byte(r))
	}
	long := bytes.Repeat([]byte("long"), 1000)
	q.push('d', long)
	buf := make([]byte, requestSize)
	pop := func() string { return string(buf[:q.pop(buf)]) }
	for _, want := range []string{"a1", "b1", "c1", string(long), "a2", "b2", "a3", "", ""} {
		if got := pop(); got != want {
			t.Errorf("%.10q comes next, want %.10q", got, want)
		}
	}
	// What was used before is used again, and keeps nothing.
	q.push('d', []byte("d2"))
	q.push('a', []byte("a4"))
	if first, second, size := pop(), pop(), q.size.Load(); first != "d2" || second != "a4" || size != 0 {
		t.Errorf("then %q and %q, %d left", first, second, size)
	}
}

func TestQueueAllocatesNothing(t *testing.T) {
	var q queue
	buf, request := make([]byte, requestSize), make([]byte, 80)
	if n := testing.AllocsPerRun(10, func() {
		for i := range uint64(100) {
			q.push(i%7, request)
		}
		for q.pop(buf) > 0 {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// sharedFS counts nodes from 1000 on for another one than those below.
type sharedFS struct{ slowFS }

func (s *sharedFS) Share(node uint64) uint64 { return node / 1000 }

// flooded is a loop that finds requests of one share waiting when it begins, and after them those that send sends. One that is
// not watched has one leader for ever, also on a slow machine.
func flooded(t *testing.T, n int, watched bool, send func(d *device)) (*device, *sharedFS) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t, pair[0]}
	for i := range n {
		d.send(opGetattr, uint64(i+1), 2, attrBody)
	}
	send(d)
	fs := &sharedFS{slowFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), release: make(chan struct{})}}
	l := NewLoop(pair[1], fs)
	l.armed.Store(!watched)
	go l.Serve()
	t.Cleanup(func() {
		unix.Close(pair[0]) // ends the loop's reads
		<-l.ended
		unix.Close(pair[1])
	})
	return d, fs
}

// TestFloodKeepsNobodyWaiting: whoever sends many requests at once is served in turn with the others.
func TestFloodKeepsNobodyWaiting(t *testing.T) {
	const flood, other = 100, 5000
	d, _ := flooded(t, flood, false, func(d *device) { d.send(opGetattr, other, 1000, attrBody) })
	place := 0
	for i := range flood + 1 {
		if unique, errno, _ := d.receive(); errno != 0 {
			t.Fatalf("request %d: errno %d", unique, errno)
		} else if unique == other {
			place = i + 1
		}
	}
	// One is served before each look at what waits.
	if most := lookEvery + flood/readAhead + 2; place == 0 || place > most {
		t.Errorf("the request behind the flood was answered as number %d, want %d at most", place, most)
	}
}

// TestSlowRequestsStopNobodyInTheQueue: who leads after one that is slow goes on with what that one had read.
func TestSlowRequestsStopNobodyInTheQueue(t *testing.T) {
	const flood, slow = 3 * lookEvery, 3
	d, fs := flooded(t, flood, true, func(d *device) {
		for i := range uint64(slow) {
			d.send(opGetattr, 5000+i, 1001+2000*i, attrBody)
		}
		d.send(opGetattr, 6000, 2000, attrBody)
	})
	seen := map[uint64]bool{}
	for range flood + 1 {
		unique, _, _ := d.receive()
		if unique >= 5000 && unique < 6000 {
			t.Fatal("a request was answered that nobody let go")
		}
		seen[unique] = true
	}
	close(fs.release)
	for range slow {
		unique, _, _ := d.receive()
		seen[unique] = true
	}
	if len(seen) != flood+1+slow {
		t.Errorf("%d requests were answered, want %d", len(seen), flood+1+slow)
	}
}
