package view

import (
	"fmt"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

func cpuinfoHost(text string) *host.Snapshot {
	return &host.Snapshot{Cpuinfo: host.ParseCpuinfo([]byte(text))}
}

// Where a CPU sits stays, and what is counted are the visible CPUs of its package.
func TestCpuinfoTopology(t *testing.T) {
	var text strings.Builder
	for i, at := range [][3]int{{0, 0, 0}, {1, 0, 32}, {0, 9, 18}, {1, 9, 50}, {0, 0, 1}, {1, 0, 33}} { // package, core, apicid
		fmt.Fprintf(&text, "processor\t: %d\nphysical id\t: %d\nsiblings\t: 3\ncore id\t\t: %d\ncpu cores\t: 2\n"+
			"apicid\t\t: %d\ninitial apicid\t: %d\nflags\t\t: core id: 7\n\n", i, at[0], at[1], at[2], at[2])
	}
	h := cpuinfoHost(text.String())
	block := func(number, pkg, siblings, core, cores, apic int) string {
		return fmt.Sprintf("processor\t: %d\nphysical id\t: %d\nsiblings\t: %d\ncore id\t\t: %d\ncpu cores\t: %d\n"+
			"apicid\t\t: %d\ninitial apicid\t: %d\nflags\t\t: core id: 7\n\n", number, pkg, siblings, core, cores, apic, apic)
	}
	for _, test := range []struct {
		c    *Container
		want string
	}{
		{&Container{CPUs: []int{1}}, block(0, 1, 1, 0, 1, 32)},
		{&Container{CPUs: []int{0, 4}}, block(0, 0, 2, 0, 1, 0) + block(1, 0, 2, 0, 1, 1)},
		{&Container{CPUs: []int{0, 1, 2}}, block(0, 0, 2, 0, 2, 0) + block(1, 1, 1, 0, 1, 32) + block(2, 0, 2, 9, 2, 18)},
		{&Container{CPUs: []int{3, 5}, Policy: policy.Policy{CPUIdentity: policy.IDs}}, block(3, 1, 2, 9, 2, 50) + block(5, 1, 2, 0, 2, 33)},
	} {
		if got := string(Cpuinfo(nil, h, test.c)); got != test.want {
			t.Errorf("CPUs %v: got\n%swant\n%s", test.c.CPUs, got, test.want)
		}
	}
}

// However many packages there are, and in whatever order their CPUs come, siblings and cores are the visible ones of each.
func TestCpuinfoCountsByPackage(t *testing.T) {
	for _, packages := range []int{1, 2, 16, 17, 40} {
		const threads = 2
		var text strings.Builder
		for i := range 4 * packages {
			fmt.Fprintf(&text, "processor\t: %d\nphysical id\t: %d\nsiblings\t: 4\ncore id\t\t: %d\ncpu cores\t: 2\n\n", i, i%packages, i/packages/threads)
		}
		h, c := cpuinfoHost(text.String()), new(Container)
		for cpu := range 4 * packages {
			if cpu%3 > 0 {
				c.CPUs = append(c.CPUs, cpu)
			}
		}
		cpus, cores := map[int]int{}, map[[2]int]bool{}
		for _, cpu := range c.CPUs {
			cpus[cpu%packages]++
			cores[[2]int{cpu % packages, cpu / packages / threads}] = true
		}
		for i, block := range strings.Split(strings.TrimSpace(string(Cpuinfo(nil, h, c))), "\n\n") {
			pkg := c.CPUs[i] % packages
			n := 0
			for core := range cores {
				if core[0] == pkg {
					n++
				}
			}
			if want := fmt.Sprintf("siblings\t: %d\n", cpus[pkg]); !strings.Contains(block, want) {
				t.Errorf("%d packages: no %q in %q", packages, want, block)
			}
			if want := fmt.Sprintf("cpu cores\t: %d", n); !strings.HasSuffix(block, want) {
				t.Errorf("%d packages: no %q in %q", packages, want, block)
			}
		}
	}
}

// A CPU that went offline since its block was read has one all the same.
func TestCpuinfoOffline(t *testing.T) {
	h := cpuinfoHost("processor\t: 2\nmodel\t: a\n\nprocessor\t: 5\nmodel\t: b\n\n")
	for _, test := range []struct {
		cpus []int
		want string
	}{
		{[]int{0}, "processor\t: 0\nmodel\t: a\n\n"},
		{[]int{4}, "processor\t: 0\nmodel\t: a\n\n"},
		{[]int{5, 900}, "processor\t: 0\nmodel\t: b\n\nprocessor\t: 1\nmodel\t: b\n\n"},
		{[]int{-1}, "processor\t: 0\nmodel\t: a\n\n"},
	} {
		if got := string(Cpuinfo(nil, h, &Container{CPUs: test.cpus})); got != test.want {
			t.Errorf("CPUs %v: got\n%s", test.cpus, got)
		}
	}
}

// A text without blocks is not understood, and passes as it is.
func TestCpuinfoUnknown(t *testing.T) {
	const text = "Processor\t: ARMv6-compatible processor rev 5 (v6l)\nBogoMIPS\t: 791.34\n"
	if got := string(Cpuinfo(nil, cpuinfoHost(text), &Container{CPUs: []int{0}})); got != text {
		t.Errorf("got %q", got)
	}
	if got := Cpuinfo(nil, &host.Snapshot{}, &Container{CPUs: []int{0}}); len(got) != 0 {
		t.Errorf("not read: got %q", got)
	}
}
