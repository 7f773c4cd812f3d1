package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/host"
)

// pressureFile is what a pressure file looks like: before Linux 5.13 cpu has no line "full", and irq has no "some".
var pressureFile = regexp.MustCompile(`\A((some|full) avg10=\d+\.\d\d avg60=\d+\.\d\d avg300=\d+\.\d\d total=\d+\n){1,2}\z`)

// pressures are the resources whose pressure this kernel counts.
var pressures = func() (list []string) {
	for _, r := range []string{"cpu", "memory", "io", "irq"} {
		if _, err := os.Stat("/proc/pressure/" + r); err == nil {
			list = append(list, r)
		}
	}
	return list
}()

func init() {
	for _, r := range pressures {
		files["proc/pressure/"+r] = pressureFile
	}
}

// countsPressure says whether the machine's cgroups count pressure: those of v2 do.
var countsPressure = sync.OnceValue(func() bool {
	return len(pressures) > 0 && slices.ContainsFunc(hierarchies(), func(h hierarchy) bool { return h.v2 })
})

// pressureOf is the group's own pressure file; "" where there is none.
func (g *group) pressureOf(resource string) string {
	for _, h := range hierarchies() {
		if h.v2 {
			return filepath.Join(h.dir, g.path, resource+".pressure")
		}
	}
	return ""
}

// threshold fires after 100 ms of pressure in 2 s, the shortest window that needs no privilege.
const threshold = "some 100000 2000000"

// setTrigger opens a pressure file as monitors do and sets a trigger.
func setTrigger(path, trigger string) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	if _, err := unix.Write(fd, append([]byte(trigger), 0)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("write: %w", err)
	}
	return fd, nil
}

// playMonitor sets a trigger and tells of each event until its input ends: args are the way to wait, the trigger and the
// file.
func playMonitor(args []string) error {
	fd, err := setTrigger(args[2], args[1])
	if err != nil {
		return err
	}
	fmt.Println("armed")
	switch args[0] {
	case "child":
		cmd := exec.Command(selfExe)
		cmd.Env = append(os.Environ(), roleEnv+"=child")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), args[2])}
		return cmd.Run()
	case "threads":
		errs := make(chan error)
		for range 3 {
			go func() { errs <- waitFor(fd, "poll") }()
		}
		return errors.Join(<-errs, <-errs, <-errs)
	}
	return waitFor(fd, args[0])
}

// playChild waits for the trigger that its parent set.
func playChild([]string) error { return waitFor(3, "poll") }

// waitFor prints "event" for each event and "gone" when the trigger's cgroup is, and returns then or at the end of the
// input.
func waitFor(fd int, way string) error {
	wait := func() (trigger, input uint32, err error) {
		timeout := -1
		if way == "timeout" {
			timeout = 50
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: 0, Events: unix.POLLIN}}
		_, err = unix.Poll(fds, timeout)
		return uint32(fds[0].Revents), uint32(fds[1].Revents), err
	}
	if strings.HasPrefix(way, "epoll") {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return err
		}
		events := uint32(unix.EPOLLPRI)
		if way == "epollet" {
			events |= unix.EPOLLET
		}
		if err := errors.Join(
			unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}),
			unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, 0, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 0}),
		); err != nil {
			return err
		}
		wait = func() (trigger, input uint32, err error) {
			var events [2]unix.EpollEvent
			n, err := unix.EpollWait(ep, events[:], -1)
			for _, e := range events[:max(n, 0)] {
				if e.Fd == 0 {
					input = e.Events
				} else {
					trigger = e.Events
				}
			}
			return trigger, input, err
		}
	}
	for {
		trigger, input, err := wait()
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case trigger&unix.POLLERR != 0:
			fmt.Println("gone")
			return nil
		case trigger&unix.POLLPRI != 0:
			fmt.Println("event")
		case input != 0:
			return nil
		}
	}
}

// monitor starts a monitor and waits until it has its trigger. A nil container is the host.
func monitor(t *testing.T, c *container, way, trigger, path string) *process {
	t.Helper()
	cmd := exec.Command(selfExe, way, trigger, path)
	cmd.Env = append(os.Environ(), roleEnv+"=monitor")
	if c != nil {
		cmd = c.command(selfExe, "monitor", way, trigger, path)
	}
	p := start(t, 10*time.Minute, cmd)
	p.expect("armed")
	return p
}

