package view

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// everyCPUPolicy is each way of counting and numbering CPUs.
func everyCPUPolicy() (all []policy.Policy) {
	for _, source := range []policy.CPUSource{policy.Quota, policy.Cpuset, policy.Shares} {
		for _, rounding := range []policy.CPURounding{policy.Ceil, policy.Round, policy.Min2} {
			for _, identity := range []policy.CPUIdentity{policy.Count, policy.IDs, policy.Coherent} {
				all = append(all, policy.Policy{CPUSource: source, CPURounding: rounding, CPUIdentity: identity})
			}
		}
	}
	return all
}

func TestCPUSourcesAndRoundings(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	cpu := func(quota, shares uint64, set ...int) *cgroup.CPU {
		return &cgroup.CPU{Levels: []cgroup.CPULevel{{Quota: quota, Period: 100000}}, Shares: shares, Set: set}
	}
	for _, test := range []struct {
		source   policy.CPUSource
		rounding policy.CPURounding
		cpu      *cgroup.CPU
		want     int
	}{
		{policy.Quota, policy.Ceil, cpu(140000, 0), 2},
		{policy.Quota, policy.Round, cpu(140000, 0), 1},
		{policy.Quota, policy.Round, cpu(150000, 0), 2},
		{policy.Quota, policy.Round, cpu(10000, 0), 1},
		{policy.Quota, policy.Min2, cpu(50000, 0), 2},
		{policy.Quota, policy.Min2, cpu(250000, 0), 3},
		{policy.Quota, policy.Min2, cpu(50000, 0, 5), 1},
		{policy.Quota, policy.Min2, nil, 8},
		{policy.Cpuset, policy.Ceil, cpu(50000, 512, 2, 4, 6), 3},
		{policy.Cpuset, policy.Min2, cpu(50000, 512, 2), 1},
		{policy.Cpuset, policy.Ceil, cpu(50000, 512), 8},
		{policy.Shares, policy.Ceil, cpu(50000, 1024), 1},
		{policy.Shares, policy.Ceil, cpu(50000, 1025), 2},
		{policy.Shares, policy.Round, cpu(50000, 1535), 1},
		{policy.Shares, policy.Round, cpu(50000, 1536), 2},
		{policy.Shares, policy.Ceil, cpu(50000, 2), 1},
		{policy.Shares, policy.Min2, cpu(50000, 2), 2},
		{policy.Shares, policy.Ceil, cpu(50000, 262144), 8},
		{policy.Shares, policy.Ceil, cpu(50000, 262144, 1, 3), 2},
		{policy.Shares, policy.Ceil, cpu(50000, 0), 8}, // no cpu controller
	} {
		p := policy.Policy{CPUSource: test.source, CPURounding: test.rounding}
		if got := len(VisibleCPUs(nil, test.cpu, all, &p)); got != test.want {
			t.Errorf("%v of %+v: %d CPUs, want %d", p.Text(), test.cpu, got, test.want)
		}
	}
}

