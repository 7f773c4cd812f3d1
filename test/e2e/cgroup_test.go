package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	kiB = 1 << 10
	miB = 1 << 20
)

// groupPrefix begins the name of every cgroup that the suite makes, so that the leak check knows them.
const groupPrefix = "scopefs-e2e-"

// hierarchy is a mounted cgroup hierarchy.
type hierarchy struct {
	dir         string
	v2          bool
	controllers []string
}

// hierarchies are the machine's: one on v2, one for each controller or pair on v1, both kinds on a hybrid machine.
var hierarchies = sync.OnceValue(func() []hierarchy {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		panic(err)
	}
	var list []hierarchy
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		h := hierarchy{dir: f[1]}
		switch f[2] {
		case "cgroup2":
			h.v2 = true
			text, err := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
			if err != nil {
				continue
			}
			h.controllers = strings.Fields(string(text))
		case "cgroup":
			h.controllers = strings.Split(f[3], ",")
		default:
			continue
		}
		list = append(list, h)
	}
	return list
})

// controllerOf is the hierarchy that has a controller.
func controllerOf(name string) (hierarchy, bool) {
	for _, h := range hierarchies() {
		if slices.Contains(h.controllers, name) {
			return h, true
		}
	}
	return hierarchy{}, false
}

// group is a cgroup in every hierarchy, or a level of one.
type group struct {
	t    testing.TB
	path string // below the root of each hierarchy
	// What was set, as v1 keeps memory and swap in one sum.
	memoryLimit, swapLimit int64
}

var lastGroup atomic.Int64

// newGroup makes a cgroup without limits for the time of the test.
func newGroup(t testing.TB) *group {
	t.Helper()
	name := fmt.Sprintf("/%s%d-%d", groupPrefix, os.Getpid(), lastGroup.Add(1))
	return makeGroup(t, name)
}

// child makes a level below. On cgroup v2 the group itself can hold no processes from then on.
func (g *group) child(name string) *group {
	g.t.Helper()
	return makeGroup(g.t, g.path+"/"+name)
}

func makeGroup(t testing.TB, path string) *group {
	t.Helper()
	g := &group{t: t, path: path, memoryLimit: -1, swapLimit: -1}
	t.Cleanup(g.remove)
	for _, h := range hierarchies() {
		dir := h.dir + path
		if h.v2 {
			delegate(t, h, filepath.Dir(dir))
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if !h.v2 && slices.Contains(h.controllers, "cpuset") {
			// A new cpuset of v1 is empty and takes no tasks.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				g.write(filepath.Join(dir, file), readString(t, filepath.Join(filepath.Dir(dir), file)))
			}
		}
	}
	return g
}

// delegate switches the controllers on for the children of a v2 cgroup.
func delegate(t testing.TB, h hierarchy, dir string) {
	t.Helper()
	var on []string
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "io"} {
		if slices.Contains(h.controllers, c) {
			on = append(on, "+"+c)
		}
	}
	if len(on) == 0 {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(on, " ")), 0); err != nil {
		t.Fatal(err)
	}
}

// dirs are the group's directories in all hierarchies.
func (g *group) dirs() []string {
	var list []string
	for _, h := range hierarchies() {
		list = append(list, h.dir+g.path)
	}
	return list
}

// file is the path of a controller's file: v2 or v1 names it there.
func (g *group) file(controller, v2, v1 string) string {
	g.t.Helper()
	h, ok := controllerOf(controller)
	if !ok {
		g.t.Skipf("this machine has no %s controller", controller)
	}
	if h.v2 {
		return h.dir + g.path + "/" + v2
	}
	return h.dir + g.path + "/" + v1
}

func (g *group) write(path, value string) {
	g.t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		g.t.Fatal(err)
	}
}

// memory limits the memory; -1 lifts the limit. The kernel may refuse a limit below what is used (v1).
func (g *group) memory(bytes int64) *group {
	g.t.Helper()
	if err := g.tryMemory(bytes); err != nil {
		g.t.Fatal(err)
	}
	return g
}

func (g *group) tryMemory(bytes int64) error {
	h, _ := controllerOf("memory")
	path := g.file("memory", "memory.max", "memory.limit_in_bytes")
	// On v1 the sum with swap may never be below memory's limit: the larger one goes first when both grow.
	grows := g.memoryLimit >= 0 && (bytes < 0 || bytes > g.memoryLimit)
	if !h.v2 && g.swapLimit >= 0 && grows {
		if err := g.trySum(bytes, g.swapLimit); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, []byte(limitText(bytes, h.v2)), 0); err != nil {
		return err
	}
	g.memoryLimit = bytes
	if !h.v2 && g.swapLimit >= 0 && !grows {
		return g.trySum(bytes, g.swapLimit)
	}
	return nil
}

func (g *group) trySum(memory, swap int64) error {
	sum := int64(-1)
	if memory >= 0 {
		sum = memory + swap
	}
	return os.WriteFile(g.file("memory", "", "memory.memsw.limit_in_bytes"), []byte(limitText(sum, false)), 0)
}

