package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// readCalls counts the read system calls that f makes, as the kernel counts them for our thread.
func readCalls(t testing.TB, f func()) int {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	count := func() int {
		text, err := os.ReadFile("/proc/thread-self/io")
		if err != nil {
			t.Skip("the kernel does not count system calls: ", err)
		}
		_, rest, _ := bytes.Cut(text, []byte("syscr: "))
		n, err := strconv.Atoi(string(bytes.SplitN(rest, []byte("\n"), 2)[0]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := count()
	second := count()
	f()
	return count() - second - (second - first)
}

// costTree makes a fixture of cgroups below one another with all controllers, each limited.
func costTree(t testing.TB, version Version, depth int, limited bool) *Group {
	t.Helper()
	root := t.TempDir()
	limit := func(n string, none string) string {
		if limited {
			return n
		}
		return none
	}
	if version == V2 {
		write(t, root+"/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	} else {
		var mounts strings.Builder
		for i, c := range []string{"memory", "cpu,cpuacct", "cpuset", "blkio", "pids"} {
			fmt.Fprintf(&mounts, "%d 23 0:%d / /sys/fs/cgroup/%s rw - cgroup cgroup rw,%s\n", 31+i, 31+i, c, c)
		}
		write(t, root+"/proc/self/mountinfo", mounts.String())
	}
	path := ""
	for i := range depth {
		path += fmt.Sprintf("/c%d", i)
		files := map[string]string{
			"memory.max": limit(fmt.Sprint(1<<30-i<<12), "max"), "memory.current": "4096",
			"memory.swap.max": limit("4096", "max"), "memory.swap.current": "0", "memory.stat": "anon 4096\nactive_file 4096\npgfault 3\n",
			"memory.numa_stat": "anon N0=4096\n",
			"cpu.max":          limit("50000 100000", "max 100000"), "cpu.weight": "100", "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nthrottled_usec 1\n",
			"cpuset.cpus.effective": "0-3", "cpuset.mems.effective": "0", "io.stat": "8:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
			"pids.current": "3", "cpu.pressure": "some avg10=0.00\n",
		}
		base := root + "/sys/fs/cgroup"
		if version == V1 {
			none := "9223372036854771712"
			files = map[string]string{
				"memory/*/memory.limit_in_bytes": limit(fmt.Sprint(1<<30-i<<12), none), "memory/*/memory.usage_in_bytes": "4096",
				"memory/*/memory.memsw.limit_in_bytes": none, "memory/*/memory.memsw.usage_in_bytes": "4096",
				"memory/*/memory.stat": "cache 1\nhierarchical_memory_limit " + limit(fmt.Sprint(1<<30-i<<12), none) +
					"\nhierarchical_memsw_limit " + none + "\ntotal_cache 4096\ntotal_pgfault 3\ntotal_active_file 4096\ntotal_unevictable 0\n",
				"memory/*/memory.use_hierarchy": "1", "memory/*/memory.swappiness": "60", "memory/*/memory.kmem.usage_in_bytes": "0",
				"memory/*/memory.numa_stat":                         "hierarchical_anon=1 N0=1\n",
				"cpu,cpuacct/*/cpu.cfs_quota_us":                    limit("50000", "-1"),
				"cpu,cpuacct/*/cpu.cfs_period_us":                   "100000",
				"cpu,cpuacct/*/cpu.shares":                          "1024",
				"cpu,cpuacct/*/cpu.stat":                            "throttled_time 5\n",
				"cpu,cpuacct/*/cpuacct.usage":                       "5000",
				"cpu,cpuacct/*/cpuacct.usage_user":                  "3000",
				"cpu,cpuacct/*/cpuacct.usage_sys":                   "2000",
				"cpuset/*/cpuset.effective_cpus":                    "0-3",
				"cpuset/*/cpuset.effective_mems":                    "0",
				"blkio/*/blkio.throttle.io_serviced_recursive":      "8:0 Read 1\n",
				"blkio/*/blkio.throttle.io_service_bytes_recursive": "8:0 Read 1\n",
				"pids/*/pids.current":                               "3",
			}
		}
		for file, text := range files {
			if version == V1 {
				file = strings.Replace(file, "/*/", path+"/", 1)
				write(t, base+"/"+file, text+"\n")
			} else {
				write(t, base+path+"/"+file, text+"\n")
			}
		}
	}
	p := Paths{Unified: path}
	if version == V1 {
		p = Paths{CPU: path, CPUAcct: path, CPUSet: path, Memory: path, Blkio: path, Pids: path}
	}
	return open(t, newFS(t, root), p)
}

// The number of system calls of a warm read, which the time that it takes comes from.
func TestPreads(t *testing.T) {
	type costs struct{ memory, both, cpu, usage, io, numa, mems, load, tasks int }
	for _, test := range []struct {
		version Version
		depth   int
		limited bool
		shared  bool // with the numbers of the ancestors at hand
		want    costs
	}{
		// memory.stat, usage, memsw usage and kmem; quota, shares, usage, user, system, cpuset, with a quota also its
		// period and cpu.stat.
		{V1, 1, false, false, costs{4, 4, 6, 1, 2, 1, 1, 0, 1}},
		{V1, 1, true, false, costs{4, 4, 8, 1, 2, 1, 1, 0, 1}},
		// Nothing to ask where memory.stat says that no level is limited; quota of each level.
		{V1, 10, false, false, costs{4, 4, 6 + 9, 1, 2, 1, 1, 0, 1}},
		// The own limit, then limit, memsw limit and usage of each level.
		{V1, 5, true, false, costs{5 + 4*3, 5 + 4*3, 8 + 4*2, 1, 2, 1, 1, 0, 1}},
		{V1, 10, true, false, costs{5 + 9*3, 5 + 9*3, 8 + 9*2, 1, 2, 1, 1, 0, 1}},
		{V1, 10, true, true, costs{5, 5, 8, 1, 2, 1, 1, 0, 1}},
		// memory.stat, usage, limit, swap limit and usage; quota, weight, cpu.stat, cpuset.
		{V2, 1, false, false, costs{5, 5, 4, 1, 1, 1, 1, 0, 1}},
		{V2, 1, true, false, costs{5, 5, 4, 1, 1, 1, 1, 0, 1}},
		{V2, 10, false, false, costs{5 + 9*2, 5 + 9*2, 4 + 9, 1, 1, 1, 1, 0, 1}},
		{V2, 5, true, false, costs{5 + 4*4, 5 + 4*4, 4 + 4, 1, 1, 1, 1, 0, 1}},
		{V2, 10, true, false, costs{5 + 9*4, 5 + 9*4, 4 + 9, 1, 1, 1, 1, 0, 1}},
		{V2, 10, true, true, costs{5, 5, 4, 1, 1, 1, 1, 0, 1}},
	} {
		name := fmt.Sprintf("v%d/depth=%d/limited=%v/shared=%v", test.version, test.depth, test.limited, test.shared)
		t.Run(name, func(t *testing.T) {
			g := costTree(t, test.version, test.depth, test.limited)
			if test.shared {
				g.fs.SetMaxAge(1 << 40)
			}
			var m Memory
			var e MemoryEvents
			var c CPU
			var io IO
			var numa NUMAStat
			var got costs
			for _, f := range []struct {
				calls *int
				read  func() error
			}{
				{&got.memory, func() error { return g.ReadMemory(&m) }},
				{&got.both, func() error { return g.ReadMemoryAndEvents(&m, &e) }},
				{&got.cpu, func() error { return g.ReadCPU(&c) }},
				{&got.usage, func() error { _, err := g.ReadUsage(); return err }},
				{&got.io, func() error { return g.ReadIO(&io) }},
				{&got.numa, func() error { return g.ReadNUMAStat(&numa) }},
				{&got.mems, func() error { _, _, err := g.ReadMems(); return err }},
				{&got.load, func() error { _, _, err := g.ReadLoad(); return err }},
				{&got.tasks, func() error { g.TaskCount(); return nil }},
			} {
				for _, calls := range []*int{new(int), f.calls} { // the cold read first
					g.swappinessUntil.Store(1 << 62) // on a slow machine the 100 ms may be over
					*calls = readCalls(t, func() {
						if err := f.read(); err != nil {
							t.Fatal(err)
						}
					})
				}
			}
			if got != test.want {
				t.Errorf("read calls %+v, want %+v", got, test.want)
			}
			if len(m.Levels) != test.depth || len(c.Levels) != test.depth || m.Levels[0].Usage != 4096 || e.Count[0] != 3 ||
				test.limited != (c.Levels[0].Throttled > 0) {
				t.Errorf("%+v, %+v, %+v", m, c, e.Count[0])
			}
		})
	}
}