// events is how often a monitor's trigger fired.
func events(p *process) int { return strings.Count(p.out.String(), "event\n") }

// countEvents counts the events of monitors at a moment when nobody is about to tell of one. A trigger fires once in its
// window of 2 s at most, so there is such a moment soon.
func countEvents(t *testing.T, monitors map[string]*process) map[*process]int {
	t.Helper()
	deadline := time.Now().Add(timeout(30 * time.Second))
	for last := map[*process]int(nil); ; time.Sleep(200 * time.Millisecond) {
		now := map[*process]int{}
		for _, m := range monitors {
			now[m] = events(m)
		}
		if maps.Equal(now, last) {
			return now
		}
		if time.Now().After(deadline) {
			t.Fatalf("events without end: %v", now)
		}
		last = now
	}
}

// native is the kernel's file that a container of the group is to be shown.
func (g *group) native(resource string) string {
	if countsPressure() {
		return g.pressureOf(resource)
	}
	return "/proc/pressure/" + resource
}

// pressureWays are all the ways in which a container gets at its pressure.
var pressureWays = map[string]bindKind{"own": ownFUSE, "compat": compatTree, "direct": ownTree}

func needPressure(t *testing.T) {
	t.Helper()
	if len(pressures) == 0 {
		t.Skip("this kernel counts no pressure (psi=1)")
	}
}

// TestPressureTriggers makes CPU pressure and compares how often triggers fire in the container with the kernel's own on
// the same cgroup.
func TestPressureTriggers(t *testing.T) {
	needPressure(t)
	t.Parallel()
	d := startDaemon(t)
	// Those who watch the container that rests are outside of it: on a machine with more to do than it can, a program that
	// only wakes up now and then waits for a CPU as well.
	idle := startContainer(t, d, newGroup(t), options{bind: ownFUSE})
	rest := monitor(t, nil, "epoll", threshold, filepath.Join(d.mount, "c", idle.id, "proc/pressure/cpu"))
	restOwn := monitor(t, nil, "poll", threshold, idle.group.native("cpu"))
	t.Run("busy", func(t *testing.T) {
		for name, bind := range pressureWays {
			t.Run(name, func(t *testing.T) {
				if !inVM { // they take more than its emulated CPUs have
					t.Parallel()
				}
				c := startContainer(t, d, newGroup(t), options{bind: bind})
				own := monitor(t, nil, "poll", threshold, c.group.native("cpu"))
				monitors := map[string]*process{}
				for _, way := range []string{"poll", "timeout", "epoll", "epollet", "child", "threads"} {
					monitors[way] = monitor(t, c, way, threshold, "/proc/pressure/cpu")
				}
				monitors["the kernel's own"] = own
				before := countEvents(t, monitors) // to start programs is pressure, too
				c.group.cpus(0.2)
				burn := c.start("burning", "burn", "2")
				for deadline := time.Now().Add(timeout(60 * time.Second)); events(own) < before[own]+4; time.Sleep(20 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%d events of the kernel's own", events(own)-before[own])
					}
				}
				burn.kill()
				c.group.cpus(0) // which monitors alone may exceed in a slow guest
				after := countEvents(t, monitors)
				want := after[own] - before[own]
				for way, m := range monitors {
					if got := after[m] - before[m]; !near(got, want, 1) {
						t.Errorf("%s: %d events, the kernel's own had %d", way, got, want)
					}
					finish(m)
				}
			})
		}
	})
	if got, want := events(rest), events(restOwn); countsPressure() && got != 0 && want == 0 {
		t.Errorf("%d events of a container that rests", got)
	}
	finish(rest)
	finish(restOwn)
}

// pressureLine is one line of a pressure file.
type pressureLine struct {
	kind  string
	avg   [3]float64
	total uint64
}

