package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/policy"
)

// mountNUMA makes a client of a machine of 8 CPUs, 2 packages and 2 NUMA nodes. The container one, with a quota of 2 CPUs,
// has the cpuset 1,3,5,7; the container web has all CPUs and a quota of 3.
func mountNUMA(t testing.TB, p policy.Policy) *client {
	t.Helper()
	c := mountOn(t, fixture.NewNUMA(t), container.Options{Policy: p})
	c.m.Cgroup("/c1", map[string]string{"cpu.max": "200000 100000\n", "cpuset.cpus.effective": "1,3,5,7\n"})
	c.m.Cgroup("/c2", map[string]string{"cpu.max": "300000 100000\n", "cpuset.cpus.effective": "0-7\n"})
	return c
}

const cpuDir = "sys/devices/system/cpu"

// sys is a file below /sys/devices/system/cpu as task pid reads it in the shared tree.
func (c *client) sys(pid uint32, file string) string {
	c.t.Helper()
	return c.cat(c.walk(pid, strings.Split(cpuDir+"/"+file, "/")...), pid)
}

// tryWalk looks a path below /sys/devices/system up in the shared tree.
func (c *client) tryWalk(pid uint32, p string) (node, uint32, int32) {
	c.t.Helper()
	n := c.walk(pid, "sys", "devices", "system")
	var mode uint32
	for name := range strings.SplitSeq(p, "/") {
		out, errno := c.lookup(n, pid, name)
		if errno != 0 {
			return 0, 0, errno
		}
		n, mode = node(out.NodeId), out.Mode
	}
	return n, mode, 0
}

// cpuNames are the cpuN in a listing, as numbers.
func cpuNames(names []string) (cpus []int) {
	for _, name := range names {
		if n, ok := numberAfter(name, "cpu"); ok {
			cpus = append(cpus, n)
		}
	}
	slices.Sort(cpus)
	return cpus
}

func list(text string) []int {
	cpus, err := cgroup.ParseCPUList(nil, []byte(text))
	if err != nil {
		panic(err)
	}
	return cpus
}

