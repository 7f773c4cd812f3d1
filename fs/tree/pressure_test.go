package tree

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/policy"
)

// fakeWatch stands in for epoll, which knows no files of a fixture. The test makes the events.
type fakeWatch struct {
	mu     sync.Mutex
	event  func(id uint64, gone bool)
	ids    []uint64
	closed bool
	fail   error
}

func (w *fakeWatch) add(_ int, id uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.ids = append(w.ids, id)
	return nil
}

func (w *fakeWatch) close() { w.closed = true }

// last is the trigger that was set last.
func (w *fakeWatch) last() uint64 { return w.ids[len(w.ids)-1] }

// mountPressure is mount with a fake watch, and with the polls that were to be repeated.
func mountPressure(t testing.TB) (*client, *fakeWatch, func() []uint64) {
	t.Helper()
	c := mount(t)
	w := &fakeWatch{}
	c.tree.triggers.newWatch = func(event func(uint64, bool)) (watch, error) {
		w.event = event
		return w, nil
	}
	var mu sync.Mutex
	var notified []uint64
	c.tree.SetPollNotifier(func(kh uint64) {
		mu.Lock()
		defer mu.Unlock()
		notified = append(notified, kh)
	})
	return c, w, func() []uint64 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(notified)
	}
}

func (c *client) openToWrite(n node, pid uint32) uint64 {
	c.t.Helper()
	fh, _, errno := c.open(n, pid, syscall.O_RDWR)
	if errno != 0 {
		c.t.Fatalf("open to write: errno %d", errno)
	}
	return fh
}

func (c *client) write(n node, fh uint64, pid uint32, text string) (size uint32, errno int32) {
	c.t.Helper()
	in := fuse.WriteIn{Fh: fh, Size: uint32(len(text))}
	body, errno := c.call(opWrite, n, pid, append(bytes.Clone(bytesOf(&in)[inHeaderSize:]), text...), 64)
	var out fuse.WriteOut
	copy(bytesOf(&out), body)
	return out.Size, errno
}

func (c *client) setattr(n node, pid uint32, valid uint32) (fuse.AttrOut, int32) {
	c.t.Helper()
	var in fuse.SetAttrIn
	in.Valid = valid
	body, errno := c.call(opSetattr, n, pid, bytesOf(&in)[inHeaderSize:], 256)
	var out fuse.AttrOut
	copy(bytesOf(&out), body)
	return out, errno
}