func parsePressure(text string) (lines []pressureLine, err error) {
	if !pressureFile.MatchString(text) {
		return nil, fmt.Errorf("no pressure file: %q", text)
	}
	for text := range strings.Lines(text) {
		var l pressureLine
		if _, err := fmt.Sscanf(text, "%s avg10=%f avg60=%f avg300=%f total=%d\n", &l.kind, &l.avg[0], &l.avg[1], &l.avg[2], &l.total); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// TestPressureContent compares what a container reads with the kernel's file, read before and after.
func TestPressureContent(t *testing.T) {
	needPressure(t)
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range pressureWays {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t).cpus(0.2), options{bind: bind})
			burn := c.start("burning", "burn", "2")
			for deadline := time.Now().Add(timeout(30 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
				if lines, err := parsePressure(c.read("proc/pressure/cpu")); err == nil && lines[0].total > 100_000 {
					break
				} else if err != nil || time.Now().After(deadline) {
					t.Fatalf("no pressure of a container that is held back: %+v, %v", lines, err)
				}
			}
			finish(burn)
			parse := func(text string) []pressureLine {
				lines, err := parsePressure(text)
				if err != nil {
					t.Fatal(err)
				}
				return lines
			}
			for _, r := range pressures {
				machine := parse(readString(t, "/proc/pressure/"+r) + "\n")
				before := parse(readString(t, c.group.native(r)) + "\n")
				got := parse(c.read("proc/pressure/" + r))
				after := parse(readString(t, c.group.native(r)) + "\n")
				if len(got) != len(before) {
					t.Errorf("%s: %d lines, the kernel's file has %d", r, len(got), len(before))
					continue
				}
				for i, l := range got {
					if l.kind != before[i].kind || l.total < before[i].total || l.total > after[i].total {
						t.Errorf("%s: %+v, the kernel's file had %+v, then %+v", r, l, before[i], after[i])
					}
				}
				if countsPressure() && r == "cpu" && got[0].total == machine[0].total {
					t.Errorf("%s: the machine's %+v", r, got)
				}
				for _, cat := range []string{"cat", "busybox cat"} {
					if inVM && cat == "cat" {
						continue // there is no other
					}
					if _, err := parsePressure(c.shell(cat + " /proc/pressure/" + r)); err != nil {
						t.Errorf("%s: %v", cat, err)
					}
				}
			}
			var st unix.Statfs_t
			path := fmt.Sprintf("/proc/%d/root/proc/pressure/cpu", c.pid)
			_, err := bounded(path, func() (struct{}, error) { return struct{}{}, unix.Statfs(path, &st) })
			want := int64(unix.FUSE_SUPER_MAGIC)
			if bind == ownTree && countsPressure() {
				want = unix.CGROUP2_SUPER_MAGIC
			}
			if err != nil || int64(st.Type) != want {
				t.Errorf("bound from file system %x, want %x: %v", st.Type, want, err)
			}
		})
	}
}

// triggerTexts are what is written to pressure files, valid and not. The last are for /proc/pressure as well, which takes
// the last byte, and what is behind the 31st, for the end.
var triggerTexts = []string{
	"some 150000 2000000", "full 150000 2000000", "some 150000 1000000", "some 150000 500000", "some 150000 499999",
	"some 150000 10000000", "some 150000 10000001", "some 0 2000000", "some 2000000 2000000", "some 2000001 2000000",
	"some -1 2000000", "some 150000", "some", "", "garbage", "most 150000 2000000", "SOME 150000 2000000",
	"some 150000 2000000 7", "some150000 2000000", "some 1e5 2000000", "some 99999999999999999999 2000000", "\x00", "\n",
	"  some 150000 2000000", "some 150000 2000000" + strings.Repeat(" ", 4000), "some 150000 2000000" + strings.Repeat(" ", 5000),
	strings.Repeat("x", 4096), strings.Repeat("x", 4097), strings.Repeat("x", 20000),
	"some 150000 2000000\x00", "some 150000 2000000\n", "full 150000 2000000\x00", "some 150000 1000000\x00", "some 150000 499999\x00",
	"some 150000 10000001\x00", "some 0 2000000\x00", "some 2000001 2000000\x00", "some 150000\x00", "garbage\n",
}