// bitsOf are the numbers in a mask of one group.
func bitsOf(text string) (cpus []int) {
	var mask uint32
	if _, err := fmt.Sscanf(text, "%x\n", &mask); err != nil {
		panic(err)
	}
	for i := range 32 {
		if mask>>i&1 == 1 {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

func TestSysfsListing(t *testing.T) {
	for identity, want := range map[policy.CPUIdentity][2]string{policy.Count: {"0-1\n", "0-2\n"}, policy.IDs: {"1,3\n", "0-2\n"}, policy.Coherent: {"0-1\n", "0-2\n"}} {
		c := mountNUMA(t, policy.Policy{CPUIdentity: identity})
		for pid, online := range map[uint32]string{onePID: want[0], webPID: want[1], machinePID: "0-7\n"} {
			dir := c.walk(pid, strings.Split(cpuDir, "/")...)
			names := c.readdirAs(dir, pid)
			if got := cpuNames(names); !slices.Equal(got, list(online)) || c.sys(pid, "online") != online {
				t.Errorf("identity %d, reader %d: %v, online %q, want %q", identity, pid, got, c.sys(pid, "online"), online)
			}
			for i := range fixture.NUMACPUs + 1 {
				_, _, errno := c.tryWalk(pid, fmt.Sprintf("cpu/cpu%d", i))
				if seen := slices.Contains(list(online), i); seen != (errno == 0) || !seen && errno != int32(syscall.ENOENT) {
					t.Errorf("identity %d, reader %d: cpu%d: errno %d", identity, pid, i, errno)
				}
			}
			if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
				t.Errorf("names come twice: %v", names)
			}
		}
	}
}

// Every name has the type and mode of the machine's, and what is listed can be looked up and read.
func TestSysfsIsTheMachines(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	for _, test := range []struct {
		pid      uint32
		physical map[string]string // by the reader's names
	}{
		{machinePID, map[string]string{"cpu0": "cpu0", "cpu7": "cpu7"}},
		{onePID, map[string]string{"cpu0": "cpu1", "cpu1": "cpu3"}},
		{webPID, map[string]string{"cpu0": "cpu0", "cpu2": "cpu2"}},
	} {
		for name, physical := range test.physical {
			c.compare(test.pid, "cpu/"+name, "cpu/"+physical)
		}
		c.compare(test.pid, "cpu/vulnerabilities", "cpu/vulnerabilities")
		c.compare(test.pid, "node/node1", "node/node1")
	}
}

// compare walks a directory and the one of the machine that is behind it.
func (c *client) compare(pid uint32, p, machine string) {
	c.t.Helper()
	n, mode, errno := c.tryWalk(pid, p)
	var want unix.Stat_t
	if err := unix.Lstat(filepath.Join(c.m.Root, "sys/devices/system", machine), &want); err != nil || errno != 0 {
		c.t.Errorf("reader %d: %s: errno %d, the machine's %s: %v", pid, p, errno, machine, err)
		return
	}
	attr, errno := c.getattr(n, pid)
	if errno != 0 || attr.Mode != want.Mode || mode != want.Mode || attr.Ino != uint64(n) {
		c.t.Errorf("reader %d: %s: errno %d, mode %o by lookup, %o by getattr, want %o", pid, p, errno, mode, attr.Mode, want.Mode)
	}
	switch want.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		if c.readlink(n, pid) == "" {
			c.t.Errorf("reader %d: %s leads nowhere", pid, p)
		}
	case syscall.S_IFREG:
		text, err := os.ReadFile(filepath.Join(c.m.Root, "sys/devices/system", machine))
		if err != nil {
			c.t.Error(err)
		}
		if got := c.cat(n, pid); pid == machinePID && got != string(text) || (got == "") != (len(text) == 0) {
			c.t.Errorf("reader %d: %s: %q, the machine's %q", pid, p, got, text)
		}
	case syscall.S_IFDIR:
		dirs := uint32(2)
		for _, name := range c.readdirAs(n, pid)[2:] {
			child, mode, errno := c.tryWalk(pid, p+"/"+name)
			if errno != 0 {
				c.t.Errorf("reader %d: %s/%s is listed: errno %d", pid, p, name, errno)
			}
			if mode&syscall.S_IFMT == syscall.S_IFDIR {
				dirs++
			}
			if kind, _ := splitNumber(name); kind != nil {
				if mode&syscall.S_IFMT == syscall.S_IFLNK && c.readlink(child, pid) == "" {
					c.t.Errorf("reader %d: %s/%s leads nowhere", pid, p, name)
				}
				continue
			}
			c.compare(pid, p+"/"+name, machine+"/"+name)
		}
		if attr.Nlink != dirs && attr.Nlink != 1 { // 1: a file system that does not count, below the fixture
			c.t.Errorf("reader %d: %s has %d links for %d directories", pid, p, attr.Nlink, dirs-2)
		}
	}
}

// The lists and masks of a container are those of its CPUs, in its numbers, and agree with each other.
func TestSysfsTopology(t *testing.T) {
	topology := []string{"topology/thread_siblings", "topology/core_cpus", "topology/core_siblings", "topology/package_cpus", "topology/die_cpus"}
	for _, identity := range []policy.CPUIdentity{policy.Count, policy.IDs, policy.Coherent} {
		c := mountNUMA(t, policy.Policy{CPUIdentity: identity})
		for _, set := range []string{"1,3,5,7\n", "0-7\n", "6\n"} {
			c.m.Write("sys/fs/cgroup/c1/cpuset.cpus.effective", set)
			for _, quota := range []string{"max 100000\n", "300000 100000\n"} {
				c.m.Write("sys/fs/cgroup/c1/cpu.max", quota)
				online := list(c.sys(onePID, "online"))
				for _, i := range online {
					dir := fmt.Sprintf("cpu%d/", i)
					for _, file := range topology {
						in := list(c.sys(onePID, dir+file+"_list"))
						if twin := bitsOf(c.sys(onePID, dir+file)); !slices.Equal(in, twin) {
							t.Errorf("%s%s: list %v, mask %v", dir, file, in, twin)
						}
						c.checkSiblings(file+"_list", i, in, online)
					}
					for _, index := range []string{"cache/index0/", "cache/index1/"} {
						in := list(c.sys(onePID, dir+index+"shared_cpu_list"))
						if twin := bitsOf(c.sys(onePID, dir+index+"shared_cpu_map")); !slices.Equal(in, twin) {
							t.Errorf("%s%s: list %v, mask %v", dir, index, in, twin)
						}
						c.checkSiblings(index+"shared_cpu_list", i, in, online)
					}
				}
				c.checkPolicies(online)
			}
		}
	}
}

// checkSiblings checks that CPU i is among its siblings, that all are visible, and that i is among theirs.
func (c *client) checkSiblings(file string, i int, siblings, online []int) {
	c.t.Helper()
	if !slices.Contains(siblings, i) {
		c.t.Errorf("%s of cpu%d is %v", file, i, siblings)
	}
	for _, j := range siblings {
		if !slices.Contains(online, j) {
			c.t.Errorf("%s of cpu%d is %v, online are %v", file, i, siblings, online)
		} else if theirs := list(c.sys(onePID, fmt.Sprintf("cpu%d/%s", j, file))); !slices.Equal(theirs, siblings) {
			c.t.Errorf("%s of cpu%d is %v, of cpu%d %v", file, i, siblings, j, theirs)
		}
	}
}

// checkPolicies checks that each CPU leads to a policy that is named by its first CPU, and lists its CPUs.
func (c *client) checkPolicies(online []int) {
	c.t.Helper()
	var want []string
	for _, i := range online {
		link, _, _ := c.tryWalk(onePID, fmt.Sprintf("cpu/cpu%d/cpufreq", i))
		dir := strings.TrimPrefix(c.readlink(link, onePID), "../cpufreq/")
		var members []int
		for _, f := range strings.Fields(c.sys(onePID, "cpufreq/"+dir+"/affected_cpus")) {
			var n int
			fmt.Sscan(f, &n)
			members = append(members, n)
		}
		if len(members) == 0 || dir != fmt.Sprint("policy", members[0]) || !slices.Contains(members, i) {
			c.t.Errorf("cpu%d is of %s, whose CPUs are %v", i, dir, members)
		}
		if dir == fmt.Sprint("policy", i) {
			want = append(want, dir)
		}
	}
	got := c.readdirAs(c.walk(onePID, strings.Split(cpuDir+"/cpufreq", "/")...), onePID)[2:]
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.t.Errorf("policies %v, want %v", got, want)
	}
}

