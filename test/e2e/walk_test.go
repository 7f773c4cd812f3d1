package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
)

// shown is what tells one container from another.
type shown struct {
	KB   int64 // MemTotal
	CPUs int
}

// walkOrders are what a walker is told.
type walkOrders struct {
	// Roots are walked over and over: a mount of a daemon, or paths of files and directories in the container.
	Mount string
	Roots []string
	// Reader is whose numbers the walker has to see in the shared tree, and in Roots.
	Reader, Machine shown
	// Fails are the machine's own files that cannot be read, and how.
	Fails map[string]syscall.Errno
}

// walkResult is what a walker saw.
type walkResult struct {
	Walks, Dirs, Files, Links int
	// Gone counts what was not there any more, or showed the machine's numbers, because its container went.
	Gone   int
	Errors []string
}

// walker reads everything in a tree.
type walker struct {
	walkOrders
	walkResult
	over atomic.Bool
}

// playWalk walks until its input ends and prints what it saw.
func playWalk(args []string) error {
	var w walker
	if err := json.Unmarshal([]byte(args[0]), &w.walkOrders); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		w.over.Store(true)
	}()
	fmt.Println("walking")
	for ; !w.stop(); w.Walks++ {
		if w.Mount != "" {
			w.mount()
		}
		for _, root := range w.Roots {
			w.entry(place{path: root, file: strings.TrimPrefix(root, "/"), want: w.Reader})
		}
	}
	return json.NewEncoder(os.Stdout).Encode(w.walkResult)
}

func (w *walker) stop() bool { return w.over.Load() || len(w.Errors) >= 5 }

// place is a file or directory on a walk.
type place struct {
	path string
	file string // its path in the view
	want shown  // whose numbers it has to show
	own  string // the container's own subtree that it is in
}

func (p place) child(name string) place {
	p.path, p.file = p.path+"/"+name, strings.TrimPrefix(p.file+"/"+name, "/")
	return p
}

// mount walks a daemon's whole tree.
func (w *walker) mount() {
	for _, name := range w.names(place{path: w.Mount}) {
		top := place{path: w.Mount + "/" + name, want: w.Reader}
		switch name {
		case "proc", "sys":
			// They lead whoever follows them to files of its own.
			if _, err := os.Readlink(top.path); err != nil {
				w.fail(top, err)
			}
			w.directory(place{path: top.path, file: name, want: w.Reader})
		case "by":
			for _, slot := range w.names(top) {
				w.entry(place{path: top.path + "/" + slot, want: w.Reader})
			}
		case "c":
			for _, id := range w.names(top) {
				own := place{path: top.path + "/" + id, own: top.path + "/" + id}
				if _, err := fmt.Sscanf(id, walkID, &own.want.KB, &own.want.CPUs); err != nil {
					w.fail(own, err)
				}
				w.entry(own)
			}
		default:
			w.fail(top, errors.New("an unknown name at the top"))
		}
	}
}

// walkID is the name of a container: MemTotal in kB, CPUs.
const walkID = "walk-%d-%d"

