package view

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

func TestVisibleCPUs(t *testing.T) {
	const none = cgroup.Unlimited
	quota := func(pairs ...uint64) (levels []cgroup.CPULevel) {
		for pair := range slices.Chunk(pairs, 2) {
			levels = append(levels, cgroup.CPULevel{Quota: pair[0], Period: pair[1]})
		}
		return levels
	}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, test := range []struct {
		name   string
		cpu    *cgroup.CPU
		online []int
		want   []int
	}{
		{"no cgroup", nil, all, all},
		{"no limit", &cgroup.CPU{Levels: quota(none, 100000)}, all, all},
		{"1.5 CPUs", &cgroup.CPU{Levels: quota(150000, 100000)}, all, []int{0, 1}},
		{"2 CPUs", &cgroup.CPU{Levels: quota(200000, 100000)}, all, []int{0, 1}},
		{"half a CPU", &cgroup.CPU{Levels: quota(50000, 100000)}, all, []int{0}},
		{"quota 0", &cgroup.CPU{Levels: quota(0, 100000)}, all, []int{0}},
		{"period 0", &cgroup.CPU{Levels: quota(100000, 0)}, all, all},
		{"parent's quota", &cgroup.CPU{Levels: quota(400000, 100000, 25000, 10000, none, 100000)}, all, []int{0, 1, 2}},
		{"own quota below the parent's", &cgroup.CPU{Levels: quota(10000, 10000, 400000, 100000)}, all, []int{0}},
		{"huge quota", &cgroup.CPU{Levels: quota(math.MaxUint64-1, 1)}, all, all},
		{"cpuset", &cgroup.CPU{Set: []int{1, 3, 5}}, all, []int{1, 3, 5}},
		{"cpuset and quota", &cgroup.CPU{Set: []int{1, 3, 5}, Levels: quota(200000, 100000)}, all, []int{1, 3}},
		{"cpuset and larger quota", &cgroup.CPU{Set: []int{1, 3, 5}, Levels: quota(700000, 100000)}, all, []int{1, 3, 5}},
		{"cpuset with an offline CPU", &cgroup.CPU{Set: []int{1, 3, 5}}, []int{0, 1, 2, 5, 6}, []int{1, 5}},
		{"cpuset all offline", &cgroup.CPU{Set: []int{3}}, []int{0, 1}, []int{0, 1}},
		{"online unknown", &cgroup.CPU{Set: []int{3, 4}}, nil, []int{3, 4}},
		{"nothing known", nil, nil, nil},
	} {
		got := VisibleCPUs([]int{99}, test.cpu, test.online, &policy.Policy{})
		if want := append([]int{99}, test.want...); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", test.name, got[1:], test.want)
		}
	}
}

func TestBindingQuota(t *testing.T) {
	const none = cgroup.Unlimited
	for _, test := range []struct {
		levels []cgroup.CPULevel
		want   int
	}{
		{nil, -1},
		{[]cgroup.CPULevel{{Quota: none, Period: 100000}, {Quota: 5, Period: 0}}, -1},
		{[]cgroup.CPULevel{{Quota: none, Period: 100000}, {Quota: 5, Period: 10}}, 1},
		// 2 CPUs and 1.5: both show as 2, the second binds.
		{[]cgroup.CPULevel{{Quota: 200000, Period: 100000}, {Quota: 15000, Period: 10000}}, 1},
		{[]cgroup.CPULevel{{Quota: 100000, Period: 100000}, {Quota: 10000, Period: 10000}}, 0},
		{[]cgroup.CPULevel{{Quota: none - 1, Period: 1}, {Quota: none - 1, Period: 2}, {Quota: none - 1, Period: 1}}, 1},
	} {
		if got := cgroup.BindingQuota(test.levels); got != test.want {
			t.Errorf("%v: got %d, want %d", test.levels, got, test.want)
		}
	}
}

// The number of CPUs is one, in every file that says it.
func TestOneCPUCount(t *testing.T) {
	for _, size := range []int{2, 64, 1024} {
		h := bigHost(t, size)
		for _, n := range []int{1, 2, size/2 + 1, size} {
			c := &Container{CPUs: VisibleCPUs(nil, &cgroup.CPU{Set: h.OnlineCPUs[size-n:]}, h.OnlineCPUs, &policy.Policy{}), Age: -1}
			for _, times := range []*CPUTimes{nil, {}, {Rows: make([]CPURow, n)}, {Rows: make([]CPURow, n+5)}} {
				c.Times = times
				list := fmt.Sprintf("0-%d\n", n-1)
				if n == 1 {
					list = "0\n"
				}
				stat, cpuinfo := string(Stat(nil, h, c)), string(Cpuinfo(nil, h, c))
				if got := strings.Count("\n"+stat, "\ncpu") - 1; got != n {
					t.Errorf("%d of %d CPUs: stat has %d rows", n, size, got)
				}
				if got := strings.Count("\n"+cpuinfo, "\nprocessor\t: "); got != n {
					t.Errorf("%d of %d CPUs: cpuinfo has %d blocks", n, size, got)
				}
				for _, last := range []string{fmt.Sprintf("\ncpu%d ", n-1), fmt.Sprintf("\nprocessor\t: %d\n", n-1)} {
					if strings.Count("\n"+stat+cpuinfo, last) != 1 {
						t.Errorf("%d of %d CPUs: no %q", n, size, last)
					}
				}
				if online, present := string(CPUOnline(nil, h, c)), string(CPUPresent(nil, h, c)); online != list || present != list {
					t.Errorf("%d of %d CPUs: online %q, present %q", n, size, online, present)
				}
			}
			if got := string(CPUPossible(nil, h, c)); got != string(h.Possible) {
				t.Errorf("possible: got %q", got)
			}
		}
	}
}

// bigHost makes a machine of n CPUs out of the blocks and rows of the 6.1 fixture.
func bigHost(t testing.TB, n int) *host.Snapshot {
	t.Helper()
	h := readFixture(t, "testdata/linux-6.1-x86_64.txtar").host
	list := fmt.Appendf(nil, "0-%d\n", n-1)
	h.Online, h.Present, h.Possible = list, list, list
	h.OnlineCPUs = nil
	block, rest := h.Cpuinfo.Blocks[0].Text, h.Stat
	for range 5 { // the cpu rows
		_, rest = cutLine(rest)
	}
	var cpuinfo, rows []byte
	var sum cpuColumns
	for cpu := range n {
		h.OnlineCPUs = append(h.OnlineCPUs, cpu)
		for text := block; len(text) > 0; {
			var line []byte
			line, text = cutLine(text)
			switch key, _ := cutKey(line); string(key) { // one package of cores with two threads
			case "siblings":
				cpuinfo = appendValue(cpuinfo, line, n)
			case "cpu cores":
				cpuinfo = appendValue(cpuinfo, line, (n+1)/2)
			case "core id":
				cpuinfo = appendValue(cpuinfo, line, cpu/2)
			case "processor":
				cpuinfo = appendValue(cpuinfo, line, cpu)
			default:
				cpuinfo = append(cpuinfo, line...)
			}
		}
		row := cpuColumns{uint64(1000 + cpu), 1, uint64(cpu), 90000, 2, 3, 4, 5, 6, 7}
		for i := range sum {
			sum[i] += row[i]
		}
		rows = appendColumns(fmt.Appendf(rows, "cpu%d", cpu), len(row), &row)
	}
	h.Cpuinfo = host.ParseCpuinfo(cpuinfo)
	h.Stat = slices.Concat(appendColumns([]byte("cpu "), len(sum), &sum), rows, rest)
	return h
}
