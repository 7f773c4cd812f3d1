package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scopefs/scopefs/cgroup"
)

// numaDir is the directory of the nodes, on the machine and in a container.
const numaDir = "/" + nodeDir + "/"

// numaNode is a NUMA node of the machine.
type numaNode struct {
	id   int
	cpus []int
}

// numberList parses a list of CPUs or nodes.
func numberList(t testing.TB, text string) []int {
	t.Helper()
	list, err := cgroup.ParseCPUList(nil, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// listText is such a list, as the kernel prints it.
func listText(numbers []int) string { return string(cgroup.AppendCPUList(nil, numbers)) }

// numaNodes are the machine's nodes. The test is skipped where the kernel knows none.
func numaNodes(t testing.TB) (nodes []numaNode) {
	t.Helper()
	online, err := os.ReadFile(numaDir + "online")
	if err != nil {
		t.Skip("this kernel knows no NUMA nodes: ", err)
	}
	for _, id := range numberList(t, string(online)) {
		nodes = append(nodes, numaNode{id, numberList(t, readString(t, fmt.Sprintf("%snode%d/cpulist", numaDir, id)))})
	}
	return nodes
}

func nodeIDs(nodes []numaNode) (ids []int) {
	for _, n := range nodes {
		ids = append(ids, n.id)
	}
	return ids
}

// mems sets the nodes that memory may be taken from.
func (g *group) mems(nodes ...int) *group {
	g.t.Helper()
	g.write(g.file("cpuset", "cpuset.mems", "cpuset.mems"), listText(nodes))
	return g
}

// nodeMeminfo is what a file nodeN/meminfo says, in bytes.
func nodeMeminfo(t testing.TB, text string) meminfo {
	t.Helper()
	return parseMeminfo(t, regexp.MustCompile(`(?m)^Node \d+ `).ReplaceAllString(text, ""))
}

// TestNUMA looks at /sys/devices/system/node in containers, and at what programs make of it.
func TestNUMA(t *testing.T) {
	nodes := numaNodes(t)
	first, last := nodes[0], nodes[len(nodes)-1]
	byCount, byIDs := startDaemon(t), startDaemonIn(t, scratch(t), scopefs, "--cpu-identity", "ids")
	const limit = 192 * miB
	for _, test := range []struct {
		name    string
		two     bool // needs two nodes, with CPUs each
		ids     bool // the CPUs keep the machine's numbers
		prepare func(g *group)
		mems    []numaNode
		visible []int // physical CPUs
	}{
		{"quota and limit", false, false, func(g *group) { g.cpus(1) }, nodes, first.cpus[:1]},
		{"bound to the last node", false, false, func(g *group) { g.mems(last.id).cpuset(listText(last.cpus)) }, []numaNode{last}, last.cpus},
		{"memory of another node", true, false, func(g *group) { g.mems(last.id).cpuset(listText(first.cpus)) }, []numaNode{last}, first.cpus},
		{"CPUs of two nodes", true, false, func(g *group) { g.cpuset(listText([]int{first.cpus[0], last.cpus[0]})) }, nodes,
			[]int{first.cpus[0], last.cpus[0]}},
		{"the machine's numbers", false, true, func(g *group) { g.mems(last.id).cpuset(listText(last.cpus[len(last.cpus)-1:])) },
			[]numaNode{last}, last.cpus[len(last.cpus)-1:]},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.two && (len(nodes) < 2 || len(first.cpus) == 0 || len(last.cpus) == 0) {
				t.Skip("this machine does not have two nodes with CPUs; the lanes 6.1-v2-numa and 5.10-v1-numa do")
			}
			g := newGroup(t).memory(limit)
			test.prepare(g)
			d := byCount
			if test.ids {
				d = byIDs
			}
			c := startContainer(t, d, g, options{})
			var ids []int
			cpus := map[int][]int{} // by node, as they are called
			for _, n := range nodes {
				for i, cpu := range test.visible {
					if test.ids {
						i = cpu
					}
					if slices.Contains(n.cpus, cpu) {
						cpus[n.id] = append(cpus[n.id], i)
					}
				}
				if len(cpus[n.id]) > 0 || slices.Contains(nodeIDs(test.mems), n.id) {
					ids = append(ids, n.id)
				}
			}
			v := nodeView{container: c, ids: ids, mems: nodeIDs(test.mems), cpus: cpus, limit: limit}
			v.checkFiles(t)
			t.Run("numactl", v.checkNumactl)
			t.Run("numastat", v.checkNumastat)
			t.Run("lscpu", v.checkLscpu)
			t.Run("lstopo", v.checkLstopo)
			if test.ids {
				t.Run("binding", v.checkBinding)
			}
		})
	}
}