func TestSysfsNumbersOfTheMachine(t *testing.T) {
	type wants struct{ file, one, web, machine string }
	for identity, tests := range map[policy.CPUIdentity][]wants{
		policy.Count: {
			{"kernel_max", "255\n", "255\n", "255\n"},
			{"possible", "0-7\n", "0-7\n", "0-7\n"},
			{"enabled", "0-1\n", "0-2\n", "0-7\n"},
			{"isolated", "\n", "\n", "5\n"},
			{"nohz_full", " (null)\n", " (null)\n", " (null)\n"},
			{"cpu1/topology/core_id", "1\n", "1\n", "1\n"},
			{"cpu1/topology/physical_package_id", "1\n", "0\n", "0\n"},
		},
		policy.IDs:      {{"enabled", "1,3\n", "0-2\n", "0-7\n"}, {"kernel_max", "255\n", "255\n", "255\n"}},
		policy.Coherent: {{"kernel_max", "1\n", "2\n", "255\n"}, {"possible", "0-1\n", "0-2\n", "0-7\n"}},
	} {
		c := mountNUMA(t, policy.Policy{CPUIdentity: identity})
		c.m.Write(cpuDir+"/isolated", "5\n")
		for _, test := range tests {
			for pid, want := range map[uint32]string{onePID: test.one, webPID: test.web, machinePID: test.machine} {
				if got := c.sys(pid, test.file); got != want {
					t.Errorf("identity %d, reader %d: %s is %q, want %q", identity, pid, test.file, got, want)
				}
			}
		}
	}
}