// However CPUs are counted, there is at least one and none that the cpuset has not, in order; every file says the same
// number and the same names.
func TestOneCPUCountUnderEveryPolicy(t *testing.T) {
	h := bigHost(t, 16)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		cpu := &cgroup.CPU{Shares: r.Uint64N(20000)}
		for range r.IntN(3) {
			cpu.Levels = append(cpu.Levels, cgroup.CPULevel{Quota: r.Uint64N(20_00000), Period: 1 + r.Uint64N(200000)})
		}
		for i := range 20 { // some are not online
			if r.IntN(4) == 0 {
				cpu.Set = append(cpu.Set, i)
			}
		}
		usable := appendCommon(nil, cpu.Set, h.OnlineCPUs)
		if len(usable) == 0 {
			usable = h.OnlineCPUs
		}
		for _, p := range everyCPUPolicy() {
			c := &Container{CPU: cpu, CPUs: VisibleCPUs(nil, cpu, h.OnlineCPUs, &p), Policy: p, Age: -1}
			n := len(c.CPUs)
			if n < 1 || n > len(usable) || !slices.Equal(c.CPUs, usable[:n]) {
				t.Fatalf("%v: %v of %v", p.Text(), c.CPUs, usable)
			}
			if p.CPURounding == policy.Min2 && n < min(2, len(usable)) {
				t.Fatalf("%v: %v of %v", p.Text(), c.CPUs, usable)
			}
			if explained := explainCPUs(h, c); explained[0].Value != uint64(n) {
				t.Fatalf("%v: %+v explains %d CPUs", p.Text(), explained, n)
			}
		}
	}
	for _, p := range everyCPUPolicy() {
		cpu := &cgroup.CPU{Shares: 3000, Set: []int{1, 4, 5, 9}, Levels: []cgroup.CPULevel{{Quota: 200000, Period: 100000}}}
		c := &Container{CPU: cpu, CPUs: VisibleCPUs(nil, cpu, h.OnlineCPUs, &p), Policy: p, Age: -1}
		var names []int
		for i := range c.CPUs {
			names = append(names, c.Number(i))
		}
		var rows, processors []int
		for line := range strings.Lines(string(Stat(nil, h, c))) {
			if name, ok := strings.CutPrefix(strings.Fields(line)[0], "cpu"); ok && name != "" {
				n, _ := strconv.Atoi(name)
				rows = append(rows, n)
			}
		}
		for line := range strings.Lines(string(Cpuinfo(nil, h, c))) {
			var n int
			if _, err := fmt.Sscanf(line, "processor\t: %d", &n); err == nil {
				processors = append(processors, n)
			}
		}
		lists := map[string][]int{"stat": rows, "cpuinfo": processors}
		files := map[string]func([]byte, *host.Snapshot, *Container) []byte{"online": CPUOnline, "present": CPUPresent}
		if p.CPUIdentity == policy.Coherent {
			files["possible"] = CPUPossible
		} else if got := string(CPUPossible(nil, h, c)); got != string(h.Possible) {
			t.Errorf("%v: possible is %q", p.Text(), got)
		}
		for file, render := range files {
			list, err := cgroup.ParseCPUList(nil, render(nil, h, c))
			if err != nil {
				t.Errorf("%v: %s: %v", p.Text(), file, err)
			}
			lists[file] = list
		}
		for file, list := range lists {
			if !slices.Equal(list, names) {
				t.Errorf("%v: %s names %v, want %v", p.Text(), file, list, names)
			}
		}
	}
}

