package view

import (
	"strings"
	"testing"

	"github.com/scopefs/scopefs/fs/host"
)

func cpuinfoHost(text string) *host.Snapshot {
	return &host.Snapshot{Cpuinfo: host.ParseCpuinfo([]byte(text))}
}

// A whole machine's topology is turned into one package of single-threaded cores.
func TestCpuinfoTopology(t *testing.T) {
	h := cpuinfoHost("processor\t: 0\nphysical id\t: 0\nsiblings\t: 4\ncore id\t\t: 0\ncpu cores\t: 2\napicid\t\t: 0\ninitial apicid\t: 0\nflags\t\t: core id: 7\n\n" +
		"processor\t: 1\nphysical id\t: 1\nsiblings\t: 4\ncore id\t\t: 9\ncpu cores\t: 2\napicid\t\t: 32\ninitial apicid\t: 33\nflags\t\t: core id: 8\n\n")
	const want = "processor\t: 0\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\ninitial apicid\t: 0\nflags\t\t: core id: 8\n\n"
	if got := string(Cpuinfo(nil, h, &Container{CPUs: []int{1}})); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got := string(Cpuinfo(nil, h, &Container{CPUs: []int{0, 1}}))
	for _, line := range []string{"processor\t: 1\n", "physical id\t: 0\n", "siblings\t: 2\n", "cpu cores\t: 2\n", "core id\t\t: 1\n",
		"apicid\t\t: 1\n", "initial apicid\t: 1\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
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