// playTriggers writes each of the texts to a pressure file opened anew, twice, polls it, and prints what came of it as JSON. The
// arguments are the file and as whom: "root", "nobody", or "unprivileged", root without CAP_SYS_RESOURCE.
func playTriggers(args []string) error {
	all := func() error {
		var results []string
		for _, text := range triggerTexts {
			fd, err := unix.Open(args[0], unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				results = append(results, "open: "+err.Error())
				continue
			}
			poll := func() uint16 {
				fds := []unix.PollFd{{Fd: int32(fd), Events: -1 &^ (unix.POLLERR | unix.POLLHUP)}}
				_, _ = unix.Poll(fds, 0)
				return uint16(fds[0].Revents)
			}
			before := poll()
			n, err := unix.Write(fd, []byte(text))
			after := poll()
			again, errAgain := unix.Write(fd, []byte("some 150000 2000000\x00"))
			unix.Close(fd)
			results = append(results, fmt.Sprintf("poll %x, write %d %v, poll %x, again %d %v", before, n, err, after, again, errAgain))
		}
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	switch args[1] {
	case "nobody":
		runtime.LockOSThread() // to the end: the user is this thread's
		if _, _, errno := unix.RawSyscall(unix.SYS_SETUID, 65534, 0, 0); errno != 0 {
			return errno
		}
	case "unprivileged":
		return host.AsUnprivileged(all)
	}
	return all()
}

// TestPressureErrors writes all sorts of triggers: the kernel's answers come back. It runs beside no others: the kernel
// starts and ends a thread for many of them, and waits for all CPUs with each.
func TestPressureErrors(t *testing.T) {
	needPressure(t)
	d := startDaemon(t)
	answers := func(cmd *exec.Cmd) (list []string) {
		t.Helper()
		if err := json.Unmarshal([]byte(start(t, patience, cmd).wait()), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	for name, bind := range map[string]bindKind{"own": ownFUSE, "compat": compatTree} {
		c := startContainer(t, d, newGroup(t), options{bind: bind})
		for _, as := range []string{"root", "unprivileged", "nobody"} {
			if as != "root" && bind != ownFUSE {
				continue
			}
			// Who may open it is said by /proc/pressure; the rest by the file that the trigger is set on.
			native, texts := c.group.native("cpu"), 0
			if as != "root" {
				native = "/proc/pressure/cpu"
				texts = slices.Index(triggerTexts, "some 150000 2000000\x00")
			}
			cmd := exec.Command("/proc/self/exe", native, as)
			cmd.Env = append(os.Environ(), roleEnv+"=triggers")
			want := answers(cmd)
			got := answers(c.command(selfExe, "triggers", "/proc/pressure/cpu", as))
			for i := texts; i < len(triggerTexts); i++ {
				if triggerTexts[i] == "" && !countsPressure() {
					continue // /proc/pressure refuses it, a cgroup's file does not, and FUSE never hears of it
				}
				if got[i] != want[i] {
					t.Errorf("%s, %s writes %.40q (%d bytes): %s, the kernel says %s", name, as, triggerTexts[i], len(triggerTexts[i]), got[i], want[i])
				}
			}
		}
		// As a shell does it: the file is truncated first.
		c.shell("echo some 150000 2000000 > /proc/pressure/cpu; echo some 150000 2000000 >> /proc/pressure/io")
		if out := c.shell("echo nonsense > /proc/pressure/cpu 2>&1; echo nonsense 2>&1 >/proc/pressure/memory; true"); !strings.Contains(out, "nvalid argument") {
			t.Errorf("%s: a shell that writes nonsense says %q", name, out)
		}
	}
}

// playHold sets as many triggers as its second argument says on a file, prints how many it got, and keeps them until its
// input ends.
func playHold(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	got := 0
	for range n {
		_, err := setTrigger(args[0], threshold)
		switch {
		case err == nil:
			got++
		case !errors.Is(err, unix.ENOSPC):
			return err
		}
	}
	fmt.Println("got", got)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// TestPressureBounds sets more triggers than a container may have.
func TestPressureBounds(t *testing.T) {
	needPressure(t)
	t.Parallel()
	d := startDaemon(t)
	const bound = 32
	for name, bind := range map[string]bindKind{"own": ownFUSE, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t), options{bind: bind})
			neighbour := startContainer(t, d, newGroup(t), options{bind: bind})
			hog := c.start("got", "hold", "/proc/pressure/cpu", "40")
			if got := hog.out.String(); got != fmt.Sprintln("got", bound) {
				t.Errorf("of 40 triggers: %s", got)
			}
			other := neighbour.start("got", "hold", "/proc/pressure/memory", "20")
			if got := other.out.String(); got != "got 20\n" {
				t.Errorf("its neighbour, of 20 triggers: %s", got)
			}
			finish(other)
			hog.kill()
			for deadline := time.Now().Add(timeout(10 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
				again := c.start("got", "hold", "/proc/pressure/memory", fmt.Sprint(bound))
				finish(again)
				if again.out.String() == fmt.Sprintln("got", bound) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after it was killed, of %d triggers: %s", bound, again.out.String())
				}
			}
		})
	}
	// None is left in the daemon.
	for deadline := time.Now().Add(timeout(10 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
		held := openWrites(t, d)
		if len(held) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon holds %v", held)
		}
	}
}

