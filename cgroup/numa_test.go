package cgroup

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What Debian's kernels wrote in a virtual machine with two nodes, after a cgroup that was bound to node 1 filled 30 MiB
// of anonymous memory and 20 MiB of a tmpfs: 6.1 on v2, and 5.10 on v1.
const (
	numaStatV2 = `anon N0=0 N1=31653888
file N0=0 N1=20971520
kernel_stack N0=16384 N1=49152
pagetables N0=0 N1=151552
sec_pagetables N0=0 N1=0
shmem N0=0 N1=20971520
anon_thp N0=0 N1=29360128
inactive_anon N0=0 N1=52555776
active_anon N0=0 N1=8192
slab_reclaimable N0=13616 N1=81872
slab_unreclaimable N0=12032 N1=117984
workingset_refault_anon N0=7 N1=8
`
	numaStatV1 = `total=12848 N0=0 N1=12834
file=0 N0=0 N1=0
anon=12848 N0=0 N1=12834
unevictable=0 N0=0 N1=0
hierarchical_total=12849 N0=1 N1=12848
hierarchical_file=3 N0=1 N1=2
hierarchical_anon=12848 N0=0 N1=12848
hierarchical_unevictable=4 N0=0 N1=4
`
)

func TestNUMAStat(t *testing.T) {
	page := uint64(os.Getpagesize())
	for _, test := range []struct {
		name    string
		fixture string
		file    string // of the level that has it
		text    string
		want    NUMAStat
	}{
		{"v2", "v2-6.1", "kubepods/pod1/app", numaStatV2, NUMAStat{Version: V2, Path: "/kubepods/pod1/app", Nodes: []MemoryStat{
			{KernelStack: 16384, SlabReclaimable: 13616, SlabUnreclaimable: 12032},
			{Anon: 31653888, File: 20971520, Shmem: 20971520, KernelStack: 49152, PageTables: 151552, AnonTHP: 29360128,
				InactiveAnon: 52555776, ActiveAnon: 8192, SlabReclaimable: 81872, SlabUnreclaimable: 117984},
		}}},
		{"v1", "v1-5.10", "memory/kubepods/pod1/app", numaStatV1, NUMAStat{Version: V1, Path: "/kubepods/pod1/app", Nodes: []MemoryStat{
			{File: page}, {Anon: 12848 * page, File: 2 * page, Unevictable: 4 * page},
		}}},
		{"v1 before Linux 3.13", "v1-5.10", "memory/kubepods/pod1/app", "total=3 N0=1 N1=2\nanon=3 N0=1 N1=2\n",
			NUMAStat{Version: V1, Path: "/kubepods/pod1/app", Nodes: []MemoryStat{{Anon: page}, {Anon: 2 * page}}}},
		{"nodes with gaps", "v2-6.1", "kubepods/pod1/app", "anon N0=1 N8=2\n",
			NUMAStat{Version: V2, Path: "/kubepods/pod1/app", Nodes: []MemoryStat{{Anon: 1}, {}, {}, {}, {}, {}, {}, {}, {Anon: 2}}}},
		{"of the nearest ancestor", "v2-6.1", "kubepods", "anon N0=1\n",
			NUMAStat{Version: V2, Path: "/kubepods", Nodes: []MemoryStat{{Anon: 1}}}},
		{"a kernel without", "v2-6.1", "", "", NUMAStat{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := fixture(t, test.fixture)
			if test.file != "" {
				write(t, root+"/sys/fs/cgroup/"+test.file+"/memory.numa_stat", test.text)
			}
			g := open(t, newFS(t, root), container(t, root))
			got := NUMAStat{Nodes: []MemoryStat{{Anon: 9}, {Anon: 9}, {Anon: 9}}} // of an earlier call
			if err := g.ReadNUMAStat(&got); err != nil {
				t.Fatal(err)
			}
			if len(got.Nodes) == 0 {
				got.Nodes = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNUMAStatMalformed(t *testing.T) {
	for _, text := range []string{"anon 5\n", "anon N0\n", "anon N0=\n", "anon N=1\n", "anon N1024=1\n", "anon N0=-1\n", "file N0=1  N1=2\n"} {
		if got, err := parseNUMAStat(nil, []byte(text), V2); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestMems(t *testing.T) {
	for _, test := range []struct {
		name    string
		fixture string
		files   map[string]string
		want    []int
		path    string
	}{
		{"v2", "v2-6.1", map[string]string{"kubepods/pod1/app/cpuset.mems.effective": "1\n"}, []int{1}, "/kubepods/pod1/app"},
		{"v2, of the pod", "v2-6.1", map[string]string{"kubepods/pod1/cpuset.mems.effective": "0-1\n"}, []int{0, 1}, "/kubepods/pod1"},
		{"v1", "v1-5.10", map[string]string{"cpuset/kubepods/pod1/app/cpuset.effective_mems": "0,2\n",
			"cpuset/kubepods/pod1/app/cpuset.mems": "0-3\n"}, []int{0, 2}, "/kubepods/pod1/app"},
		{"v1 before Linux 3.17", "v1-5.10", map[string]string{"cpuset/kubepods/pod1/app/cpuset.mems": "\n",
			"cpuset/kubepods/pod1/cpuset.mems": "3\n"}, []int{3}, "/kubepods/pod1"},
		{"no cpuset controller", "v2-6.1", nil, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := fixture(t, test.fixture)
			for path, text := range test.files {
				write(t, root+"/sys/fs/cgroup/"+path, text)
			}
			got, path, err := open(t, newFS(t, root), container(t, root)).ReadMems()
			if err != nil || !slices.Equal(got, test.want) || path != test.path {
				t.Errorf("got %v of %q, %v; want %v of %q", got, path, err, test.want, test.path)
			}
		})
	}
}

func FuzzNUMAStat(f *testing.F) {
	f.Add([]byte(numaStatV2), true)
	f.Add([]byte(numaStatV1), false)
	f.Add([]byte("anon N0=18446744073709551615 N1=18446744073709551616\n"), true)
	f.Add([]byte("anon=99999999999999999999 N0=18446744073709551615\n"), false)
	f.Add([]byte("anon N1023=1 N1024=1"), true)
	f.Fuzz(func(t *testing.T, text []byte, v2 bool) {
		version := V1
		if v2 {
			version = V2
		}
		got, err := parseNUMAStat(nil, text, version)
		if len(got) > maxNodes {
			t.Fatalf("%q: %d nodes", text, len(got))
		}
		for _, n := range got {
			// A wrap would leave something that is no number of pages and not the largest number.
			if page := uint64(os.Getpagesize()); err == nil && !v2 && n.Anon%page != 0 && n.Anon != ^uint64(0) {
				t.Fatalf("%q: %d bytes from pages", text, n.Anon)
			}
			if !v2 && n.Slab != 0 {
				t.Fatalf("%q: v1 counts no slab", text)
			}
		}
	})
}
