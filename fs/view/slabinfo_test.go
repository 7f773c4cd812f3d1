package view

import (
	"strings"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

const slabHeader = "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> : tunables <limit> : slabdata <active_slabs>\n"

func TestSlabinfo(t *testing.T) {
	const (
		full  = "dentry            123456 123480    192   21    1 : tunables    0    0    0 : slabdata   5880   5880      0\n"
		empty = "dentry                 0      0    192   21    1 : tunables    0    0    0 : slabdata      0      0      0\n"
	)
	memory := &cgroup.Memory{Levels: []cgroup.MemoryLevel{level("/c", gib, mib, 0)}}
	for _, test := range []struct {
		name, machine string
		c             *Container
		want          string
		objects       uint64 // as explained
	}{
		{"no container", slabHeader + full, nil, slabHeader + full, 0},
		{"no memory controller", slabHeader + full, &Container{}, slabHeader + full, 0},
		{"no caches are counted", slabHeader + full, &Container{Memory: memory}, slabHeader + empty, 0},
		{"the container's own", slabHeader + full, &Container{Memory: memory, Slabinfo: []byte(slabHeader + full + full)}, slabHeader + full + full, 2 * 123480},
		{"the machine has none", slabHeader, &Container{Memory: memory}, slabHeader, 0},
		{"numbers wider than their columns",
			"kmalloc-rnd-01-128 1234567 1234568    128   32    1 : tunables    0    0    0 : slabdata 38581234 38581234      0\n", &Container{Memory: memory},
			"kmalloc-rnd-01-128      0      0    128   32    1 : tunables    0    0    0 : slabdata      0      0      0\n", 0},
		{"SLAB, with tunables and statistics",
			"pid                  240    240    128   30    1 : tunables  120   60    8 : slabdata      8      8      0 : globalstat     240    240     8    0    0    0    0    0    0 : cpustat    500     20    400      3\n", &Container{Memory: memory},
			"pid                    0      0    128   30    1 : tunables  120   60    8 : slabdata      0      0      0 : globalstat       0      0     0    0    0    0    0    0    0 : cpustat      0      0      0      0\n", 0},
		{"no line of a cache", "\nx\nx : \nx -1 2 3 : slabdata x\n: : 5", &Container{Memory: memory}, "\nx\nx : \nx -1 2 3 : slabdata x\n: : 5", 0},
	} {
		h := &host.Snapshot{Slabinfo: []byte(test.machine)}
		if got := string(Slabinfo([]byte("before"), h, test.c)); got != "before"+test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}
		for _, n := range Explain("proc/slabinfo", h, test.c) {
			if n.Value != test.objects {
				t.Errorf("%s: %+v, want %d objects", test.name, n, test.objects)
			}
		}
	}
}

// A container that the kernel counts no caches for is shown the machine's: which there are, and not how full any is.
func TestSlabinfoTellsNothingOfTheMachine(t *testing.T) {
	found := 0
	for _, f := range readFixtures(t) {
		if f.host.Slabinfo == nil {
			continue
		}
		c := &Container{Memory: &cgroup.Memory{Levels: []cgroup.MemoryLevel{level("/c", gib, mib, 0)}}}
		got, want := strings.Split(string(Slabinfo(nil, f.host, c)), "\n"), strings.Split(string(f.host.Slabinfo), "\n")
		if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
			t.Fatalf("%s: got\n%s", f.name, strings.Join(got, "\n"))
		}
		for i, line := range want[2:] {
			shown, machine := strings.Fields(got[i+2]), strings.Fields(line)
			if len(shown) != len(machine) {
				t.Fatalf("%s: %q for %q", f.name, got[i+2], line)
			}
			for column, text := range shown {
				switch column {
				case 1, 2, 13, 14, 15: // active_objs, num_objs, active_slabs, num_slabs, sharedavail
					if found++; text != "0" {
						t.Errorf("%s: column %d of %q", f.name, column, got[i+2])
					}
				default:
					if text != machine[column] {
						t.Errorf("%s: column %d of %q, the machine has %q", f.name, column, got[i+2], line)
					}
				}
			}
		}
	}
	if found == 0 {
		t.Error("no fixture has a cache")
	}
}
