package view

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// nodeFiles are the rewriters of the files below /sys/devices/system/node, by the name of the file.
var nodeFiles = map[string]Rewriter{
	"online": NodesVisible, "possible": NodesPossible, "has_cpu": NodesWithCPU, "has_memory": NodesWithMemory,
	"has_normal_memory": NodesWithMemory, "has_generic_initiator": NodesWithMemory,
	"cpulist": CPUList, "cpumap": CPUMask, "distance": NodeDistance, "meminfo": NodeMeminfo, "vmstat": NodeVmstat,
}

const nodeDir = "host/sys/devices/system/node/"

// readNodes reads an archive of a machine with nodes.
func readNodes(t testing.TB, name string) (f *fixture, files map[string][]byte) {
	t.Helper()
	f, files = readFixture(t, name), map[string][]byte{}
	for _, file := range f.archive.Files {
		if name, ok := strings.CutPrefix(file.Name, nodeDir); ok {
			files[name] = file.Data
		}
	}
	f.host.PageSize, f.host.THPSize = 4096, 2*mib
	online, err := cgroup.ParseCPUList(nil, files["online"])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range online {
		cpus, err := cgroup.ParseCPUList(nil, files[fmt.Sprintf("node%d/cpulist", id)])
		if err != nil {
			t.Fatal(err)
		}
		f.host.Nodes = append(f.host.Nodes, host.Node{ID: id, CPUs: cpus})
	}
	return f, files
}

// rewriteNodes is what a container reads in the files of the machine that are rewritten; those of nodes that it does not
// see are left out.
func rewriteNodes(files map[string][]byte, h *host.Snapshot, c *Container) map[string]string {
	got := map[string]string{}
	for name, text := range files {
		node := nodeOf(name)
		rewrite := nodeFiles[path.Base(name)]
		if rewrite == nil || node >= 0 && !c.SeesNode(node, h) {
			continue
		}
		got[name] = string(rewrite(nil, text, node, h, c))
	}
	return got
}

// nodeOf is the node that a file below node/ belongs to, -1 for none.
func nodeOf(name string) int {
	dir, _, ok := strings.Cut(name, "/")
	node, err := strconv.Atoi(strings.TrimPrefix(dir, "node"))
	if !ok || err != nil {
		return -1
	}
	return node
}

func TestNodeGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/node/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, name := range names {
		f, files := readNodes(t, name)
		got := map[string]string{}
		for container, c := range f.containers {
			for file, text := range rewriteNodes(files, f.host, c) {
				got[container+"/"+file] = text
			}
		}
		if *update {
			f.write(t, got)
			continue
		}
		if diff := cmp.Diff(f.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// nodeNumbers are the numbers of a node's meminfo.
func nodeNumbers(t testing.TB, text string) map[string]uint64 {
	t.Helper()
	var plain []byte
	for line := range strings.Lines(text) {
		_, rest := cutNode([]byte(line))
		plain = append(plain, rest...)
	}
	return meminfoNumbers(t, plain)
}

// randomNodes is a machine of up to 4 nodes, whose numbers may have gaps, with its files.
func randomNodes(r *rand.Rand) (h *host.Snapshot, files map[string][]byte) {
	h, files = &host.Snapshot{Meminfo: []byte(smallMeminfo), PageSize: 4096}, map[string][]byte{}
	var online []int
	cpu := 0
	for id := range 6 {
		if r.IntN(2) == 0 && (id < 5 || len(online) > 0) {
			continue
		}
		n := host.Node{ID: id}
		for range r.IntN(5) {
			n.CPUs = append(n.CPUs, cpu)
			cpu++
		}
		online = append(online, id)
		h.Nodes, h.OnlineCPUs = append(h.Nodes, n), append(h.OnlineCPUs, n.CPUs...)
	}
	list := append(cgroup.AppendCPUList(nil, online), '\n')
	for _, name := range []string{"online", "has_cpu", "has_memory"} {
		files[name] = list
	}
	files["possible"] = []byte("0-7\n")
	for i, n := range h.Nodes {
		dir := fmt.Sprintf("node%d/", n.ID)
		files[dir+"cpulist"] = append(cgroup.AppendCPUList(nil, n.CPUs), '\n')
		distance := ""
		for j := range h.Nodes {
			distance += fmt.Sprintf(" %d", 10+10*max(i-j, j-i))
		}
		files[dir+"distance"] = []byte(distance[1:] + "\n")
		total := r.Uint64N(16 << 20)
		free := r.Uint64N(total + 1)
		var text string
		for _, line := range []struct {
			key   string
			value uint64
		}{{"MemTotal", total}, {"MemFree", free}, {"MemUsed", total - free}, {"Active(anon)", free / 2}, {"FilePages", free / 2},
			{"AnonPages", free / 2}, {"Slab", 10}, {"SReclaimable", 5}, {"SUnreclaim", 5}} {
			text += fmt.Sprintf("Node %d %-15s %8d kB\n", n.ID, line.key+":", line.value)
		}
		files[dir+"meminfo"] = []byte(text)
		files[dir+"vmstat"] = fmt.Appendf(nil, "nr_free_pages %d\nnr_active_anon %d\nnr_file_pages %d\nnr_anon_pages %d\nnuma_hit 5\npgfault 6\n",
			free/4, free/8, free/8, free/8)
	}
	return h, files
}

// randomNodeContainer is a container of any state on a machine.
func randomNodeContainer(r *rand.Rand, h *host.Snapshot) *Container {
	c := &Container{Memory: randomMemory(r), IO: randomIO(r), Events: randomEvents(r), Policy: policy.Policy{CPUIdentity: policy.CPUIdentity(r.IntN(3))}}
	for _, cpu := range h.OnlineCPUs {
		if r.IntN(3) == 0 {
			c.CPUs = append(c.CPUs, cpu)
		}
	}
	if len(c.CPUs) == 0 {
		c.CPUs = h.OnlineCPUs
	}
	c.NUMA = &cgroup.NUMAStat{Version: cgroup.Version(1 + r.IntN(2))}
	for i := range h.Nodes {
		if r.IntN(2) == 0 {
			c.Mems = append(c.Mems, h.Nodes[i].ID)
		}
	}
	for range r.IntN(7) {
		c.NUMA.Nodes = append(c.NUMA.Nodes, randomMemory(r).Stat)
	}
	return c
}

// What the files of one container say of nodes, CPUs and memory agrees with each other and with /proc/meminfo.
func TestNodeProperties(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		h, files := randomNodes(r)
		c := randomNodeContainer(r, h)
		got := rewriteNodes(files, h, c)
		list := func(name string) []int {
			numbers, err := cgroup.ParseCPUList(nil, []byte(got[name]))
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, name, err)
			}
			return numbers
		}
		online := list("online")

		// Each visible CPU is on exactly one visible node.
		var cpus, withCPU, want []int
		for _, node := range online {
			on := list(fmt.Sprintf("node%d/cpulist", node))
			cpus = append(cpus, on...)
			if len(on) > 0 {
				withCPU = append(withCPU, node)
			}
		}
		for i := range c.CPUs {
			want = append(want, c.Number(i))
		}
		slices.Sort(cpus)
		if !slices.Equal(cpus, want) {
			t.Fatalf("seed %d: CPUs %v on nodes %v, want %v", seed, cpus, online, want)
		}
		if has := list("has_cpu"); !slices.Equal(has, withCPU) {
			t.Fatalf("seed %d: has_cpu %v, cpulists of %v", seed, has, withCPU)
		}
		for _, node := range list("has_memory") {
			if !slices.Contains(online, node) || len(c.Mems) > 0 && !slices.Contains(c.Mems, node) {
				t.Fatalf("seed %d: has_memory %d; online %v, mems %v", seed, node, online, c.Mems)
			}
		}
		if c.Policy.CPUIdentity == policy.Coherent && got["possible"] != got["online"] {
			t.Fatalf("seed %d: possible %q, online %q", seed, got["possible"], got["online"])
		}

		// The distances are square and symmetric, with 10 in the diagonal.
		table := make([][]string, len(online))
		for i, node := range online {
			if table[i] = strings.Fields(got[fmt.Sprintf("node%d/distance", node)]); len(table[i]) != len(online) {
				t.Fatalf("seed %d: %d distances of %d nodes", seed, len(table[i]), len(online))
			}
		}
		for i := range table {
			for j := range table {
				if table[i][j] != table[j][i] || (table[i][j] == "10") != (i == j) {
					t.Fatalf("seed %d: distances %v", seed, table)
				}
			}
		}

		all := meminfoNumbers(t, Meminfo(nil, h, c))
		for _, node := range online {
			machine := nodeNumbers(t, string(files[fmt.Sprintf("node%d/meminfo", node)]))
			m := nodeNumbers(t, got[fmt.Sprintf("node%d/meminfo", node)])
			total, free := m["MemTotal"], m["MemFree"]
			if free > total || m["MemUsed"] != total-free || m["FilePages"]+m["SReclaimable"] > m["MemUsed"] || m["AnonPages"] > total {
				t.Fatalf("seed %d: node %d: %v", seed, node, m)
			}
			if total > machine["MemTotal"] || free > machine["MemFree"] || total > all["MemTotal"] || free > all["MemFree"] {
				t.Fatalf("seed %d: node %d: %v; the machine's: %v; the container's: %v", seed, node, m, machine, all)
			}
			if len(c.Mems) > 0 && !slices.Contains(c.Mems, node) && total != 0 {
				t.Fatalf("seed %d: memory on node %d, mems %v", seed, node, c.Mems)
			}
			// vmstat has no total of the node, to hold the others against.
			v := vmstatNumbers(t, []byte(got[fmt.Sprintf("node%d/vmstat", node)]))
			if c.Memory == nil || len(c.Memory.Levels) == 0 {
				continue
			}
			if v["nr_anon_pages"] < m["AnonPages"]/4 || v["nr_active_anon"] < m["Active(anon)"]/4 || v["nr_file_pages"] < m["FilePages"]/4 ||
				v["nr_free_pages"] < free/4 || v["nr_free_pages"] > min(all["MemFree"], machine["MemFree"])/4 {
				t.Fatalf("seed %d: node %d: vmstat %v, meminfo %v", seed, node, v, m)
			}
			if v["numa_hit"] != 5 || v["pgfault"] != 6 {
				t.Fatalf("seed %d: node %d: what no cgroup counts by node is not the machine's: %v", seed, node, v)
			}
		}
	}
}