func (w *walker) names(p place) []string {
	list, err := os.ReadDir(p.path)
	w.Dirs++
	if err != nil {
		w.fail(p, err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// entry looks at a name that was listed.
func (w *walker) entry(p place) {
	if w.stop() {
		return
	}
	st, err := os.Lstat(p.path)
	switch {
	case err != nil:
		w.fail(p, err)
	case st.Mode().Type() == fs.ModeSymlink:
		w.Links++
		if _, err := os.Readlink(p.path); err != nil {
			w.fail(p, err)
		}
	case st.IsDir():
		w.directory(p)
	case st.Mode().Perm()&0o444 != 0:
		w.Files++
		text, err := os.ReadFile(p.path)
		if err != nil {
			w.fail(p, err)
		} else if got := w.compare(p.file, string(text), p.want); got != nil {
			w.foreign(p, func() bool { return w.compare(p.file, string(text), w.Machine) == nil }, got)
		}
	}
}

func (w *walker) directory(p place) {
	names := w.names(p)
	if p.file == "sys/devices/system/cpu" {
		cpus := 0
		for _, name := range names {
			if oneCPU.MatchString(name) {
				cpus++
			}
		}
		if cpus > 0 && cpus != p.want.CPUs {
			w.foreign(p, func() bool { return cpus == w.Machine.CPUs }, fmt.Errorf("%d CPUs listed, want %d", cpus, p.want.CPUs))
		}
	}
	for _, name := range names {
		w.entry(p.child(name))
	}
}

var (
	oneCPU  = regexp.MustCompile(`^cpu\d+$`)
	statRow = regexp.MustCompile(`(?m)^cpu\d+ `)
	// cpuLists are files that list CPUs.
	cpuLists      = regexp.MustCompile(`^sys/devices/system/(cpu/cpu\d+/.*_list|node/node\d+/cpulist)$`)
	meminfoOfNode = regexp.MustCompile(`^sys/devices/system/node/node\d+/meminfo$`)
	totalOfNode   = regexp.MustCompile(`^Node \d+ MemTotal: +(\d+) kB`)
	processors    = regexp.MustCompile(`(?m)^processor\s*: \d+$`)
)

// compare says how a file's text differs from what it has to show.
func (w *walker) compare(file, text string, want shown) error {
	cpus := want.CPUs
	switch file {
	case "proc/meminfo":
		m, err := tryMeminfo(text)
		if err != nil {
			return err
		}
		if kb := m["MemTotal"] / kiB; kb != want.KB {
			return fmt.Errorf("MemTotal %d kB, want %d", kb, want.KB)
		}
	case "proc/stat":
		cpus = len(statRow.FindAllString(text, -1))
	case "proc/cpuinfo":
		cpus = len(processors.FindAllString(text, -1))
	case "sys/devices/system/cpu/online":
		list := "0\n"
		if want.CPUs > 1 {
			list = fmt.Sprintf("0-%d\n", want.CPUs-1)
		}
		if text != list {
			return fmt.Errorf("CPUs %q, want %q", text, list)
		}
	default:
		if m := totalOfNode.FindStringSubmatch(text); m != nil && meminfoOfNode.MatchString(file) {
			if kb, err := strconv.ParseInt(m[1], 10, 64); err != nil || kb > want.KB {
				return fmt.Errorf("MemTotal of a node %s kB, of all is %d", m[1], want.KB)
			}
		}
		if cpuLists.MatchString(file) {
			for _, n := range digits.FindAllString(text, -1) {
				if cpu, err := strconv.Atoi(n); err != nil || cpu >= want.CPUs {
					return fmt.Errorf("CPUs %q of %d", text, want.CPUs)
				}
			}
		}
	}
	if cpus != want.CPUs {
		return fmt.Errorf("%d CPUs, want %d", cpus, want.CPUs)
	}
	return nil
}

// foreign is a place with other numbers than it has to have. A container that went leaves the machine's, never another's.
func (w *walker) foreign(p place, machines func() bool, err error) {
	if p.own != "" && machines() && went(p.own) {
		w.Gone++
		return
	}
	w.Errors = append(w.Errors, p.path+": "+err.Error())
}

// fail is an error at a place. Only what is of a container that went may be missing.
func (w *walker) fail(p place, err error) {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno) && errno == w.Fails[folded(p.file)] && errno != 0:
	case p.own != "" && errors.Is(err, unix.ENOENT) && went(p.own):
		w.Gone++
	default:
		w.Errors = append(w.Errors, fmt.Sprintf("%s: %v", p.path, err))
	}
}

// went says whether a container's subtree goes away: its end is noticed a moment later than its files are gone.
func went(own string) bool {
	for deadline := time.Now().Add(timeout(patience)); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Lstat(own); errors.Is(err, unix.ENOENT) {
			return true
		}
	}
	return false
}

var digits = regexp.MustCompile(`\d+`)

// folded is the path of a file in sysfs without its numbers.
func folded(file string) string { return digits.ReplaceAllString(file, "N") }