func TestSysfsHides(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	for _, pid := range []uint32{onePID, machinePID, 0} {
		if _, _, errno := c.tryWalk(pid, "cpu/cpu0/thermal_throttle"); errno != int32(syscall.ENOENT) {
			t.Errorf("reader %d, what runtimes cover: errno %d", pid, errno)
		}
	}
	for _, p := range []string{"cpu/cpu*", "cpu/cpu00", "cpu/cpu8191", "cpu/cpu99999999999999999999", "cpu/cpu-1", "cpu/none", "cpu/..", "cpu/.",
		"cpu/cpu0/subsystem/devices", "cpu/cpufreq/policy5"} {
		if n, _, errno := c.tryWalk(onePID, p); errno == 0 {
			t.Errorf("%s is there: %x", p, n)
		}
	}
	n, _, _ := c.tryWalk(onePID, "cpu/cpu0/uevent")
	for _, flags := range []uint32{syscall.O_WRONLY, syscall.O_RDWR} {
		if _, _, errno := c.open(n, onePID, flags); errno != int32(syscall.EACCES) {
			t.Errorf("open with %x: errno %d, want EACCES", flags, errno)
		}
	}
}

// A CPU that a container sees no longer is not there, and an open file of it says so.
func TestSysfsQuotaTakesCPUsAway(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	for _, own := range []bool{true, false} {
		c.m.Write("sys/fs/cgroup/c2/cpu.max", "300000 100000\n")
		path := strings.Split(cpuDir+"/cpu2/topology/core_id", "/")
		if own {
			path = append([]string{"c", "web"}, path...)
		}
		dir, n := c.walk(webPID, path[:len(path)-3]...), c.walk(webPID, path...)
		fh := c.mustOpen(n, webPID)
		if text, errno := c.pread(n, fh, webPID, 0, 100); errno != 0 || text != "0\n" {
			t.Fatalf("errno %d, %q", errno, text)
		}
		c.m.Write("sys/fs/cgroup/c2/cpu.max", "200000 100000\n")
		if _, errno := c.pread(n, fh, webPID, 0, 100); errno != int32(syscall.ENODEV) {
			t.Errorf("read of an open file: errno %d, want ENODEV", errno)
		}
		c.release(n, fh)
		_, _, opened := c.open(n, webPID, 0)
		_, looked := c.lookup(dir, webPID, "cpu2")
		_, asked := c.getattr(n, webPID)
		if want := int32(syscall.ENOENT); opened != want || looked != want || asked != want {
			t.Errorf("errno of open %d, lookup %d, getattr %d; want ENOENT", opened, looked, asked)
		}
		// In its place there is nothing that the kernel would remember.
		entry, _ := c.lookup(dir, webPID, "cpu1")
		if entry.EntryValid != 0 || entry.EntryValidNsec != 0 {
			t.Errorf("cpu1 is good for %d s", entry.EntryValid)
		}
	}
}

// A policy that leaves the directory to the kernel shows it unchanged.
func TestSysfsOff(t *testing.T) {
	c := mountNUMA(t, policy.Policy{Off: []string{"cpu"}})
	if got := c.sys(onePID, "cpu1/topology/core_siblings_list"); got != "0-1,4-5\n" {
		t.Errorf("siblings %q, want the machine's", got)
	}
	if got := cpuNames(c.readdirAs(c.walk(onePID, strings.Split(cpuDir, "/")...), onePID)); len(got) != fixture.NUMACPUs {
		t.Errorf("listed are %v, want the machine's", got)
	}
	for _, path := range c.tree.Files(&policy.Policy{Off: []string{"cpu"}}) {
		if strings.HasPrefix(path, cpuDir) {
			t.Errorf("%s is bound", path)
		}
	}
	if files := c.tree.Files(&policy.Policy{}); !slices.Contains(files, cpuDir) || !slices.Contains(files, "sys/devices/system/node") {
		t.Errorf("bound are %v", files)
	}
}

