package cgroup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePaths(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Paths
		bad        bool
	}{
		{"v2", "0::/system.slice/docker-1.scope\n", Paths{Unified: "/system.slice/docker-1.scope"}, false},
		{"v1, controllers mounted together", "4:cpu,cpuacct:/a\n3:memory:/b\n2:name=systemd:/c\n1:net_cls,net_prio:/d\n",
			Paths{CPU: "/a", CPUAcct: "/a", Memory: "/b"}, false},
		{"hybrid", "9:hugetlb:/h\n8:pids:/p\n7:blkio:/io\n6:cpuset:/s\n0::/u\n",
			Paths{Unified: "/u", Hugetlb: "/h", Pids: "/p", Blkio: "/io", CPUSet: "/s"}, false},
		{"colons in the path", "0::/a:b:c/d\n", Paths{Unified: "/a:b:c/d"}, false},
		{"odd bytes", "0::/a \t\xff\x01\n", Paths{Unified: "/a \t\xff\x01"}, false},
		{"removed", "0::/a/b (deleted)\n", Paths{Unified: "/a/b"}, false},
		{"outside of the namespace", "0::/../../b\n", Paths{Unified: "/../../b"}, false},
		{"no newline at the end", "0::/a", Paths{Unified: "/a"}, false},
		{"empty: a zombie's", "", Paths{}, false},
		{"named like a controller", "1:name=cpu:/a\n0::/\n", Paths{Unified: "/"}, false},
		{"no path", "0::\n", Paths{}, true},
		{"relative", "0::a\n", Paths{}, true},
		{"no colon", "0\n", Paths{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParsePaths([]byte(tt.text))
			if (err != nil) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPathsContains(t *testing.T) {
	for _, tt := range []struct {
		name     string
		p, other Paths
		want     bool
	}{
		{"itself", Paths{Unified: "/a"}, Paths{Unified: "/a"}, true},
		{"below", Paths{Unified: "/a"}, Paths{Unified: "/a/b/c"}, true},
		{"same beginning of the name", Paths{Unified: "/a"}, Paths{Unified: "/ab"}, false},
		{"above", Paths{Unified: "/a/b"}, Paths{Unified: "/a"}, false},
		{"root does not matter", Paths{Unified: "/", Memory: "/m"}, Paths{Unified: "/x", Memory: "/m/n"}, true},
		{"every hierarchy counts", Paths{CPU: "/c", Memory: "/m"}, Paths{CPU: "/d", Memory: "/m"}, false},
		{"hierarchy not there", Paths{CPU: "/c"}, Paths{Unified: "/c"}, false},
	} {
		if got := tt.p.Contains(tt.other); got != tt.want {
			t.Errorf("%s: %v.Contains(%v) = %v", tt.name, tt.p, tt.other, got)
		}
	}
}

func TestPathsTrimInit(t *testing.T) {
	got := Paths{Unified: "/lxc.payload.c1/init.scope", CPU: "/init.scope", Memory: "/lxc/c1/.lxc",
		Pids: "/xinit.scope", Blkio: "/"}.TrimInit()
	want := Paths{Unified: "/lxc.payload.c1", CPU: "/", Memory: "/lxc/c1", Pids: "/xinit.scope", Blkio: "/"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPathsSummary(t *testing.T) {
	for _, tt := range []struct {
		p      Paths
		text   string
		depth  int
		isRoot bool
	}{
		{Paths{}, "/", 0, true},
		{Paths{Unified: "/", CPU: "/", Memory: "/"}, "/", 0, true},
		{Paths{Unified: "/a/b"}, "/a/b", 2, false},
		{Paths{Unified: "/", CPU: "/c", Memory: "/m/n"}, "/m/n", 3, false},
		{Paths{Unified: "/", Hugetlb: "/h"}, "/h", 1, false},
	} {
		if got := tt.p.String(); got != tt.text {
			t.Errorf("%#v.String() = %q, want %q", tt.p, got, tt.text)
		}
		if got := tt.p.Depth(); got != tt.depth {
			t.Errorf("%#v.Depth() = %d, want %d", tt.p, got, tt.depth)
		}
		if got := tt.p.IsRoot(); got != tt.isRoot {
			t.Errorf("%#v.IsRoot() = %v", tt.p, got)
		}
	}
}

func FuzzParsePaths(f *testing.F) {
	for _, seed := range []string{"", "0::/\n", "4:cpu,cpuacct:/a (deleted)\n0::/../b:c\n", "1:memory:/m/.lxc", "::\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePaths(text)
		if err != nil {
			return
		}
		for h := range hierarchies {
			if path := *p.field(h); path != "" && (path[0] != '/' || strings.Contains(path, "\n")) {
				t.Fatalf("%q: path %q", text, path)
			}
		}
		if !p.Contains(p) || p.IsRoot() != (p.Depth() == 0) {
			t.Fatalf("%q: %#v disagrees with itself", text, p)
		}
		if trimmed := p.TrimInit(); !trimmed.Contains(p) || trimmed.Depth() > p.Depth() {
			t.Fatalf("%q: trimmed to %#v", text, trimmed)
		}
	})
}

func TestParent(t *testing.T) {
	for _, test := range []struct{ of, want Paths }{
		{Paths{Unified: "/kubepods/pod1/c1"}, Paths{Unified: "/kubepods/pod1"}},
		{Paths{Unified: "/docker"}, Paths{Unified: "/docker"}}, // the root is no container's
		{Paths{Unified: "/"}, Paths{Unified: "/"}},
		{Paths{}, Paths{}},
		{Paths{Unified: "/", Memory: "/lxc/a", CPU: "/a", CPUSet: "/"}, Paths{Unified: "/", Memory: "/lxc", CPU: "/a", CPUSet: "/"}},
	} {
		if got := test.of.Parent(); got != test.want || !got.Contains(test.of) {
			t.Errorf("%+v: %+v, want %+v", test.of, got, test.want)
		}
	}
}