// What explains the number of CPUs names what decided, and nothing that had no say.
func TestExplainCPUs(t *testing.T) {
	h := &host.Snapshot{OnlineCPUs: []int{0, 1, 2, 3}}
	level := func(quota uint64) []cgroup.CPULevel {
		return []cgroup.CPULevel{{Path: "/pod/c", Quota: cgroup.Unlimited, Period: 100000}, {Path: "/pod", Quota: quota, Period: 100000}}
	}
	quota, cpuset, shares := policy.Policy{}, policy.Policy{CPUSource: policy.Cpuset}, policy.Policy{CPUSource: policy.Shares}
	round := policy.Policy{CPURounding: policy.Round, CPUIdentity: policy.IDs}
	for _, test := range []struct {
		name   string
		p      policy.Policy
		cpu    *cgroup.CPU
		source string
		level  string
		policy string
	}{
		{"nothing", quota, nil, "online", "", "cpu_source=quota cpu_identity=count"},
		{"quota", quota, &cgroup.CPU{Levels: level(150000)}, "cpu.max", "/pod", "cpu_source=quota cpu_rounding=ceil cpu_identity=count"},
		{"quota of v1", round, &cgroup.CPU{Levels: level(150000), LimitVersion: cgroup.V1}, "cfs_quota", "/pod", "cpu_source=quota cpu_rounding=round cpu_identity=ids"},
		{"quota of all", quota, &cgroup.CPU{Levels: level(350000)}, "cpu.max", "/pod", "cpu_source=quota cpu_rounding=ceil cpu_identity=count"},
		{"quota beyond all", quota, &cgroup.CPU{Levels: level(450000)}, "online", "", "cpu_source=quota cpu_identity=count"},
		{"quota beyond the cpuset", quota, &cgroup.CPU{Levels: level(350000), Set: []int{1, 2}, SetPath: "/pod/c"}, "cpuset.cpus.effective", "/pod/c", "cpu_source=quota cpu_identity=count"},
		{"quota of the cpuset", quota, &cgroup.CPU{Levels: level(200000), Set: []int{1, 2}, SetPath: "/pod/c"}, "cpuset.cpus.effective", "/pod/c", "cpu_source=quota cpu_identity=count"},
		{"quota in the cpuset", quota, &cgroup.CPU{Levels: level(100000), Set: []int{1, 2}}, "cpu.max", "/pod", "cpu_source=quota cpu_rounding=ceil cpu_identity=count"},
		{"cpuset of all", quota, &cgroup.CPU{Set: []int{0, 1, 2, 3}}, "online", "", "cpu_source=quota cpu_identity=count"},
		{"cpuset all offline", quota, &cgroup.CPU{Set: []int{7}}, "online", "", "cpu_source=quota cpu_identity=count"},
		{"cpuset alone", cpuset, &cgroup.CPU{Levels: level(100000), Set: []int{1, 2}, SetPath: "/s", SetVersion: cgroup.V1}, "cpuset.effective_cpus", "/s", "cpu_source=cpuset cpu_identity=count"},
		{"no cpuset", cpuset, &cgroup.CPU{Levels: level(100000)}, "online", "", "cpu_source=cpuset cpu_identity=count"},
		{"weight", shares, &cgroup.CPU{Levels: level(100000), Shares: 2048}, "cpu.weight", "/pod/c", "cpu_source=shares cpu_rounding=ceil cpu_identity=count"},
		{"shares", shares, &cgroup.CPU{Levels: level(100000), Shares: 2048, LimitVersion: cgroup.V1}, "cpu.shares", "/pod/c", "cpu_source=shares cpu_rounding=ceil cpu_identity=count"},
		{"shares beyond all", shares, &cgroup.CPU{Levels: level(100000), Shares: 8192}, "online", "", "cpu_source=shares cpu_identity=count"},
	} {
		c := &Container{CPU: test.cpu, CPUs: VisibleCPUs(nil, test.cpu, h.OnlineCPUs, &test.p), Policy: test.p}
		n := explainCPUs(h, c)[0]
		if !strings.Contains(n.Source, test.source) || n.Level != test.level || n.Policy != test.policy {
			t.Errorf("%s: %+v, want source %s, level %q, policy %s", test.name, n, test.source, test.level, test.policy)
		}
	}
}

// With interrupts zero the lines keep their shape, and every other line is what it was.
func TestInterruptsZero(t *testing.T) {
	for _, f := range readFixtures(t) {
		if f.host.Stat == nil {
			continue
		}
		c := &Container{Age: -1, Policy: policy.Policy{Interrupts: policy.Zero}}
		got, want := strings.Split(string(Stat(nil, f.host, c)), "\n"), strings.Split(string(f.host.Stat), "\n")
		if len(got) != len(want) {
			t.Fatalf("%s: %d lines, want %d", f.name, len(got), len(want))
		}
		zeroed := 0
		for i, line := range want {
			fields := strings.Fields(line)
			if len(fields) > 0 && slices.Contains([]string{"intr", "ctxt", "softirq"}, fields[0]) {
				zeroed++
				line = fields[0] + strings.Repeat(" 0", len(fields)-1)
			}
			if got[i] != line {
				t.Errorf("%s: %q, want %q", f.name, got[i], line)
			}
		}
		if zeroed != 3 {
			t.Errorf("%s: %d lines of interrupts", f.name, zeroed)
		}
	}
}
