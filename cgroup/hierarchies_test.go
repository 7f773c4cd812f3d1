package cgroup

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine makes a root with a mountinfo, and the mount points in it but for hidden ones.
func machine(t *testing.T, hidden string, lines ...string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root+"/proc/self/mountinfo", strings.Join(lines, "\n")+"\n")
	for _, line := range lines {
		if point := strings.Fields(line)[4]; point != hidden {
			write(t, root+strings.ReplaceAll(point, `\040`, " ")+"/cgroup.procs", "")
		}
	}
	return root
}

func TestDiscover(t *testing.T) {
	p := Paths{Unified: "/u", CPU: "/c", CPUAcct: "/c", Memory: "/docker/1/m", Pids: "/"}
	type place struct {
		Dir     string
		Version Version
	}
	for _, tt := range []struct {
		name, hidden string
		lines        []string
		want         map[string]place
	}{
		{"v2 only", "", []string{"1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"},
			map[string]place{"": {"/sys/fs/cgroup/u", V2}, "cpu": {"/sys/fs/cgroup/u", V2}, "pids": {"/sys/fs/cgroup/u", V2}}},
		{"hybrid: what is not on v1 is on v2", "", []string{
			"1 0 0:1 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
			"2 0 0:2 / /cg/pids rw - cgroup cgroup rw,pids",
			"3 0 0:3 / /cg/unified rw - cgroup2 cgroup2 rw",
			"4 0 0:4 / /cg/systemd rw - cgroup cgroup rw,name=systemd",
		}, map[string]place{"": {"/cg/unified/u", V2}, "cpu": {"/cg/cpu,cpuacct/c", V1},
			"cpuacct": {"/cg/cpu,cpuacct/c", V1}, "pids": {"", V0}, "memory": {"/cg/unified/u", V2}}},
		{"the whole hierarchy before a part, then the shortest", "", []string{
			"1 0 0:1 /x /a rw - cgroup2 cgroup2 rw",
			"2 0 0:1 / /var/lib/container/cgroup rw - cgroup2 cgroup2 rw",
			"3 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
			"4 0 0:1 / /zzz/fs/cgroup rw - cgroup2 cgroup2 rw",
		}, map[string]place{"": {"/sys/fs/cgroup/u", V2}}},
		{"hidden below another mount", "/a", []string{
			"1 0 0:1 / /a rw - cgroup2 cgroup2 rw",
			"2 0 0:1 / /b\\040c rw - cgroup2 cgroup2 rw",
		}, map[string]place{"": {"/b c/u", V2}}},
		{"a mount of a part of the hierarchy", "", []string{
			"1 0 0:1 /docker/1 /cg/memory ro - cgroup cgroup rw,memory",
			"2 0 0:1 /docker/2 /cg/cpu ro - cgroup cgroup rw,cpu",
		}, map[string]place{"memory": {"/cg/memory/m", V1}, "cpu": {"", V0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := machine(t, tt.hidden, tt.lines...)
			h, err := Discover(root)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]place{}
			for controller := range tt.want {
				dir, version, ok := h.Dir(controller, p)
				if ok != (dir != "") {
					t.Errorf("%q: %q, %v", controller, dir, ok)
				}
				got[controller] = place{strings.TrimPrefix(dir, root), version}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiscoverNothing(t *testing.T) {
	if _, err := Discover(machine(t, "", "1 0 0:1 / /proc rw - proc proc rw")); !errors.Is(err, ErrNoHierarchy) {
		t.Error(err)
	}
	if _, err := Discover(t.TempDir()); err == nil {
		t.Error("no mountinfo, no error")
	}
}

// A container whose own cgroup is the mount's root is read at the mount point.
func TestMountOfOwnCgroup(t *testing.T) {
	root := machine(t, "", "1 0 0:1 /docker/1 /cg rw - cgroup2 cgroup2 rw")
	for file, text := range map[string]string{"memory.max": "4096\n", "memory.current": "1\n", "memory.stat": "anon 1\n"} {
		write(t, root+"/cg/"+file, text)
	}
	m := readMemory(t, open(t, newFS(t, root), Paths{Unified: "/docker/1"}))
	if len(m.Levels) != 1 || m.Levels[0].Limit != 4096 || m.Levels[0].Path != "/docker/1" {
		t.Errorf("%+v", m.Levels)
	}
	fs := newFS(t, root)
	if _, err := fs.Open(Paths{Unified: "/docker/2"}); err == nil || !strings.Contains(err.Error(), "/docker/2") {
		t.Errorf("outside of the mount: %v", err)
	}
}

func TestHugePages(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"hugepages-1048576kB", "hugepages-64kB", "hugepages-2048kB", "hugepages-xkB", "other"} {
		write(t, root+"/sys/kernel/mm/hugepages/"+name+"/nr_hugepages", "0\n")
	}
	want := []hugePage{{64 << 10, "64KB"}, {2 << 20, "2MB"}, {1 << 30, "1GB"}}
	if diff := cmp.Diff(want, findHugePages(root), cmp.AllowUnexported(hugePage{})); diff != "" {
		t.Error(diff)
	}
	if got := findHugePages(t.TempDir()); got != nil {
		t.Errorf("%v without huge pages", got)
	}
}