func limitText(bytes int64, v2 bool) string {
	if bytes < 0 && v2 {
		return "max"
	}
	return strconv.FormatInt(bytes, 10)
}

// accountsSwap says whether the kernel counts a cgroup's swap.
func accountsSwap() bool {
	h, ok := controllerOf("memory")
	if ok && !h.v2 {
		_, err := os.Stat(h.dir + "/memory.memsw.limit_in_bytes")
		return err == nil
	}
	return ok
}

// swap limits the swap, without effect where the kernel does not count it. memory comes first.
func (g *group) swap(bytes int64) *group {
	g.t.Helper()
	if err := g.trySwap(bytes); err != nil {
		g.t.Fatal(err)
	}
	return g
}

func (g *group) trySwap(bytes int64) error {
	if !accountsSwap() {
		return nil
	}
	if h, _ := controllerOf("memory"); h.v2 {
		err := os.WriteFile(g.file("memory", "memory.swap.max", ""), []byte(limitText(bytes, true)), 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := g.trySum(g.memoryLimit, bytes); err != nil {
		return err
	}
	g.swapLimit = bytes
	return nil
}

// cpus sets the quota, in CPUs; 0 lifts it.
func (g *group) cpus(n float64) *group {
	g.t.Helper()
	const period = 100000
	quota := strconv.Itoa(int(n * period))
	h, _ := controllerOf("cpu")
	switch {
	case h.v2 && n == 0:
		g.write(g.file("cpu", "cpu.max", ""), "max")
	case h.v2:
		g.write(g.file("cpu", "cpu.max", ""), fmt.Sprint(quota, " ", period))
	case n == 0:
		g.write(g.file("cpu", "", "cpu.cfs_quota_us"), "-1")
	default:
		g.write(g.file("cpu", "", "cpu.cfs_quota_us"), quota)
	}
	return g
}

// cpuset sets the CPUs, such as "0-1".
func (g *group) cpuset(list string) *group {
	g.t.Helper()
	g.write(g.file("cpuset", "cpuset.cpus", "cpuset.cpus"), list)
	return g
}

// shares gives the group most of the CPUs (or the least) when others want them too.
func (g *group) shares(most bool) *group {
	g.t.Helper()
	h, _ := controllerOf("cpu")
	value := map[bool]map[bool]string{true: {true: "10000", false: "262144"}, false: {true: "1", false: "2"}}[most][h.v2]
	g.write(g.file("cpu", "cpu.weight", "cpu.shares"), value)
	return g
}

// used is the CPU time used so far.
func (g *group) used() time.Duration {
	g.t.Helper()
	if h, _ := controllerOf("cpuacct"); h.dir != "" {
		return time.Duration(number(g.t, g.file("cpuacct", "", "cpuacct.usage")))
	}
	return time.Duration(key(g.t, g.file("cpu", "cpu.stat", ""), "usage_usec")) * time.Microsecond
}

// counters are the kernel's files about CPU time, to be looked at by people.
func (g *group) counters() string {
	var all strings.Builder
	for _, dir := range g.dirs() {
		for _, pattern := range []string{"cpu.stat", "cpuacct.usage*", "cpuacct.stat"} {
			paths, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, path := range paths {
				if text, err := os.ReadFile(path); err == nil {
					fmt.Fprintf(&all, "%s:\n%s", path, text)
				}
			}
		}
	}
	return all.String()
}

// throttled is the time for which the quota held tasks back so far.
func (g *group) throttled() time.Duration {
	g.t.Helper()
	path := g.file("cpu", "cpu.stat", "cpu.stat")
	if h, _ := controllerOf("cpu"); h.v2 {
		return time.Duration(key(g.t, path, "throttled_usec")) * time.Microsecond
	}
	return time.Duration(key(g.t, path, "throttled_time"))
}

// remove kills what still runs in the group and removes it. The cgroup of a runtime may be gone already.
func (g *group) remove() {
	for _, dir := range g.dirs() {
		var err error
		for range 100 {
			if err = syscall.Rmdir(dir); err == nil || errors.Is(err, os.ErrNotExist) {
				err = nil
				break
			}
			procs, _ := os.ReadFile(dir + "/cgroup.procs")
			for pid := range strings.FieldsSeq(string(procs)) {
				if n, err := strconv.Atoi(pid); err == nil && n > 1 && n != os.Getpid() {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
			time.Sleep(timeout(20 * time.Millisecond))
		}
		if err != nil {
			g.t.Errorf("removing %s: %v", dir, err)
		}
	}
}

// key is the number behind a name in a file of "name number" lines.
func key(t testing.TB, path, name string) uint64 {
	t.Helper()
	for line := range strings.Lines(readString(t, path)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s", name, path)
	return 0
}

func number(t testing.TB, path string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(readString(t, path), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readString(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