// CPUs of the machine go offline and come back while a container runs.
func TestSysfsHotplug(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	c.m.Write("sys/fs/cgroup/c2/cpu.max", "max 100000\n")
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, online := range [][]int{all, {0, 2, 3, 4, 5, 6, 7}, {0, 2, 3, 4, 6, 7}, all, {0}, all} {
		c.m.SetOnline(online...)
		c.m.Write("sys/fs/cgroup/c2/cpuset.cpus.effective", string(cgroup.AppendCPUList(nil, online))+"\n")
		n := len(online)
		want := "0\n"
		if n > 1 {
			want = fmt.Sprintf("0-%d\n", n-1)
		}
		if got := c.sys(webPID, "online"); got != want {
			t.Errorf("online %v: %q", online, got)
		}
		if got := cpuNames(c.readdirAs(c.walk(webPID, strings.Split(cpuDir, "/")...), webPID)); len(got) != n || got[n-1] != n-1 {
			t.Errorf("online %v: listed are %v", online, got)
		}
		if got := strings.Count(c.cat(c.walk(webPID, "proc", "cpuinfo"), webPID), "processor\t:"); got != n {
			t.Errorf("online %v: %d blocks of cpuinfo", online, got)
		}
		if got := strings.Count(c.cat(c.walk(webPID, "proc", "stat"), webPID), "\ncpu"); got != n {
			t.Errorf("online %v: %d rows of stat", online, got)
		}
		var siblings []int
		for i := range n {
			siblings = append(siblings, list(c.sys(webPID, fmt.Sprintf("cpu%d/topology/core_cpus_list", i)))...)
			link, _, _ := c.tryWalk(webPID, fmt.Sprintf("cpu/cpu%d/cpufreq", i))
			if target := c.readlink(link, webPID); !strings.HasPrefix(target, "../cpufreq/policy") {
				t.Errorf("online %v: cpufreq of cpu%d is %s", online, i, target)
			}
		}
		slices.Sort(siblings)
		if siblings = slices.Compact(siblings); len(siblings) != n {
			t.Errorf("online %v: the cores hold %v", online, siblings)
		}
	}
}

// A node id means one name to all who look at it, whatever container they are in.
func TestSysfsNodesAreNames(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	dir := c.walk(machinePID, strings.Split("by/0/"+cpuDir, "/")...)
	seen := map[uint64]string{}
	for _, pid := range []uint32{machinePID, onePID, webPID} {
		for _, name := range []string{"cpu0", "cpu1", "cpufreq", "vulnerabilities"} {
			out, errno := c.lookup(dir, pid, name)
			if errno != 0 {
				t.Fatalf("%s: errno %d", name, errno)
			}
			if old, known := seen[out.NodeId]; known && old != name || !known && pid != machinePID {
				t.Errorf("reader %d: node %x is %s, and was %q", pid, out.NodeId, name, old)
			}
			seen[out.NodeId] = name
		}
	}
	// What it shows is decided by who opens it.
	n := c.walk(machinePID, strings.Split("by/0/"+cpuDir+"/cpu1/topology/physical_package_id", "/")...)
	if one, web := c.cat(n, onePID), c.cat(n, webPID); one != "1\n" || web != "0\n" {
		t.Errorf("cpu1 is of package %q and %q", one, web)
	}
}

// sendfile(2) reads a rewritten file whole, with its exact size.
func TestSysfsPageCacheReads(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	n := c.walk(webPID, strings.Split("c/web/"+cpuDir+"/cpu0/topology/package_cpus_list", "/")...)
	attr, _ := c.getattr(n, webPID)
	fh := c.mustOpen(n, webPID)
	text, errno := c.pageRead(n, fh, webPID, 0, 4096)
	if errno != 0 || text != "0-1\n" || attr.Size < uint64(len(text)) {
		t.Errorf("errno %d, %q with a size of %d", errno, text, attr.Size)
	}
	if attr, _ = c.getattr(n, webPID); attr.Size != uint64(len(text)) {
		t.Errorf("size %d, want %d", attr.Size, len(text))
	}
	c.release(n, fh)
}

func TestSysfsTableIsBounded(t *testing.T) {
	var s sysEntries
	for i := range maxSysEntries {
		if e := s.of(fmt.Sprint("cpu/x", i)); int(e) != int(firstSys)+i {
			t.Fatalf("entry %d is %d", i, e)
		}
	}
	if e := s.of("cpu/one-more"); e != 0 {
		t.Errorf("one too many is %d", e)
	}
	if e := s.of("cpu/x7"); e != firstSys+7 || s.file(e).Path != sysRoot+"cpu/x7" {
		t.Errorf("entry of a known name: %d", e)
	}
}