// openFiles counts our descriptors of files below dir.
func openFiles(t testing.TB, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

const cpuTrigger = "some 150000 2000000"

func TestPressureIsTheContainersOwn(t *testing.T) {
	c, _, _ := mountPressure(t)
	text := func(total int) string {
		return fmt.Sprintf("some avg10=1.00 avg60=0.50 avg300=0.25 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", total)
	}
	for i, name := range []string{"cpu", "memory", "io"} {
		c.m.Write("proc/pressure/"+name, text(100+i))
		c.m.Write("sys/fs/cgroup/c1/"+name+".pressure", text(200+i))
		c.m.Write("sys/fs/cgroup/c2/"+name+".pressure", text(300+i))
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/pressure", 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"cpu", "memory", "io"} {
		shared := c.walk(onePID, "proc", "pressure", name)
		own := c.walk(machinePID, "c", "web", "proc", "pressure", name)
		for _, test := range []struct {
			n    node
			pid  uint32
			want int
		}{{shared, machinePID, 100}, {shared, onePID, 200}, {shared, webPID, 300}, {own, machinePID, 300}, {own, onePID, 300}} {
			got := c.cat(test.n, test.pid)
			if got != text(test.want+i) {
				t.Errorf("%s of reader %d: %q, want total=%d", name, test.pid, got, test.want+i)
			}
			// What monitoring reads it with.
			if err := os.WriteFile(filepath.Join(dir, "pressure", name), []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			fs, err := procfs.NewFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			if stats, err := fs.PSIStatsForResource(name); err != nil || stats.Some == nil || stats.Some.Total != uint64(test.want+i) || stats.Full.Total != 7 {
				t.Errorf("%s: prometheus/procfs reads %+v, %v", name, stats, err)
			}
		}
	}
	if counts := c.tree.Fallbacks.Counts(); len(counts) != 0 {
		t.Errorf("fallbacks: %v", counts)
	}
}

// Without a pressure of its own a container is shown the machine's, and its triggers are on that.
func TestPressureFallsBackToTheMachines(t *testing.T) {
	c, _, _ := mountPressure(t)
	c.m.Remove("sys/fs/cgroup/c2/cpu.pressure")
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	if got := c.cat(n, webPID); !strings.Contains(got, "total=1000\n") {
		t.Errorf("%q, want the machine's", got)
	}
	if counts := c.tree.Fallbacks.Counts(); counts[Fallback{"proc/pressure/cpu", "unavailable"}] == 0 {
		t.Errorf("fallbacks: %v", counts)
	}
	fh := c.openToWrite(n, webPID)
	defer c.release(n, fh)
	if size, errno := c.write(n, fh, webPID, cpuTrigger); errno != 0 || size != uint32(len(cpuTrigger)) {
		t.Errorf("write: %d, errno %d", size, errno)
	}
	if got, err := os.ReadFile(c.m.Root + "/proc/pressure/cpu"); err != nil || !strings.HasPrefix(string(got), cpuTrigger) {
		t.Errorf("the machine's file was written %q, %v", got, err)
	}
}

// Which writes reach which file of a fixture, where they stay to be looked at.
func TestTriggerIsSetOnTheContainersFile(t *testing.T) {
	c, w, _ := mountPressure(t)
	for name, test := range map[string]struct {
		n    node
		pid  uint32
		file string
	}{
		"own tree":           {c.walk(machinePID, "c", "web", "proc", "pressure", "memory"), onePID, "sys/fs/cgroup/c2/memory.pressure"},
		"shared tree":        {c.walk(onePID, "proc", "pressure", "io"), onePID, "sys/fs/cgroup/c1/io.pressure"},
		"shared, other's":    {c.walk(onePID, "proc", "pressure", "memory"), webPID, "sys/fs/cgroup/c2/memory.pressure"},
		"shared, of machine": {c.walk(machinePID, "proc", "pressure", "io"), machinePID, "proc/pressure/io"},
	} {
		trigger := fmt.Sprintf("some %d 2000000", 1000*len(name))
		fh := c.openToWrite(test.n, test.pid)
		if size, errno := c.write(test.n, fh, machinePID, trigger); errno != 0 || int(size) != len(trigger) {
			t.Errorf("%s: write: %d, errno %d", name, size, errno)
		}
		if got, err := os.ReadFile(filepath.Join(c.m.Root, test.file)); err != nil || !strings.HasPrefix(string(got), trigger) {
			t.Errorf("%s: %s holds %q, %v", name, test.file, got, err)
		}
		c.release(test.n, fh)
	}
	if len(w.ids) != 4 || len(c.tree.triggers.byID) != 0 || c.tree.triggers.all != 0 {
		t.Errorf("%d were watched, %d are left, %d counted", len(w.ids), len(c.tree.triggers.byID), c.tree.triggers.all)
	}
}

func TestPolicyLeavesPressureToTheKernel(t *testing.T) {
	c, _, _ := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	web := c.reg.ByID("web")
	defer web.Release()
	c.reg.SetPolicy(policy.Policy{Off: []string{"pressure/cpu"}})
	if got := c.cat(n, webPID); !strings.Contains(got, "total=1000\n") {
		t.Errorf("%q, want the machine's", got)
	}
	fh := c.openToWrite(n, webPID)
	defer c.release(n, fh)
	if _, errno := c.write(n, fh, webPID, cpuTrigger); errno != 0 {
		t.Errorf("write: errno %d", errno)
	}
	if got, err := os.ReadFile(c.m.Root + "/proc/pressure/cpu"); err != nil || !strings.HasPrefix(string(got), cpuTrigger) {
		t.Errorf("the machine's file holds %q, %v", got, err)
	}
	direct := c.tree.Direct(web)
	if _, ok := direct["proc/pressure/cpu"]; ok || direct["proc/pressure/io"] != c.m.Root+"/sys/fs/cgroup/c2/io.pressure" || len(direct) != 2 {
		t.Errorf("direct: %v", direct)
	}
	if slices.Contains(c.tree.Files(web.Policy()), "proc/pressure/cpu") {
		t.Error("the file is bound all the same")
	}
	c.reg.SetPolicy(policy.Policy{Reader: policy.Parent})
	if direct := c.tree.Direct(web); len(direct) != 0 {
		t.Errorf("bound directly where another cgroup may be shown: %v", direct)
	}
}

func TestPoll(t *testing.T) {
	c, w, notified := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	meminfo := c.walk(machinePID, "c", "web", "proc", "meminfo")
	poll := func(fh, kh uint64, schedule bool, want uint32, why string) {
		t.Helper()
		if got := c.tree.Poll(fh, kh, schedule); got != want {
			t.Errorf("poll says %x, want %x: %s", got, want, why)
		}
	}
	poll(c.mustOpen(meminfo, webPID), 1, true, unix.POLLIN|pollRdNorm, "another file can be read")
	poll(4711, 1, true, unix.POLLIN|pollRdNorm, "no open file")

	fh := c.openToWrite(n, webPID)
	poll(fh, 2, true, pollFailed, "no trigger was set")
	poll(c.mustOpen(n, webPID), 3, true, pollFailed, "no trigger was set, nor can be")
	c.write(n, fh, webPID, cpuTrigger)
	poll(fh, 2, false, pollReady, "it did not fire")
	w.event(w.last(), false)
	if got := notified(); got != nil {
		t.Errorf("nobody waits, and %v were told", got)
	}
	poll(fh, 2, true, pollReady|unix.POLLPRI, "it fired")
	poll(fh, 2, true, pollReady, "the event was told already")
	w.event(w.last(), false)
	w.event(w.last(), false)
	if got := notified(); !slices.Equal(got, []uint64{2, 2}) {
		t.Errorf("told %v, want who waits", got)
	}
	poll(fh, 2, false, pollReady|unix.POLLPRI, "it fired twice")
	poll(fh, 2, false, pollReady, "the kernel makes one of events that nobody looked at")

	other := c.openToWrite(n, webPID)
	c.write(n, other, webPID, cpuTrigger)
	w.event(w.last(), false)
	poll(fh, 2, true, pollReady, "another one's fired")
	poll(other, 5, true, pollReady|unix.POLLPRI, "it fired")

	w.event(w.last(), true)
	if got := notified(); !slices.Equal(got, []uint64{2, 2, 5}) {
		t.Errorf("told %v, want who waited for a cgroup that is gone", got)
	}
	for range 2 {
		poll(other, 5, true, pollFailed, "its cgroup is gone")
	}
	poll(fh, 2, true, pollReady, "another one's cgroup is gone")
	if _, errno := c.write(n, other, webPID, cpuTrigger); errno != int32(syscall.ENODEV) {
		t.Errorf("write after the cgroup is gone: errno %d", errno)
	}
	w.event(4711, false) // closed meanwhile
	w.event(4711, true)
	c.release(n, fh)
	c.release(n, other)
	if triggers := &c.tree.triggers; len(triggers.byID) != 0 || triggers.all != 0 || len(triggers.count) != 0 {
		t.Errorf("left: %v, %d, %v", triggers.byID, triggers.all, triggers.count)
	}
}

func TestTriggersAreBounded(t *testing.T) {
	c, _, _ := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	before := openFiles(t, c.m.Root+"/sys/fs/cgroup/c2")
	var handles []uint64
	for i := range 40 {
		fh := c.openToWrite(n, webPID)
		handles = append(handles, fh)
		_, errno := c.write(n, fh, webPID, cpuTrigger)
		if want := map[bool]int32{false: 0, true: int32(syscall.ENOSPC)}[i >= maxTriggers]; errno != want {
			t.Errorf("trigger %d: errno %d, want %d", i+1, errno, want)
		}
	}
	if got := openFiles(t, c.m.Root+"/sys/fs/cgroup/c2") - before; got < maxTriggers || got > maxTriggers+1 { // one is kept to read
		t.Errorf("%d triggers hold %d descriptors", maxTriggers, got)
	}
	// Neither its neighbour nor the machine feels it.
	for _, pid := range []uint32{onePID, machinePID} {
		shared := c.walk(pid, "proc", "pressure", "cpu")
		fh := c.openToWrite(shared, pid)
		if _, errno := c.write(shared, fh, pid, cpuTrigger); errno != 0 {
			t.Errorf("reader %d: errno %d", pid, errno)
		}
		c.release(shared, fh)
	}
	c.release(n, handles[0])
	if _, errno := c.write(n, handles[39], webPID, cpuTrigger); errno != 0 {
		t.Errorf("after one was closed: errno %d", errno)
	}
	for _, fh := range handles[1:] {
		c.release(n, fh)
	}
	if got := openFiles(t, c.m.Root+"/sys/fs/cgroup/c2") - before; got > 1 {
		t.Errorf("%d descriptors are left", got)
	}
	if c.tree.triggers.all != 0 {
		t.Errorf("%d triggers are left", c.tree.triggers.all)
	}
	c.tree.triggers.all = maxAllTriggers
	fh := c.openToWrite(n, webPID)
	if _, errno := c.write(n, fh, webPID, cpuTrigger); errno != int32(syscall.ENOSPC) {
		t.Errorf("beyond the bound of all: errno %d", errno)
	}
	c.tree.triggers.all = 0
	c.release(n, fh)
}

// A trigger that could not be set takes up no room.
func TestTriggerThatFails(t *testing.T) {
	c, w, _ := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	fh := c.openToWrite(n, webPID)
	if size, errno := c.write(n, fh, webPID, ""); errno != 0 || size != 0 || len(w.ids) != 0 {
		t.Errorf("an empty write: %d, errno %d, %d triggers", size, errno, len(w.ids))
	}
	c.release(n, fh)
	w.fail = unix.EMFILE
	for range 2 * maxTriggers {
		fh := c.openToWrite(n, webPID)
		if _, errno := c.write(n, fh, webPID, cpuTrigger); errno != int32(syscall.EMFILE) {
			t.Fatalf("errno %d, want what failed", errno)
		}
		if c.tree.Poll(fh, 1, true) != pollFailed {
			t.Error("there is a trigger")
		}
		c.release(n, fh)
	}
	if c.tree.triggers.all != 0 {
		t.Errorf("%d are counted", c.tree.triggers.all)
	}
}

func TestForgottenContainersTriggersEnd(t *testing.T) {
	c, _, notified := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	one := c.walk(onePID, "proc", "pressure", "cpu")
	fh, stays := c.openToWrite(n, webPID), c.openToWrite(one, onePID)
	c.write(n, fh, webPID, cpuTrigger)
	c.write(one, stays, onePID, cpuTrigger)
	c.tree.Poll(fh, 7, true)
	c.tree.Poll(stays, 8, true)
	if err := c.reg.Forget("web"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(notified()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("who waits is not told")
		}
	}
	if got := c.tree.Poll(fh, 7, true); got != pollFailed {
		t.Errorf("poll says %x", got)
	}
	if got := c.tree.Poll(stays, 8, true); got != pollReady {
		t.Errorf("poll of another container says %x", got)
	}
	if c.tree.triggers.all != 1 {
		t.Errorf("%d triggers are left, want the other container's", c.tree.triggers.all)
	}
	c.release(n, fh)
	c.release(one, stays)
	if c.tree.triggers.all != 0 {
		t.Errorf("%d triggers are left", c.tree.triggers.all)
	}
}

func TestOnlyPressureCanBeWritten(t *testing.T) {
	c, _, _ := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	meminfo := c.walk(machinePID, "c", "web", "proc", "meminfo")
	if _, errno := c.write(n, c.mustOpen(n, webPID), webPID, cpuTrigger); errno != int32(syscall.EBADF) {
		t.Errorf("write to a descriptor that reads: errno %d", errno)
	}
	if _, errno := c.write(meminfo, c.mustOpen(meminfo, webPID), webPID, cpuTrigger); errno != int32(syscall.EBADF) {
		t.Errorf("write to meminfo: errno %d", errno)
	}
	if _, errno := c.write(n, 4711, webPID, cpuTrigger); errno != int32(syscall.EBADF) {
		t.Errorf("write to no open file: errno %d", errno)
	}
	for _, test := range []struct {
		n     node
		valid uint32
		want  syscall.Errno
	}{
		{n, fuse.FATTR_SIZE, 0},
		{n, fuse.FATTR_SIZE | fuse.FATTR_FH | fuse.FATTR_LOCKOWNER | fattrKillSuidgid, 0},
		{n, fuse.FATTR_SIZE | fuse.FATTR_MTIME, syscall.EPERM},
		{n, fuse.FATTR_MODE, syscall.EPERM},
		{n, 0, syscall.EPERM},
		{meminfo, fuse.FATTR_SIZE, syscall.EPERM},
		{c.walk(machinePID, "proc"), fuse.FATTR_SIZE, syscall.EPERM},
	} {
		out, errno := c.setattr(test.n, webPID, test.valid)
		if errno != int32(test.want) {
			t.Errorf("setattr of %x with %x: errno %d, want %d", test.n, test.valid, errno, test.want)
		}
		if test.want == 0 && (out.Mode != syscall.S_IFREG|0o644 || out.Size == 0) {
			t.Errorf("the file becomes %+v", out.Attr)
		}
	}
}

// Writers, pollers, events and ends at the same time.
func TestTriggersAtOnce(t *testing.T) {
	c, w, _ := mountPressure(t)
	n := c.walk(machinePID, "c", "web", "proc", "pressure", "cpu")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			me := *c
			me.unique = uint64(i+1) << 32
			for range 100 {
				fh := me.openToWrite(n, webPID)
				me.write(n, fh, webPID, cpuTrigger)
				w.mu.Lock()
				ids := slices.Clone(w.ids[max(0, len(w.ids)-8):])
				w.mu.Unlock()
				for _, id := range ids {
					w.event(id, id%7 == 0)
				}
				me.tree.Poll(fh, uint64(i), true)
				me.write(n, fh, webPID, cpuTrigger)
				me.release(n, fh)
			}
		})
	}
	all.Go(func() {
		for range 100 {
			c.tree.triggers.forget(ownNode(0, 0).slot())
			c.tree.triggers.forget(n.slot())
		}
	})
	all.Wait()
	for deadline := time.Now().Add(10 * time.Second); openFiles(t, c.m.Root+"/sys/fs/cgroup/c2/cpu.pressure") > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are left", openFiles(t, c.m.Root+"/sys/fs/cgroup/c2/cpu.pressure"))
		}
	}
	if triggers := &c.tree.triggers; triggers.all != 0 || len(triggers.byID) != 0 || len(triggers.count) != 0 {
		t.Errorf("left: %d, %v, %v", triggers.all, triggers.byID, triggers.count)
	}
}