// unreadable are the files of the machine's own trees that cannot be read, such as those of power management.
// A kernel may lack a tree.
func unreadable(t *testing.T) map[string]syscall.Errno {
	t.Helper()
	fails := map[string]syscall.Errno{}
	for _, root := range []string{"/sys/devices/system/cpu", "/sys/devices/system/node", "/proc/pressure"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			_, err = os.ReadFile(path)
			var errno syscall.Errno
			if errors.As(err, &errno) {
				fails[folded(strings.TrimPrefix(path, "/"))] = errno
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fails
}

// goroutines ends a daemon and counts the goroutines that it had, without the runtime's own: these start when they are
// first needed.
func goroutines(t *testing.T, d *daemon) int {
	t.Helper()
	if err := syscall.Kill(d.cmd.Process.Pid, syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	<-d.done
	d.crash()
	log := d.log()
	return strings.Count(log, "\ncreated by ") - strings.Count(log, "\ncreated by runtime.")
}

func descriptors(t *testing.T, d *daemon) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestWalk has 16 processes list, stat and read the whole tree while containers come and go.
func TestWalk(t *testing.T) {
	t.Parallel()
	const length = 8 * time.Second
	program := raceBuild(t)
	d := startDaemonIn(t, scratch(t), program)
	d.fallbacks = true // of what is read of containers that went
	o := walkOrders{Mount: d.mount, Fails: unreadable(t)}
	// What the tests' own cgroup is shown: the machine, or a limit of whoever runs them.
	m := parseMeminfo(t, readFile(t, d.mount+"/proc/meminfo"))
	o.Reader = shown{m["MemTotal"] / kiB, len(statRow.FindAllString(readFile(t, d.mount+"/proc/stat"), -1))}
	o.Machine = shown{parseMeminfo(t, readString(t, "/proc/meminfo")+"\n")["MemTotal"] / kiB, runtime.NumCPU()}
	before := descriptors(t, d)

	// Six on the host, two in each of five containers at a time.
	var hosts []*process
	for i := range 6 {
		if o.Mount = d.mount; i%2 == 1 {
			o.Mount = d.compat
		}
		hosts = append(hosts, startWalk(t, o, func(args ...string) *exec.Cmd {
			cmd := exec.Command(selfExe, args[1:]...)
			cmd.Env = append(cmd.Environ(), roleEnv+"="+args[0])
			return cmd
		}))
	}
	over := time.Now().Add(length)
	var made atomic.Int64
	var sum sumOfWalks
	var wg sync.WaitGroup
	for slot := range 5 {
		wg.Go(func() {
			for i := 0; time.Now().Before(over); i++ {
				t.Run(fmt.Sprintf("%d-%d", slot, i), func(t *testing.T) {
					walkInside(t, d, o, &sum, int(made.Add(1)), slot+i)
				})
			}
		})
	}
	wg.Wait()
	for _, p := range hosts {
		sum.add(t, p)
	}
	t.Logf("%d containers; %+v", made.Load(), sum.walkResult)
	if sum.Walks == 0 || sum.Files == 0 || sum.Dirs == 0 {
		t.Error("nothing was walked")
	}

	var after int
	for range 200 {
		if after = descriptors(t, d); after <= before {
			break
		}
		time.Sleep(timeout(100 * time.Millisecond))
	}
	if after > before {
		t.Errorf("the daemon has %d descriptors open when all containers are gone, before them %d", after, before)
	}
	fresh := startDaemonIn(t, scratch(t), program)
	readFile(t, fresh.mount+"/proc/meminfo")
	was, is := goroutines(t, fresh), goroutines(t, d)
	t.Logf("%d descriptors, before the containers %d; %d goroutines, a fresh daemon has %d", after, before, is, was)
	if was == 0 || is > was+1 { // one may be serving the last of the requests
		t.Errorf("the daemon has %d goroutines when all containers are gone, a fresh one %d", is, was)
	}
}

// startWalk starts a walker; command makes a command of a role and its arguments.
func startWalk(t *testing.T, o walkOrders, command func(args ...string) *exec.Cmd) *process {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, 2*time.Minute, command("walk", string(text)))
	p.expect("walking")
	return p
}

// sumOfWalks adds up what walkers saw.
type sumOfWalks struct {
	sync.Mutex
	walkResult
}

// add ends a walker.
func (s *sumOfWalks) add(t *testing.T, p *process) {
	t.Helper()
	_ = p.in.Close()
	var r walkResult
	if err := json.Unmarshal([]byte(strings.TrimPrefix(p.wait(), "walking\n")), &r); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Errors {
		t.Error(e)
	}
	s.Lock()
	defer s.Unlock()
	s.Walks += r.Walks
	s.Dirs += r.Dirs
	s.Files += r.Files
	s.Links += r.Links
	s.Gone += r.Gone
}

// walkInside is the life of one container, unlike any other by its memory limit and, from its neighbours, by its CPUs.
func walkInside(t *testing.T, d *daemon, o walkOrders, sum *sumOfWalks, n, kind int) {
	o.Reader = shown{KB: int64(64+n) * miB / kiB, CPUs: min(1+n%2, o.Machine.CPUs)}
	g := newGroup(t).memory(o.Reader.KB * kiB)
	if _, ok := controllerOf("cpuset"); ok {
		g.cpuset(map[bool]string{true: "0", false: "0-1"}[o.Reader.CPUs == 1])
	} else {
		g.cpus(float64(o.Reader.CPUs))
	}
	c := startContainer(t, d, g, options{bind: noBinds})
	command := func(args ...string) *exec.Cmd { return c.outside(append([]string{selfExe}, args...)...) }
	if kind%3 != 0 {
		c.id = fmt.Sprintf(walkID, o.Reader.KB, o.Reader.CPUs)
		view, err := control.Announce(t.Context(), d.socket, c.id, c.pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.order(orders{View: view, Hook: true}); err != nil {
			t.Fatal(err)
		}
		if kind%3 == 1 {
			// In what was bound over the kernel's files.
			o.Mount = ""
			for _, file := range view.Files {
				o.Roots = append(o.Roots, "/"+file)
			}
			command = func(args ...string) *exec.Cmd { return c.command(append([]string{selfExe}, args...)...) }
		}
	}
	walkers := []*process{startWalk(t, o, command), startWalk(t, o, command)}
	time.Sleep(time.Duration(200+100*(n%5)) * time.Millisecond)
	if n%4 == 0 {
		// In the midst of it all.
		c.stop()
		g.remove()
		return
	}
	for _, p := range walkers {
		sum.add(t, p)
	}
	if kind%3 == 2 {
		if err := control.Forget(t.Context(), d.socket, c.id); err != nil {
			t.Error(err)
		}
	}
}