// nodeView is what a container has to be shown.
type nodeView struct {
	container *container
	ids, mems []int         // the nodes that are visible, and those of them with memory
	cpus      map[int][]int // of each node, as they are called
	limit     int64
}

func (v *nodeView) read(name string) string {
	v.container.t.Helper()
	return strings.TrimSpace(v.container.read(numaDir[1:] + name))
}

func (v *nodeView) checkFiles(t *testing.T) {
	var withCPU, dirs []int
	for _, id := range v.ids {
		if len(v.cpus[id]) > 0 {
			withCPU = append(withCPU, id)
		}
	}
	for name, want := range map[string][]int{"online": v.ids, "has_cpu": withCPU, "has_memory": v.mems, "has_normal_memory": v.mems} {
		if got := v.read(name); got != listText(want) {
			t.Errorf("%s: %q, want %q", name, got, listText(want))
		}
	}
	if got := v.read("possible"); got != readString(t, numaDir+"possible") {
		t.Errorf("possible: %q, the machine's is another", got)
	}
	for name := range strings.FieldsSeq(v.container.run("ls", numaDir)) {
		if id, err := strconv.Atoi(strings.TrimPrefix(name, "node")); err == nil {
			dirs = append(dirs, id)
		}
	}
	if slices.Sort(dirs); !slices.Equal(dirs, v.ids) {
		t.Errorf("directories of nodes %v, want %v", dirs, v.ids)
	}
	all := v.container.meminfo()
	for _, id := range v.ids {
		dir := fmt.Sprintf("node%d/", id)
		if got := v.read(dir + "cpulist"); got != listText(v.cpus[id]) {
			t.Errorf("%scpulist: %q, want %q", dir, got, listText(v.cpus[id]))
		}
		if got, want := len(strings.Fields(v.read(dir+"distance"))), len(v.ids); got != want {
			t.Errorf("%sdistance: %d columns, want %d", dir, got, want)
		}
		v.checkMeminfo(t, id, all)
		var links []int
		for name := range strings.FieldsSeq(v.container.run("ls", numaDir+dir)) {
			if cpu, err := strconv.Atoi(strings.TrimPrefix(name, "cpu")); err == nil {
				links = append(links, cpu)
				v.container.run("ls", numaDir+dir+name+"/topology")
			}
			if ok, _ := filepath.Match("memory[0-9]*", name); ok {
				t.Errorf("%s is shown in %s", name, dir)
			}
		}
		if slices.Sort(links); !slices.Equal(links, v.cpus[id]) {
			t.Errorf("%s has links to CPUs %v, want %v", dir, links, v.cpus[id])
		}
	}
}

// total is the memory of a node.
func (v *nodeView) total(t *testing.T, id int) int64 {
	t.Helper()
	if !slices.Contains(v.mems, id) {
		return 0
	}
	machine := nodeMeminfo(t, readString(t, fmt.Sprintf("%snode%d/meminfo", numaDir, id))+"\n")
	return min(machine["MemTotal"], v.limit)
}