// The real watch, on what fires without a kernel's pressure: out-of-band data is POLLPRI, and a pipe without a reader is
// POLLERR.
func TestEpoll(t *testing.T) {
	type happened struct {
		id   uint64
		gone bool
	}
	events := make(chan happened, 100)
	var once sync.Map
	w, err := newEpoll(func(id uint64, gone bool) {
		if _, again := once.LoadOrStore(id, true); !again { // these are not taken by being told, as a trigger's are
			events <- happened{id, gone}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no network: ", err)
	}
	defer server.Close()
	near, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	fd := func(conn net.Conn) (fd int) {
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return int(f.Fd())
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	const wide = 1<<40 | 5 // an id of more than 32 bits
	if err := w.add(fd(near), wide); err != nil {
		t.Fatal(err)
	}
	if err := w.add(pipe[1], 2); err != nil {
		t.Fatal(err)
	}
	next := func() happened {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
			return happened{}
		}
	}
	if err := unix.Sendto(fd(far), []byte("!"), unix.MSG_OOB, nil); err != nil {
		t.Fatal(err)
	}
	if e := next(); e != (happened{wide, false}) {
		t.Errorf("event %+v", e)
	}
	unix.Close(pipe[0])
	if e := next(); e != (happened{2, true}) {
		t.Errorf("event %+v", e)
	}
	w.close()
	if len(events) != 0 {
		t.Errorf("%d more events", len(events))
	}
}