// openWrites are the pressure files that a daemon has open for triggers.
func openWrites(t *testing.T, d *daemon) (list []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	entries, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, err := os.Readlink(dir + "fd/" + e.Name())
		info, err2 := os.ReadFile(dir + "fdinfo/" + e.Name())
		if err != nil || err2 != nil || !strings.Contains(to, "pressure") {
			continue
		}
		var flags int
		_, rest, _ := strings.Cut(string(info), "flags:")
		if _, err := fmt.Sscanf(rest, "%o", &flags); err == nil && flags&unix.O_ACCMODE == unix.O_RDWR {
			list = append(list, to)
		}
	}
	return list
}

// TestPressureGone removes the cgroup of a trigger, and has the container forgotten: who waits is told, as the kernel does.
func TestPressureGone(t *testing.T) {
	needPressure(t)
	if !countsPressure() {
		t.Skip("no cgroup counts pressure here")
	}
	t.Parallel()
	d := startDaemon(t)
	d.fallbacks = true // the files of containers that are gone are still looked at
	gone, forgotten := newGroup(t), newGroup(t)
	c := startContainer(t, d, gone, options{bind: ownFUSE})
	other := startContainer(t, d, forgotten, options{bind: ownFUSE})
	file := func(c *container) string { return filepath.Join(d.mount, "c", c.id, "proc/pressure/cpu") }
	var waiting []*process
	for _, way := range []string{"poll", "epoll", "epollet"} {
		waiting = append(waiting, monitor(t, nil, way, threshold, file(c)))
	}
	own := monitor(t, nil, "poll", threshold, gone.pressureOf("cpu"))
	stays := monitor(t, nil, "poll", threshold, file(other))
	c.stop()
	gone.remove()
	own.expect("gone")
	for _, m := range waiting {
		m.expect("gone")
	}
	if out := stays.out.String(); strings.Contains(out, "gone") {
		t.Error("another container's trigger ended")
	}
	if err := control.Forget(t.Context(), d.socket, other.id); err != nil {
		t.Fatal(err)
	}
	stays.expect("gone")
	if held := openWrites(t, d); len(held) != 0 {
		t.Errorf("the daemon holds %v", held)
	}
	last := monitor(t, nil, "epoll", threshold, file(startContainer(t, d, newGroup(t), options{bind: ownFUSE})))
	d.stop()
	last.expect("gone")
}

// TestPressureDirect looks at what is bound from the cgroup itself: it needs no daemon, and does not keep the cgroup.
func TestPressureDirect(t *testing.T) {
	needPressure(t)
	if !countsPressure() {
		t.Skip("no cgroup counts pressure here")
	}
	t.Parallel()
	d := startDaemon(t)
	g := newGroup(t).cpus(0.2)
	c := startContainer(t, d, g, options{bind: ownTree})
	m := monitor(t, c, "epoll", threshold, "/proc/pressure/cpu")
	if held := openWrites(t, d); len(held) != 0 {
		t.Errorf("the trigger is the daemon's: %v", held)
	}
	d.stop()
	later := monitor(t, c, "poll", threshold, "/proc/pressure/cpu")
	burn := c.start("burning", "burn", "2")
	m.expect("event")
	later.expect("event")
	if _, err := parsePressure(c.read("proc/pressure/memory")); err != nil {
		t.Error(err)
	}
	burn.kill()
	finish(m)
	finish(later)
	c.stop()
	g.remove() // fails the test where it cannot
}