// Without a container the files are the machine's, and what only the machine knows of passes through.
func TestNodesOfMachine(t *testing.T) {
	f, files := readNodes(t, "testdata/node/linux-6.1-v2.txtar")
	for name, got := range rewriteNodes(files, f.host, nil) {
		if got != string(files[name]) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
	c := f.containers["bound-to-1"]
	const unknown = "Node 1 Unaccepted:          5 kB\nNode 1 Odd\n\nNode x MemTotal: 5 kB\n"
	if got := string(NodeMeminfo(nil, []byte(unknown), 1, f.host, c)); !strings.HasPrefix(got, "Node 1 Unaccepted:          5 kB\nNode 1 Odd\n\n") {
		t.Errorf("got\n%s", got)
	}
	if got := string(NodesVisible(nil, []byte("no list\n"), -1, f.host, c)); got != "no list\n" {
		t.Errorf("got %q", got)
	}
}

// The huge pages of a node are the machine's, until the container's are limited.
func TestNodeHugePages(t *testing.T) {
	h := &host.Snapshot{Meminfo: []byte(smallMeminfo), Nodes: []host.Node{{ID: 0}, {ID: 1}}}
	const text = "Node 0 MemTotal:        8388608 kB\nNode 0 HugePages_Total:   300\nNode 0 HugePages_Free:    290\nNode 0 HugePages_Surp:      3\n"
	for _, test := range []struct {
		name    string
		limits  []cgroup.Hugetlb
		mems    []int
		want    string
		without bool
	}{
		{"no limit", nil, nil, "300 290 3", false},
		{"a limit", []cgroup.Hugetlb{{PageSize: 2 * mib, Limit: 64 * mib, Usage: 20 * mib}}, nil, "32 22 0", false},
		{"a limit above the node", []cgroup.Hugetlb{{PageSize: 2 * mib, Limit: 64 * gib, Usage: 20 * mib}}, nil, "300 290 0", false},
		{"a limit of another size", []cgroup.Hugetlb{{PageSize: gib, Limit: gib}}, nil, "300 290 3", false},
		{"memory of another node alone", nil, []int{1}, "0 0 0", false},
		{"no memory controller", nil, []int{1}, "300 290 3", true},
	} {
		c := &Container{Mems: test.mems}
		if !test.without {
			c.Memory = &cgroup.Memory{Version: cgroup.V2, Hugetlb: test.limits, Levels: []cgroup.MemoryLevel{level("/a", 64*mib, 20*mib, 0)}}
		}
		m := nodeNumbers(t, string(NodeMeminfo(nil, []byte(text), 0, h, c)))
		if got := fmt.Sprint(m["HugePages_Total"], m["HugePages_Free"], m["HugePages_Surp"]); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

// fuzzNodeFile runs a rewriter on arbitrary text of the machine: it must not panic, write to the text, or grow it.
func fuzzNodeFile(f *testing.F, file string, check func(t *testing.T, text, got []byte, h *host.Snapshot, c *Container)) {
	for _, name := range []string{"testdata/node/linux-6.1-v2.txtar", "testdata/node/linux-5.10-v1.txtar"} {
		_, files := readNodes(f, name)
		for name, text := range files {
			if path.Base(name) == file {
				for seed := range uint64(4) {
					f.Add(text, seed)
				}
			}
		}
	}
	f.Add([]byte("Node 1 MemTotal: 18446744073709551615 kB\nNode 99999999999999999999 MemFree: 99999999999999999999999 kB\nNode 0 MemUsed:-1"), uint64(1))
	f.Add([]byte("10 18446744073709551616 -1 x"), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		h, _ := randomNodes(r)
		c := randomNodeContainer(r, h)
		before := bytes.Clone(text)
		got := nodeFiles[file](nil, text, int(seed%6), h, c)
		if !bytes.Equal(text, before) {
			t.Fatal("the machine's text was written to")
		}
		if len(got) > 12*len(text)+64 {
			t.Fatalf("%d bytes for %d", len(got), len(text))
		}
		check(t, text, got, h, c)
	})
}

func FuzzNodeDistance(f *testing.F) {
	fuzzNodeFile(f, "distance", func(t *testing.T, text, got []byte, h *host.Snapshot, c *Container) {
		fields := func(text []byte) int {
			return len(bytes.FieldsFunc(text, func(r rune) bool { return r < 128 && isBlank(byte(r)) }))
		}
		if columns := fields(got); columns > len(h.Nodes) || columns > fields(text) {
			t.Fatalf("%q of %q", got, text)
		}
	})
}

func FuzzNodeMeminfo(f *testing.F) {
	fuzzNodeFile(f, "meminfo", func(t *testing.T, text, got []byte, _ *host.Snapshot, _ *Container) {
		if bytes.Count(got, []byte{'\n'}) != bytes.Count(text, []byte{'\n'}) {
			t.Fatalf("lines came or went: %q of %q", got, text)
		}
		for field := range bytes.FieldsSeq(got) {
			if n, err := strconv.ParseInt(string(field), 10, 64); n < 0 && err == nil && !bytes.Contains(text, field) {
				t.Fatalf("%q in\n%s\nof\n%s", field, got, text)
			}
		}
	})
}

func FuzzNodeVmstat(f *testing.F) {
	fuzzNodeFile(f, "vmstat", func(t *testing.T, text, got []byte, _ *host.Snapshot, _ *Container) {
		rows := func(text []byte) (names []string) {
			for line := range bytes.Lines(text) {
				name, _ := cutField(line)
				names = append(names, string(name))
			}
			return names
		}
		if !slices.Equal(rows(got), rows(text)) {
			t.Fatalf("rows came or went: %q of %q", got, text)
		}
	})
}

func FuzzNodeList(f *testing.F) {
	fuzzNodeFile(f, "online", func(t *testing.T, text, got []byte, h *host.Snapshot, c *Container) {
		nodes, err := cgroup.ParseCPUList(nil, got)
		if err != nil {
			if !bytes.Equal(got, text) {
				t.Fatalf("%q of %q", got, text)
			}
			return
		}
		for _, node := range nodes {
			if !c.SeesNode(node, h) {
				t.Fatalf("node %d in %q of %q", node, got, text)
			}
		}
	})
}

func TestNodeFilesAllocateNothing(t *testing.T) {
	f, files := readNodes(t, "testdata/node/linux-6.1-v2.txtar")
	for name, c := range f.containers {
		for file, text := range files {
			rewrite, node := nodeFiles[path.Base(file)], nodeOf(file)
			if rewrite == nil {
				continue
			}
			buf := rewrite(nil, text, node, f.host, c)
			if n := testing.AllocsPerRun(20, func() { buf = rewrite(buf[:0], text, node, f.host, c) }); n != 0 {
				t.Errorf("container %s: %s: %v allocations", name, file, n)
			}
		}
	}
}
