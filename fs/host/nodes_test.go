package host

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	machines "github.com/scopefs/scopefs/fs/internal/fixture"
)

func TestNodes(t *testing.T) {
	m := machines.NewNUMA(t)
	f, err := Open(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, test := range []struct {
		online []int
		want   []Node
	}{
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, []Node{{0, []int{0, 1, 4, 5}}, {1, []int{2, 3, 6, 7}}}},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, []Node{{0, []int{0, 1, 4, 5}}, {1, []int{2, 3, 6, 7}}}},
		{[]int{0, 3}, []Node{{0, []int{0}}, {1, []int{3}}}},
		{[]int{0, 1}, []Node{{0, []int{0, 1}}, {1, nil}}},
	} {
		m.SetOnline(test.online...)
		var h Snapshot
		if err := f.Snapshot(NeedCPULists|NeedNodes, &h); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, h.Nodes); diff != "" {
			t.Errorf("CPUs %v online: %s", test.online, diff)
		}
	}

	// A CPU that came between the two lists: what was read then is not kept.
	m.Write("sys/devices/system/node/node1/cpulist", "2\n")
	m.Write("sys/devices/system/cpu/online", "0-3\n")
	var h Snapshot
	if err := f.Snapshot(NeedCPULists|NeedNodes, &h); err != nil || !slices.Equal(h.Nodes[1].CPUs, []int{2}) {
		t.Errorf("%v, %v", h.Nodes, err)
	}
	m.Write("sys/devices/system/node/node1/cpulist", "2-3\n")
	if err := f.Snapshot(NeedCPULists|NeedNodes, &h); err != nil || !slices.Equal(h.Nodes[1].CPUs, []int{2, 3}) {
		t.Errorf("%v, %v", h.Nodes, err)
	}

	if err := f.Snapshot(NeedCPULists, &h); err != nil || h.Nodes != nil {
		t.Errorf("not asked for: %v, %v", h.Nodes, err)
	}
}

func TestNoNodes(t *testing.T) {
	f, err := Open(machines.New(t).Root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var h Snapshot
	if err := f.Snapshot(NeedCPULists|NeedNodes, &h); err != nil || h.Nodes != nil {
		t.Errorf("%v, %v", h.Nodes, err)
	}
}