// /proc/cpuinfo says the same of every CPU as its directory.
func TestSysfsAgreesWithCpuinfo(t *testing.T) {
	for _, identity := range []policy.CPUIdentity{policy.Count, policy.IDs, policy.Coherent} {
		c := mountNUMA(t, policy.Policy{CPUIdentity: identity})
		for _, set := range []string{"1,3,5,7\n", "0-7\n", "2,4,6\n"} {
			c.m.Write("sys/fs/cgroup/c1/cpuset.cpus.effective", set)
			c.m.Write("sys/fs/cgroup/c1/cpu.max", "max 100000\n")
			online := list(c.sys(onePID, "online"))
			blocks := strings.Split(strings.TrimSpace(c.cat(c.walk(onePID, "proc", "cpuinfo"), onePID)), "\n\n")
			if len(blocks) != len(online) {
				t.Fatalf("%d blocks for %v", len(blocks), online)
			}
			for i, cpu := range online {
				topology := fmt.Sprintf("cpu%d/topology/", cpu)
				siblings := list(c.sys(onePID, topology+"core_siblings_list"))
				cores := map[string]bool{}
				for _, s := range siblings {
					cores[c.sys(onePID, fmt.Sprintf("cpu%d/topology/core_id", s))] = true
				}
				for key, want := range map[string]string{
					"processor":   fmt.Sprint(cpu),
					"physical id": strings.TrimSpace(c.sys(onePID, topology+"physical_package_id")),
					"core id":     strings.TrimSpace(c.sys(onePID, topology+"core_id")),
					"siblings":    fmt.Sprint(len(siblings)),
					"cpu cores":   fmt.Sprint(len(cores)),
				} {
					if got := valueOf(blocks[i], key); got != want {
						t.Errorf("identity %d, cpuset %s: cpu%d has %s %q in cpuinfo, %q in its directory", identity, set, cpu, key, got, want)
					}
				}
			}
		}
	}
}

// valueOf is the value of a key in a block of /proc/cpuinfo.
func valueOf(block, key string) string {
	for line := range strings.Lines(block) {
		if k, value, _ := strings.Cut(line, ":"); strings.TrimSpace(k) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// A search through /sys in a forgotten container is counted, and logged, as one thing.
func TestSysfsFallbacksAreOneKind(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	n := c.walk(machinePID, "c", "web", "sys", "devices", "system", "cpu", "cpu0")
	if err := c.reg.Forget("web"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"online", "topology", "cache"} {
		c.lookup(n, webPID, file)
	}
	c.readdirAs(n, webPID)
	counts := c.tree.Fallbacks.Counts()
	if len(counts) != 1 || counts[Fallback{"sys/devices/system/cpu", "forgotten"}] == 0 {
		t.Errorf("fallbacks: %v", counts)
	}
}

// A warm read of a file that is read through leaves nothing for the garbage collector. Of those that are named by a
// policy, two other files are looked at first, by their paths.
func TestRenderSysAllocatesNothing(t *testing.T) {
	if withRaceDetector() {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	c := mountNUMA(t, policy.Policy{})
	bindToNode1(c)
	for _, file := range []string{
		"cpu/kernel_max", "cpu/isolated", "cpu/enabled", "cpu/cpu1/topology/core_id", "cpu/cpu1/topology/core_cpus_list",
		"cpu/cpu1/topology/thread_siblings", "cpu/cpu0/cache/index1/shared_cpu_map", "node/online", "node/possible", "node/has_cpu",
		"node/has_memory", "node/node1/cpulist", "node/node1/cpumap", "node/node1/distance", "node/node1/meminfo", "node/node1/vmstat",
		"node/node1/numastat",
	} {
		for _, pid := range []uint32{onePID, machinePID} {
			n := c.walk(pid, strings.Split("sys/devices/system/"+file, "/")...)
			f := c.tree.sysFile(n)
			if f == nil {
				t.Fatalf("%s is not read through", file)
			}
			owner := c.tree.identify(n, int(pid), f)
			var buf []byte
			read := func() {
				var err error
				if buf, err = c.tree.renderSys(buf[:0], n, f, owner, int(pid)); err != nil || len(buf) == 0 {
					t.Fatalf("%s: %q, %v", file, buf, err)
				}
			}
			read()
			if n := testing.AllocsPerRun(50, read); n != 0 {
				t.Errorf("reader %d: %s: %v allocations", pid, file, n)
			}
			owner.Release()
		}
	}
}

// withRaceDetector says whether the test was built with -race.
func withRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