func (v *nodeView) checkMeminfo(t *testing.T, id int, all meminfo) {
	t.Helper()
	text := v.read(fmt.Sprintf("node%d/meminfo", id)) + "\n"
	m := nodeMeminfo(t, text)
	if want := v.total(t, id); m["MemTotal"] != want {
		t.Errorf("node %d: MemTotal is %d kB, want %d kB\n%s", id, m["MemTotal"]/kiB, want/kiB, text)
	}
	if m["MemFree"] > m["MemTotal"] || m["MemUsed"] != m["MemTotal"]-m["MemFree"] || m["AnonPages"] > m["MemTotal"] || m["MemTotal"] > all["MemTotal"] {
		t.Errorf("node %d: the numbers do not fit together\n%s", id, text)
	}
	if m["MemTotal"] == 0 && m["AnonPages"]+m["FilePages"]+m["Slab"] > 0 {
		t.Errorf("node %d has no memory, and something in it\n%s", id, text)
	}
}

func (v *nodeView) checkNumactl(t *testing.T) {
	need(t, "numactl")
	out := v.container.run("numactl", "-H")
	lines := []string{fmt.Sprintf("available: %d nodes (%s)", len(v.ids), listText(v.ids))}
	for _, id := range v.ids {
		cpus := fmt.Sprintf("node %d cpus:", id)
		for _, cpu := range v.cpus[id] {
			cpus += fmt.Sprint(" ", cpu)
		}
		lines = append(lines, cpus, fmt.Sprintf("node %d size: %d MB", id, v.total(t, id)/miB))
	}
	for _, line := range lines {
		if !slices.Contains(strings.Split(out, "\n"), line) && !strings.Contains(out, line+" \n") {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	_, distances, _ := strings.Cut(out, "node distances:")
	if rows := strings.Split(strings.TrimSpace(distances), "\n"); len(rows) != len(v.ids)+1 {
		t.Errorf("%d rows of distances for %d nodes:\n%s", len(rows)-1, len(v.ids), out)
	}
}

func (v *nodeView) checkNumastat(t *testing.T) {
	need(t, "numastat")
	head := strings.Fields(v.container.run("numastat"))
	for i, id := range v.ids {
		if i >= len(head) || head[i] != fmt.Sprintf("node%d", id) {
			t.Errorf("numastat's columns are %v, want nodes %v", head, v.ids)
			break
		}
	}
	out := v.container.run("numastat", "-m")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "MemTotal" {
			continue
		}
		if len(f) != len(v.ids)+2 {
			t.Fatalf("%q has not a number for each of %v and the total", line, v.ids)
		}
		for i, id := range v.ids {
			mib, err := strconv.ParseFloat(f[i+1], 64)
			if want := float64(v.total(t, id)) / miB; err != nil || !near(mib, want, 0.01) {
				t.Errorf("numastat -m: node %d has %s MB, want %.2f", id, f[i+1], want)
			}
		}
		return
	}
	t.Errorf("numastat -m has no MemTotal:\n%s", out)
}

func (v *nodeView) checkLscpu(t *testing.T) {
	need(t, "lscpu")
	out := v.container.run("lscpu")
	fields := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, ":")
		fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	if got := fields["NUMA node(s)"]; got != fmt.Sprint(len(v.ids)) {
		t.Errorf("lscpu says %q NUMA nodes, want %d\n%s", got, len(v.ids), out)
	}
	for _, id := range v.ids {
		got := fields[fmt.Sprintf("NUMA node%d CPU(s)", id)]
		if !slices.Equal(numberList(t, got), v.cpus[id]) {
			t.Errorf("lscpu says node %d has the CPUs %q, want %q\n%s", id, got, listText(v.cpus[id]), out)
		}
	}
}

// lstopoNode is a line such as "NUMANode L#0 (P#1 192MB)".
var lstopoNode = regexp.MustCompile(`NUMANode L#\d+ \(P#(\d+)(?: (\d+)([KMG])B)?`)