// playThrash reads a file again and again until its input ends.
func playThrash(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Println("thrashing")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	buf := make([]byte, 1<<20)
	for {
		select {
		case <-ended:
			return nil
		default:
		}
		if _, err := f.Read(buf); err == io.EOF {
			_, err = f.Seek(0, io.SeekStart)
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
}

// playOomd does what systemd-oomd and services that watch their memory pressure do: it waits with epoll for a trigger on
// the file, and reads the file every second besides. It prints "pressure" when the trigger fired and the total has grown.
func playOomd(args []string) error {
	kinds := args[1:]
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		fd, err := setTrigger(args[0], kind+" 10000 2000000")
		if err != nil {
			return err
		}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLPRI, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, 0, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 0}); err != nil {
		return err
	}
	read := func() ([]pressureLine, error) {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return nil, err
		}
		return parsePressure(string(text))
	}
	first, err := read()
	if err != nil {
		return err
	}
	last := first
	fmt.Println("watching")
	for {
		var events [4]unix.EpollEvent
		n, err := unix.EpollWait(ep, events[:], 1000)
		if err != nil && err != unix.EINTR {
			return err
		}
		now, err := read()
		if err != nil {
			return err
		}
		for i := range now {
			if now[i].total < last[i].total {
				return fmt.Errorf("the total of %s fell from %d to %d", now[i].kind, last[i].total, now[i].total)
			}
		}
		last = now
		for _, e := range events[:max(n, 0)] {
			switch {
			case e.Fd == 0:
				return nil
			case e.Events&unix.EPOLLERR != 0:
				return errors.New("the trigger is gone")
			case last[0].total > first[0].total:
				fmt.Println("pressure")
			default:
				return fmt.Errorf("an event without pressure: %+v", last)
			}
		}
	}
}

// playReader does what Meta's oomd and its like do: it reads all files every so often and looks whether totals grow. The
// arguments are the resources.
func playReader(args []string) error {
	last := map[string][]pressureLine{}
	grown := map[string]bool{}
	for range 25 {
		for _, r := range args {
			text, err := os.ReadFile("/proc/pressure/" + r)
			if err != nil {
				return err
			}
			now, err := parsePressure(string(text))
			if err != nil {
				return err
			}
			for i, old := range last[r] {
				if now[i].kind != old.kind || now[i].total < old.total {
					return fmt.Errorf("%s: %+v after %+v", r, now[i], old)
				}
				grown[r] = grown[r] || now[i].total > old.total
			}
			last[r] = now
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, r := range args {
		fmt.Println(r, grown[r])
	}
	return nil
}

// TestPressureClients runs clients like systemd-oomd and Meta's oomd in a container that lacks memory.
func TestPressureClients(t *testing.T) {
	needPressure(t)
	t.Parallel()
	const limit = 32 * miB
	file := filepath.Join(scratch(t), "file")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Write(make([]byte, 3*limit))
	// Pages that are in the cache already would be the test's, and cost the container nothing.
	if err := errors.Join(err, f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	onDisk := func() bool {
		var st unix.Statfs_t
		return unix.Statfs(file, &st) == nil && st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC
	}()
	d := startDaemon(t)
	for name, bind := range pressureWays {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t).memory(limit).cpus(0.5)
			c := startContainer(t, d, g, options{bind: bind})
			kinds := []string{"some", "full"}
			oomd := c.start("watching", append([]string{"oomd", "/proc/pressure/memory"}, kinds...)...)
			if onDisk {
				c.start("thrashing", "thrash", file)
				c.start("thrashing", "thrash", file)
			} else if !hogSwap(t, c, g) {
				t.Skip("neither a disk nor swap to make memory pressure with")
			}
			oomd.expect("pressure")
			finish(oomd)
			out := c.run(append([]string{selfExe, "reader"}, pressures...)...)
			if !strings.Contains(out, "memory true\n") || !strings.Contains(out, "cpu true\n") {
				t.Errorf("what grew: %s", out)
			}
		})
	}
}

// hogSwap makes a process of the container use more memory than it may have, with the swap for the rest.
func hogSwap(t *testing.T, c *container, g *group) bool {
	t.Helper()
	swaps := readString(t, "/proc/swaps")
	if !strings.Contains(swaps, "\n") || !accountsSwap() {
		return false
	}
	g.swap(128 * miB)
	c.start("ready", "churn", fmt.Sprint(64*miB))
	return true
}

