package tree

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

// A pressure trigger is set by writing to a pressure file and waited for with poll(2) (Documentation/accounting/psi). It
// is set on the cgroup's own file, of which each takes a descriptor here, and a little of the kernel's time for as long
// as it is open. So there are bounds: for a container what a dozen of programs that watch all resources need, and in all
// what leaves descriptors over in a process that may have 4,096.
const (
	maxTriggers    = 32   // of one container
	maxAllTriggers = 2048 // of all, and of the machine
)

// What poll(2) says of a pressure file: it can be read and written at all times (the kernel's DEFAULT_POLLMASK).
const (
	pollReady  = unix.POLLIN | unix.POLLOUT | pollRdNorm | pollWrNorm
	pollRdNorm = 0x40  // POLLRDNORM
	pollWrNorm = 0x100 // POLLWRNORM
	// pollFailed is for a file without a trigger, and for one whose cgroup is gone.
	pollFailed = pollReady | unix.POLLERR | unix.POLLPRI
)

// trigger is one that a reader set.
type trigger struct {
	id    uint64
	owner cgroup.Paths // whose bound it counts for; the zero value is the machine
	slot  uint64       // of the container, 0 for the machine

	mu    sync.Mutex
	fd    int    // of the kernel's file; -1 when it is closed
	fired bool   // since the last poll
	gone  bool   // its cgroup was removed, or its container forgotten
	kh    uint64 // by which the kernel knows those who wait, 0 while nobody does
}

// watch reports which of many descriptors have a trigger that fired, or whose cgroup is gone.
type watch interface {
	add(fd int, id uint64) error // a closed descriptor is removed by itself
	close()
}

// triggers are the open ones.
type triggers struct {
	notify   func(kh uint64) // wakes up those who wait
	newWatch func(event func(id uint64, gone bool)) (watch, error)

	mu     sync.Mutex
	watch  watch // nil until the first trigger
	closed bool
	last   uint64
	byID   map[uint64]*trigger
	count  map[cgroup.Paths]int
	all    int // the sum of count; more than len(byID) while some are being set
}

// set opens a pressure file and writes the first trigger to it. The errors are the kernel's, and ENOSPC beyond a bound.
func (t *triggers) set(owner cgroup.Paths, slot uint64, open func() (fd int, err error), text []byte) (tr *trigger, n int, err error) {
	if err := t.reserve(owner); err != nil {
		return nil, 0, err
	}
	tr = &trigger{owner: owner, slot: slot, fd: -1}
	if tr.fd, err = open(); err == nil {
		n, err = write(tr.fd, text)
	}
	if err == nil {
		err = t.add(tr)
	}
	if err != nil {
		if tr.fd >= 0 {
			unix.Close(tr.fd)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.release(owner)
		return nil, 0, err
	}
	return tr, n, nil
}

func (t *triggers) reserve(owner cgroup.Paths) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count[owner] >= maxTriggers || t.all >= maxAllTriggers {
		return unix.ENOSPC
	}
	if t.count == nil {
		t.count = map[cgroup.Paths]int{}
	}
	t.count[owner]++
	t.all++
	return nil
}

func (t *triggers) release(owner cgroup.Paths) {
	t.all--
	if t.count[owner]--; t.count[owner] == 0 {
		delete(t.count, owner)
	}
}

// add begins to watch a trigger.
func (t *triggers) add(tr *trigger) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return unix.ENODEV
	}
	if t.watch == nil {
		w, err := t.newWatch(t.event)
		if err != nil {
			return err
		}
		t.watch, t.byID = w, map[uint64]*trigger{}
	}
	t.last++
	tr.id = t.last
	if err := t.watch.add(tr.fd, tr.id); err != nil {
		return err
	}
	t.byID[tr.id] = tr
	return nil
}

// event is what the watch calls.
func (t *triggers) event(id uint64, gone bool) {
	t.mu.Lock()
	tr := t.byID[id]
	if gone {
		t.drop(tr)
	}
	t.mu.Unlock()
	if tr == nil {
		return // closed meanwhile
	}
	if gone {
		t.end(tr)
		return
	}
	tr.mu.Lock()
	tr.fired = true
	kh := tr.kh
	tr.mu.Unlock()
	if kh != 0 {
		t.notify(kh)
	}
}