func (v *nodeView) checkLstopo(t *testing.T) {
	need(t, "lstopo-no-graphics")
	// What a cgroup or sched_setaffinity(2) forbids is by the machine's numbers of CPUs: do not look at it.
	out := v.container.run("lstopo-no-graphics", "--disallowed", "--no-io", "--of", "console")
	var ids []int
	for _, m := range lstopoNode.FindAllStringSubmatch(out, -1) {
		id, _ := strconv.Atoi(m[1])
		ids = append(ids, id)
		size, _ := strconv.ParseInt(m[2], 10, 64)
		size <<= map[string]int{"K": 10, "M": 20, "G": 30}[m[3]]
		if want := v.total(t, id); size != 0 && !near(size, want, miB) || size == 0 && want != 0 {
			t.Errorf("node %d has %d bytes, want %d\n%s", id, size, want, out)
		}
	}
	if slices.Sort(ids); !slices.Equal(ids, v.ids) {
		t.Errorf("lstopo shows the nodes %v, want %v\n%s", ids, v.ids, out)
	}
}

// checkBinding runs programs that bind themselves to CPUs by the numbers that they read.
func (v *nodeView) checkBinding(t *testing.T) {
	if has(t, "numactl") {
		for id, cpus := range v.cpus {
			v.container.run("numactl", fmt.Sprint("--cpunodebind=", id), "busybox", "true")
			v.container.run("numactl", "--physcpubind="+listText(cpus), "busybox", "true")
		}
	}
	if has(t, "lstopo-no-graphics") {
		if out := v.container.run("lstopo-no-graphics", "--no-io", "--of", "console"); !lstopoNode.MatchString(out) {
			t.Errorf("no node in\n%s", out)
		}
	}
}

// TestNUMAAllocation has a container take memory of one node.
func TestNUMAAllocation(t *testing.T) {
	need(t, "numactl")
	nodes := numaNodes(t)
	last := nodes[len(nodes)-1]
	const bytes = 96 * miB
	// A limit above what a node has: below, what is taken of one node is not free on any other.
	g := newGroup(t).memory(totalMemory(t) - 256*miB)
	if _, err := os.Stat(g.file("memory", "memory.numa_stat", "memory.numa_stat")); err != nil {
		t.Skip("this kernel does not count a cgroup's memory by node: ", err)
	}
	g.mems(nodeIDs(nodes)...)
	c := startContainer(t, startDaemon(t), g, options{})
	read := func() map[int]meminfo {
		all := map[int]meminfo{}
		for _, n := range nodes {
			all[n.id] = nodeMeminfo(t, c.read(fmt.Sprintf("%snode%d/meminfo", numaDir[1:], n.id)))
		}
		return all
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	before := read()
	p := start(t, 10*time.Minute, c.command("numactl", fmt.Sprint("--membind=", last.id),
		"busybox", "env", roleEnv+"=touch", exe, fmt.Sprint(bytes)))
	p.expect("ready")
	if _, err := p.in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	p.expect("touched")
	after := read()
	// The kernel counts in batches, and flushes them every 2 s.
	const tolerance = 16 * miB
	for deadline := time.Now().Add(timeout(10 * time.Second)); time.Now().Before(deadline); after = read() {
		if near(after[last.id]["AnonPages"]-before[last.id]["AnonPages"], bytes, tolerance) {
			break
		}
		time.Sleep(timeout(100 * time.Millisecond))
	}
	for _, n := range nodes {
		want := int64(0)
		if n.id == last.id {
			want = bytes
		}
		grew := after[n.id]["AnonPages"] - before[n.id]["AnonPages"]
		if !near(grew, want, tolerance) {
			t.Errorf("node %d: AnonPages grew by %d MiB, want %d MiB", n.id, grew/miB, want/miB)
		}
		if used := after[n.id]["MemUsed"] - before[n.id]["MemUsed"]; len(nodes) > 1 && !near(used, want, 2*tolerance) {
			t.Errorf("node %d: MemUsed grew by %d MiB, want %d MiB", n.id, used/miB, want/miB)
		}
	}
	finish(p)
}

// totalMemory is the machine's MemTotal, in bytes.
func totalMemory(t testing.TB) int64 {
	t.Helper()
	return parseMeminfo(t, readString(t, "/proc/meminfo")+"\n")["MemTotal"]
}
