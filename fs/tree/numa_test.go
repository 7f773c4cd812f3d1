package tree

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/scopefs/scopefs/fs/policy"
)

// bindToNode1 gives the container one memory of node 1, CPUs of both nodes, and a memory limit.
func bindToNode1(c *client) {
	c.m.Cgroup("/c1", map[string]string{"cpuset.cpus.effective": "1,3,6\n", "cpuset.mems.effective": "1\n",
		"memory.max": "1073741824\n", "memory.current": "104857600\n",
		"memory.stat": "anon 52428800\nfile 20971520\n", "memory.numa_stat": "anon N0=0 N1=52428800\nfile N0=0 N1=20971520\n"})
}

// node is a file below /sys/devices/system/node as task pid reads it.
func (c *client) node(pid uint32, file string) string {
	c.t.Helper()
	return c.cat(c.walk(pid, strings.Split("sys/devices/system/node/"+file, "/")...), pid)
}

// nodeNames are the names in a directory below /sys/devices/system/node.
func (c *client) nodeNames(pid uint32, dir string) []string {
	c.t.Helper()
	return c.readdirAs(c.walk(pid, strings.Split("sys/devices/system/node"+dir, "/")...), pid)
}

func TestNUMAFiles(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	bindToNode1(c)
	for file, want := range map[string]string{
		"online": "0-1\n", "possible": "0-1\n", "has_cpu": "0-1\n", "has_memory": "1\n", "has_normal_memory": "1\n",
		"node0/cpulist": "0\n", "node0/cpumap": "01\n", "node0/distance": "10 21\n",
		"node1/cpulist": "1-2\n", "node1/cpumap": "06\n", "node1/distance": "21 10\n",
		"node1/numastat": "numa_hit 100000\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 100\nlocal_node 99000\nother_node 1000\n",
		"node1/meminfo": "Node 1 MemTotal:        1048576 kB\nNode 1 MemFree:          946176 kB\n" +
			"Node 1 MemUsed:          102400 kB\nNode 1 SwapCached:            0 kB\nNode 1 Active:                0 kB\n" +
			"Node 1 Inactive:              0 kB\nNode 1 FilePages:         20480 kB\nNode 1 AnonPages:         51200 kB\n" +
			"Node 1 Shmem:                 0 kB\nNode 1 SReclaimable:          0 kB\nNode 1 HugePages_Total:     0\n",
		"node1/vmstat": "nr_free_pages 236544\nnr_inactive_anon 0\nnr_active_anon 0\nnr_file_pages 5120\nnuma_hit 100000\n",
	} {
		if got := c.node(onePID, file); got != want {
			t.Errorf("%s: got\n%swant\n%s", file, got, want)
		}
		if strings.HasSuffix(file, "meminfo") || strings.HasSuffix(file, "vmstat") {
			if machine := c.node(machinePID, file); machine == want {
				t.Errorf("%s: the machine's is the container's", file)
			}
		}
	}
	if text := c.node(onePID, "node0/meminfo"); !strings.HasPrefix(text, "Node 0 MemTotal:              0 kB\nNode 0 MemFree:               0 kB\n") {
		t.Errorf("node 0, of which no memory may be used: %s", text)
	}
}

func TestNUMAListing(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	bindToNode1(c)
	for dir, want := range map[string][]string{"": {"node0", "node1"}, "/node0": {"cpu0"}, "/node1": {"cpu1", "cpu2"}} {
		names := slices.DeleteFunc(c.nodeNames(onePID, dir), func(name string) bool {
			kind, _ := splitNumber(name)
			return kind == nil && !strings.HasPrefix(name, "memory")
		})
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("node%s: %v, want %v", dir, names, want)
		}
	}
	if names := c.nodeNames(machinePID, "/node1"); !slices.Contains(names, "memory32") || !slices.Contains(names, "cpu7") {
		t.Errorf("the machine's node1: %v", names)
	}
	for _, p := range []string{"node/node0/cpu1", "node/node1/cpu0", "node/node1/cpu7", "node/node1/memory32", "node/node2"} {
		if _, _, errno := c.tryWalk(onePID, p); errno != int32(syscall.ENOENT) {
			t.Errorf("%s: errno %d", p, errno)
		}
	}

	// With its CPUs gone from node 0, that is not to be seen any more.
	c.m.Write("sys/fs/cgroup/c1/cpuset.cpus.effective", "3,6\n")
	if online := c.node(onePID, "online"); online != "1\n" {
		t.Errorf("online: %q", online)
	}
	if _, _, errno := c.tryWalk(onePID, "node/node0"); errno != int32(syscall.ENOENT) {
		t.Errorf("node0: errno %d", errno)
	}
	if got := c.node(onePID, "node1/distance") + c.node(onePID, "node1/cpulist"); got != "10\n0-1\n" {
		t.Errorf("node1: %q", got)
	}
}

func TestNUMAPolicies(t *testing.T) {
	for _, test := range []struct {
		name                      string
		policy                    policy.Policy
		online, possible, cpulist string
		memory                    bool // the container's
	}{
		{"ids", policy.Policy{CPUIdentity: policy.IDs}, "1\n", "0-1\n", "3,6\n", true},
		{"coherent", policy.Policy{CPUIdentity: policy.Coherent}, "1\n", "1\n", "0-1\n", true},
		{"CPUs off", policy.Policy{Off: []string{"cpu"}}, "0-1\n", "0-1\n", "2-3,6-7\n", true},
		{"nodes off", policy.Policy{Off: []string{"node"}}, "0-1\n", "0-1\n", "2-3,6-7\n", false},
	} {
		c := mountNUMA(t, test.policy)
		bindToNode1(c)
		c.m.Write("sys/fs/cgroup/c1/cpuset.cpus.effective", "3,6\n")
		if got := c.node(onePID, "online"); got != test.online {
			t.Errorf("%s: online %q, want %q", test.name, got, test.online)
		}
		if got := c.node(onePID, "possible"); got != test.possible {
			t.Errorf("%s: possible %q, want %q", test.name, got, test.possible)
		}
		if got := c.node(onePID, "node1/cpulist"); got != test.cpulist {
			t.Errorf("%s: cpulist %q, want %q", test.name, got, test.cpulist)
		}
		if got := strings.HasPrefix(c.node(onePID, "node1/meminfo"), "Node 1 MemTotal:        1048576 kB\n"); got != test.memory {
			t.Errorf("%s: the container's memory: %t, want %t", test.name, got, test.memory)
		}
	}
}

// Nodes follow a CPU that goes offline and comes back.
func TestNUMAHotplug(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	bindToNode1(c)
	for _, test := range []struct {
		online       []int
		nodes, hasIt string
	}{{[]int{0, 1, 2, 3, 4, 5, 6, 7}, "0-1\n", "0-1\n"}, {[]int{0, 3, 6}, "1\n", "1\n"}, {[]int{0, 1}, "0-1\n", "0\n"}} {
		c.m.SetOnline(test.online...)
		if nodes, has := c.node(onePID, "online"), c.node(onePID, "has_cpu"); nodes != test.nodes || has != test.hasIt {
			t.Errorf("CPUs %v online: nodes %q, with CPUs %q", test.online, nodes, has)
		}
	}
}