// playChurn uses all of its memory again and again until its input ends.
func playChurn(args []string) error {
	bytes, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for n := byte(1); ; n++ {
		for i := 0; i < len(mem); i += os.Getpagesize() {
			mem[i] = n ^ byte(i>>12)
		}
	}
}

// TestPressureRun looks at a container of scopefs run.
func TestPressureRun(t *testing.T) {
	needPressure(t)
	t.Parallel()
	d := startDaemon(t)
	want := "fuse"
	if countsPressure() {
		want = "cgroup2"
	}
	for name, socket := range map[string]string{"running daemon": d.socket, "private daemon": filepath.Join(scratch(t), "none.sock")} {
		out := output(t, scopefs, "run", "--socket", socket, "--cpus", "0.5", "--", "busybox", "sh", "-c",
			`grep ' /proc/pressure/cpu ' /proc/self/mounts && cat /proc/pressure/cpu && echo some 150000 2000000 >/proc/pressure/cpu && echo set`)
		mount, rest, _ := strings.Cut(out, "\n")
		text, set := strings.CutSuffix(rest, "set\n")
		if f := strings.Fields(mount); len(f) < 4 || !strings.HasPrefix(f[2], want) || !strings.HasPrefix(f[3], "rw,nosuid,nodev,noexec") {
			t.Errorf("%s: mount %q, want %s", name, mount, want)
		}
		if _, err := parsePressure(text); err != nil || !set {
			t.Errorf("%s: %v, trigger set: %v\n%s", name, err, set, out)
		}
	}
}

// TestPressureNSDelegate is about hosts as systemd sets them up: a container with a cgroup namespace may not set triggers on
// its cgroup's own file, so it is given ours. The tests run beside no others, as the whole machine is changed.
func TestPressureNSDelegate(t *testing.T) {
	needPressure(t)
	if !inVM || !countsPressure() {
		t.Skip("changes how cgroup v2 is mounted: in a VM that has it")
	}
	need(t, "nsenter")
	mountPoint := strings.TrimSuffix((&group{path: "/x"}).pressureOf("cpu"), "/x/cpu.pressure")
	remount := func(options string) {
		t.Helper()
		if err := unix.Mount("", mountPoint, "", unix.MS_REMOUNT, options); err != nil {
			t.Fatal(err)
		}
	}
	before := output(t, "busybox", "grep", " "+mountPoint+" ", "/proc/self/mounts")
	remount("nsdelegate")
	t.Cleanup(func() { remount("") })
	d := startDaemon(t)
	g := newGroup(t)
	c := startContainer(t, d, g, options{bind: noBinds})
	if err := c.order(orders{CgroupNS: true}); err != nil {
		t.Fatal(err)
	}
	write := "echo some 150000 2000000 2>&1 >" + g.pressureOf("cpu") + "; true"
	if out := output(t, "nsenter", "-C", "-t", fmt.Sprint(c.pid), "busybox", "sh", "-c", write); !strings.Contains(out, "not permitted") {
		t.Errorf("the kernel's own file in a cgroup namespace: %q (mounted %s)", out, before)
	}
	v, err := control.Announce(t.Context(), d.socket, c.id, c.pid)
	if err != nil || len(v.Direct) != 0 || !slices.Contains(v.Files, "proc/pressure/cpu") {
		t.Fatalf("announced: %+v, %v", v, err)
	}
	if err := c.order(orders{View: v, Hook: true}); err != nil {
		t.Fatal(err)
	}
	if out := output(t, "nsenter", "-C", "-m", "-t", fmt.Sprint(c.pid), "busybox", "sh", "-c",
		"echo some 150000 2000000 2>&1 >/proc/pressure/cpu; true"); out != "" {
		t.Errorf("ours: %q", out)
	}
	plain := startContainer(t, d, newGroup(t), options{bind: noBinds})
	if v, err := control.Announce(t.Context(), d.socket, plain.id, plain.pid); err != nil || v.Direct["proc/pressure/cpu"] != plain.group.pressureOf("cpu") {
		t.Errorf("without a cgroup namespace: %+v, %v", v, err)
	}
}
