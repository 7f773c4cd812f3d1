package tree

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/fs/policy"
)

// The CPUs of a container are one set of numbers in every file that says something of CPUs, whatever the limits and the
// policy.
func TestOneCPUCountEverywhere(t *testing.T) {
	c := mountNUMA(t, policy.Policy{})
	// want is the number of CPUs by source; where that depends on the rounding, by rounding.
	type counts [3]int
	same := func(n int) counts { return counts{n, n, n} }
	for _, limits := range []struct {
		quota, set, weight string
		want               map[policy.CPUSource]counts
	}{
		{"max 100000", "0-7", "100", map[policy.CPUSource]counts{policy.Quota: same(8), policy.Cpuset: same(8), policy.Shares: {1, 1, 2}}},
		{"140000 100000", "0-7", "100", map[policy.CPUSource]counts{policy.Quota: {2, 1, 2}, policy.Cpuset: same(8), policy.Shares: {1, 1, 2}}},
		{"50000 100000", "6", "100", map[policy.CPUSource]counts{policy.Quota: same(1), policy.Cpuset: same(1), policy.Shares: same(1)}},
		{"250000 100000", "1,3,5,7", "10000", map[policy.CPUSource]counts{policy.Quota: same(3), policy.Cpuset: same(4), policy.Shares: same(4)}},
		{"700000 100000", "2-5", "100", map[policy.CPUSource]counts{policy.Quota: same(4), policy.Cpuset: same(4), policy.Shares: {1, 1, 2}}},
		{"1000 100000", "4-7", "1", map[policy.CPUSource]counts{policy.Quota: {1, 1, 2}, policy.Cpuset: same(4), policy.Shares: {1, 1, 2}}},
	} {
		c.m.Cgroup("/c1", map[string]string{
			"cpu.max": limits.quota + "\n", "cpuset.cpus.effective": limits.set + "\n", "cpu.weight": limits.weight + "\n",
		})
		for source, byRounding := range limits.want {
			for _, rounding := range []policy.CPURounding{policy.Ceil, policy.Round, policy.Min2} {
				for _, identity := range []policy.CPUIdentity{policy.Count, policy.IDs, policy.Coherent} {
					p := policy.Policy{CPUSource: source, CPURounding: rounding, CPUIdentity: identity}
					c.reg.SetPolicy(p)
					n := byRounding[rounding]
					want := list(limits.set)[:n]
					if identity != policy.IDs {
						want = slices.Collect(upTo(n))
					}
					c.checkCPUs(fmt.Sprintf("quota %s, cpuset %s, weight %s, %v", limits.quota, limits.set, limits.weight, p.Text()), onePID, want, identity)
				}
			}
		}
	}
	c.reg.SetPolicy(policy.Policy{})
	c.checkCPUs("the machine", machinePID, slices.Collect(upTo(8)), policy.Count)
}

func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// checkCPUs looks for the CPUs in every file and listing.
func (c *client) checkCPUs(what string, pid uint32, want []int, identity policy.CPUIdentity) {
	c.t.Helper()
	check := func(where string, got []int) {
		c.t.Helper()
		if !slices.Equal(got, want) {
			c.t.Errorf("%s: %s has %v, want %v", what, where, got, want)
		}
	}
	check("cpuinfo", numbersAfter(c.cat(c.walk(pid, "proc", "cpuinfo"), pid), "processor\t: "))
	check("stat", numbersAfter(c.cat(c.walk(pid, "proc", "stat"), pid), "cpu"))
	for _, file := range []string{"online", "present", "enabled"} {
		check(file, list(c.sys(pid, file)))
	}
	check("the listing of cpu", cpuNames(c.readdirAs(c.walk(pid, strings.Split(cpuDir, "/")...), pid)))
	if identity == policy.Coherent {
		check("possible", list(c.sys(pid, "possible")))
		check("kernel_max", slices.Collect(upTo(list(c.sys(pid, "kernel_max"))[0]+1)))
	} else if possible, last := c.sys(pid, "possible"), c.sys(pid, "kernel_max"); possible != "0-7\n" || last != "255\n" {
		c.t.Errorf("%s: possible %q, kernel_max %q, want the machine's", what, possible, last)
	}
	// Each CPU is in one package, one L1 cache, one cpufreq policy, one node. Together they are all.
	var packages, caches, policies, nodes, links []int
	for _, cpu := range want {
		dir := fmt.Sprintf("cpu%d/", cpu)
		for file, all := range map[string]*[]int{"topology/package_cpus_list": &packages, "cache/index0/shared_cpu_list": &caches} {
			if group := list(c.sys(pid, dir+file)); group[0] == cpu {
				*all = append(*all, group...)
			}
		}
	}
	for _, name := range c.readdirAs(c.walk(pid, strings.Split(cpuDir+"/cpufreq", "/")...), pid) {
		if _, ok := numberAfter(name, "policy"); ok {
			policies = append(policies, list(strings.ReplaceAll(c.sys(pid, "cpufreq/"+name+"/affected_cpus"), " ", ","))...)
		}
	}
	for _, name := range c.nodeNames(pid, "") {
		if _, ok := numberAfter(name, "node"); ok {
			nodes = append(nodes, list(c.node(pid, name+"/cpulist"))...)
			links = append(links, cpuNames(c.nodeNames(pid, "/"+name))...)
		}
	}
	for where, all := range map[string][]int{"topology": packages, "caches": caches, "cpufreq": policies, "cpulist of nodes": nodes, "links in nodes": links} {
		slices.Sort(all)
		check(where, all)
	}
}

// numbersAfter are the numbers that lines have behind a prefix.
func numbersAfter(text, prefix string) (numbers []int) {
	for line := range strings.Lines(text) {
		var n int
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			if _, err := fmt.Sscanf(rest, "%d", &n); err == nil && !strings.HasPrefix(rest, " ") {
				numbers = append(numbers, n)
			}
		}
	}
	return numbers
}