// drop takes a trigger, which may be nil, out of the tables, with mu held.
func (t *triggers) drop(tr *trigger) {
	if tr != nil && t.byID[tr.id] == tr {
		delete(t.byID, tr.id)
		t.release(tr.owner)
	}
}

// end closes a trigger's file and tells those who wait. To close may take a while (the kernel waits for an RCU grace
// period), which must not hold up a poll.
func (t *triggers) end(tr *trigger) {
	tr.mu.Lock()
	fd, kh := tr.fd, tr.kh
	tr.fd, tr.gone = -1, true
	tr.mu.Unlock()
	if fd >= 0 {
		unix.Close(fd)
	}
	if kh != 0 {
		t.notify(kh)
	}
}

// remove ends a trigger whose file descriptor is closed; nil is none.
func (t *triggers) remove(tr *trigger) {
	if tr == nil {
		return
	}
	t.mu.Lock()
	t.drop(tr)
	t.mu.Unlock()
	tr.mu.Lock()
	tr.kh = 0 // nobody is left
	tr.mu.Unlock()
	t.end(tr)
}

// forget ends the triggers of a container, without waiting for it.
func (t *triggers) forget(slot uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ended []*trigger
	for _, tr := range t.byID {
		if tr.slot == slot {
			t.drop(tr)
			ended = append(ended, tr)
		}
	}
	if len(ended) > 0 {
		go func() {
			for _, tr := range ended {
				t.end(tr)
			}
		}()
	}
}

// close ends the watch and all triggers.
func (t *triggers) close() {
	t.mu.Lock()
	w := t.watch
	t.watch, t.closed = nil, true
	var all []*trigger
	for _, tr := range t.byID {
		t.drop(tr)
		all = append(all, tr)
	}
	t.mu.Unlock()
	if w != nil {
		w.close()
	}
	for _, tr := range all {
		t.end(tr)
	}
}

// write writes a second time: the kernel says what of it.
func (tr *trigger) write(text []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.fd < 0 {
		return 0, unix.ENODEV
	}
	return write(tr.fd, text)
}

// poll is what poll(2) says, and takes the event that it tells of. With schedule the kernel wants to be told, by kh, when
// to ask again.
func (tr *trigger) poll(kh uint64, schedule bool) uint32 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if schedule {
		tr.kh = kh
	}
	switch {
	case tr.gone:
		return pollFailed
	case tr.fired:
		tr.fired = false
		return pollReady | unix.POLLPRI
	}
	return pollReady
}

func write(fd int, text []byte) (n int, err error) {
	for {
		if n, err = unix.Write(fd, text); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// epoll is the watch of the kernel's triggers: one goroutine for all.
type epoll struct {
	fd, wake int
	ended    chan struct{}
}

func newEpoll(event func(id uint64, gone bool)) (watch, error) {
	e := &epoll{fd: -1, wake: -1, ended: make(chan struct{})}
	var err error
	if e.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		e.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err == nil {
		err = e.control(e.wake, unix.EPOLLIN, 0)
	}
	if err != nil {
		close(e.ended)
		e.release()
		return nil, err
	}
	go e.run(event)
	return e, nil
}

// add watches a descriptor. An id is never used again, and a descriptor's number is: an event that was on its way when
// the descriptor was closed must not be taken for another one's.
func (e *epoll) add(fd int, id uint64) error { return e.control(fd, unix.EPOLLPRI, id) }

func (e *epoll) control(fd int, events uint32, id uint64) error {
	return unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))})
}

func (e *epoll) run(event func(id uint64, gone bool)) {
	defer close(e.ended)
	var events [64]unix.EpollEvent
	for {
		n, err := unix.EpollWait(e.fd, events[:], -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			id := uint64(uint32(ev.Pad))<<32 | uint64(uint32(ev.Fd))
			if id == 0 {
				return
			}
			event(id, ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0)
		}
	}
}

func (e *epoll) close() {
	_, _ = write(e.wake, []byte{1, 0, 0, 0, 0, 0, 0, 1})
	<-e.ended
	e.release()
}

func (e *epoll) release() {
	for _, fd := range []int{e.fd, e.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
