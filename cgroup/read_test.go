package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const mib = 1 << 20

func readMemory(t testing.TB, g *Group) (m Memory) {
	t.Helper()
	if err := g.ReadMemory(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func readCPU(t testing.TB, g *Group) (c CPU) {
	t.Helper()
	if err := g.ReadCPU(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// limits are the memory limits along the path.
func limits(m Memory) (all []uint64) {
	for _, l := range m.Levels {
		all = append(all, l.Limit)
	}
	return all
}

func TestMemoryStatOf419(t *testing.T) {
	text, err := os.ReadFile("testdata/memory.stat-4.19")
	if err != nil {
		t.Fatal(err)
	}
	var got memoryStatText
	if err := got.parse(text, V1); err != nil {
		t.Fatal(err)
	}
	want := MemoryStat{File: 25559040, Anon: 3649536, Shmem: 405504, FileMapped: 1622016, FileDirty: 12288,
		FileWriteback: 24576, InactiveAnon: 1216512, ActiveAnon: 2838528, InactiveFile: 18247680, ActiveFile: 6893568,
		HierarchicalLimit: 134217728}
	if diff := cmp.Diff(want, got.MemoryStat); diff != "" {
		t.Error(diff)
	}
}

// A limit of the pod alone binds the container, whose own level stays unlimited.
func TestLimitOnlyOnThePod(t *testing.T) {
	root := fixture(t, "v2-6.1")
	app := root + "/sys/fs/cgroup/kubepods/pod1/app/"
	write(t, app+"memory.max", "max\n")
	m := readMemory(t, open(t, newFS(t, root), Paths{Unified: "/kubepods/pod1/app"}))
	if diff := cmp.Diff([]uint64{Unlimited, 256 * mib, Unlimited}, limits(m)); diff != "" {
		t.Error(diff)
	}
	if m.Levels[0].Usage == 0 || m.Levels[1].Usage == 0 || m.Levels[2].Usage != 0 {
		t.Errorf("usage is for the own level and the limited ones: %+v", m.Levels)
	}
}

// On v1 before Linux 5.11 an ancestor without use_hierarchy does not bind, and neither does any above it.
func TestWithoutHierarchy(t *testing.T) {
	root := fixture(t, "v1-5.10")
	write(t, root+"/sys/fs/cgroup/memory/kubepods/pod1/memory.use_hierarchy", "0\n")
	p := container(t, root)
	if diff := cmp.Diff([]uint64{128 * mib}, limits(readMemory(t, open(t, newFS(t, root), p)))); diff != "" {
		t.Error(diff)
	}
	remove(t, root+"/sys/fs/cgroup/memory/kubepods/pod1/memory.use_hierarchy")
	remove(t, root+"/sys/fs/cgroup/memory/kubepods/memory.use_hierarchy")
	want := []uint64{128 * mib, 256 * mib, Unlimited}
	if diff := cmp.Diff(want, limits(readMemory(t, open(t, newFS(t, root), p)))); diff != "" {
		t.Error(diff)
	}
}

// The kernel option swapaccount=0 leaves the files of swap out.
func TestWithoutSwapAccounting(t *testing.T) {
	for name, pattern := range map[string]string{
		"v1-6.1": "/sys/fs/cgroup/memory/kubepods/pod1/app/memory.memsw.*",
		"v2-6.1": "/sys/fs/cgroup/kubepods/pod1/app/memory.swap.*",
	} {
		root := fixture(t, name)
		remove(t, root+pattern)
		level := readMemory(t, open(t, newFS(t, root), container(t, root))).Levels[0]
		if level.HasSwap || level.SwapLimit != 0 || level.SwapUsage != 0 {
			t.Errorf("%s: %+v", name, level)
		}
	}
}

// A controller that is delegated while we run is seen a moment later, and one that is taken back, too.
func TestControllerComesAndGoes(t *testing.T) {
	root := fixture(t, "v2-6.1")
	leaf := root + "/sys/fs/cgroup/kubepods/pod1/app/leaf/"
	g := open(t, newFS(t, root), container(t, root))
	if m := readMemory(t, g); m.Levels[0].Path != "/kubepods/pod1/app" || m.Levels[0].Usage != 9285632 {
		t.Fatalf("a leaf without the controller: %+v", m.Levels[0])
	}

	write(t, leaf+"memory.max", "1048576\n")
	write(t, leaf+"memory.current", "4096\n")
	write(t, leaf+"memory.stat", "anon 4096\n")
	time.Sleep(recheck + 10*time.Millisecond)
	m := readMemory(t, g)
	if diff := cmp.Diff([]uint64{mib, 128 * mib, 256 * mib, Unlimited}, limits(m)); diff != "" {
		t.Error(diff)
	}
	if m.Levels[0].Usage != 4096 || m.Stat.Anon != 4096 || m.Stat.File != 0 {
		t.Errorf("usage of the new leaf: %+v, %+v", m.Levels[0], m.Stat)
	}
}

func TestCPUSources(t *testing.T) {
	t.Run("cpuacct.stat in ticks", func(t *testing.T) {
		root := fixture(t, "v1-5.10")
		remove(t, root+"/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/app/cpuacct.usage_*")
		write(t, root+"/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/app/cpuacct.stat", "user 108\nsystem 27\n")
		g := open(t, newFS(t, root), container(t, root))
		if c := readCPU(t, g); c.User != 1_080_000_000 || c.System != 270_000_000 || c.Version != V1 {
			t.Errorf("%+v", c)
		}
		if each, err := g.ReadPerCPU([]CPUUsage{{1, 1}}); each != nil || err != nil {
			t.Errorf("ReadPerCPU = %v, %v without cpuacct.usage_all", each, err)
		}
	})
	t.Run("v2 usage where cpuacct is the root", func(t *testing.T) {
		root := fixture(t, "hybrid-6.18")
		p := container(t, root)
		p.CPUAcct = "/"
		c := readCPU(t, open(t, newFS(t, root), p))
		if c.Version != V2 || c.UsagePath != "/pod1/app" || c.User == 0 || c.User%1000 != 0 {
			t.Errorf("usage %+v", c)
		}
		if len(c.Levels) != 2 || c.Levels[1].Quota != 50000 {
			t.Errorf("the quota stays that of v1: %+v", c.Levels)
		}
	})
	t.Run("cpuset of the nearest ancestor with one", func(t *testing.T) {
		root := fixture(t, "v1-5.10")
		app := root + "/sys/fs/cgroup/cpuset/kubepods/pod1/app/"
		remove(t, app+"cpuset.effective_cpus")
		g := open(t, newFS(t, root), container(t, root))
		if c := readCPU(t, g); c.SetPath != "/kubepods/pod1/app" || !slices.Equal(c.Set, []int{0, 1}) {
			t.Errorf("cpuset.cpus, as before Linux 3.17: %+v", c)
		}
		write(t, app+"cpuset.cpus", "\n")
		if c := readCPU(t, g); c.SetPath != "/kubepods/pod1" || !slices.Equal(c.Set, []int{0, 1, 3}) {
			t.Errorf("of the ancestor: %+v", c)
		}
	})
	t.Run("no cpuset anywhere", func(t *testing.T) {
		root := fixture(t, "v2-6.1")
		remove(t, root+"/sys/fs/cgroup/free/cpuset.*")
		if c := readCPU(t, open(t, newFS(t, root), Paths{Unified: "/free"})); c.Set != nil || c.SetPath != "" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("changed cpuset", func(t *testing.T) {
		root := fixture(t, "v2-6.1")
		g := open(t, newFS(t, root), container(t, root))
		first := readCPU(t, g).Set
		write(t, root+"/sys/fs/cgroup/kubepods/pod1/app/cpuset.cpus.effective", "2\n")
		if c := readCPU(t, g); !slices.Equal(c.Set, []int{2}) || !slices.Equal(first, []int{0, 1, 3}) {
			t.Errorf("was %v, is %v", first, c.Set)
		}
	})
}

// A file of any length is read whole: usage_all of a machine with 1,024 CPUs does not fit the first buffer.
func TestLongFile(t *testing.T) {
	root := fixture(t, "v1-6.1")
	text := "cpu user system\n"
	var want []CPUUsage
	for i := range uint64(1024) {
		want = append(want, CPUUsage{User: 1e15 + i, System: 2e15 + i})
		text += fmt.Sprintln(i, want[i].User, want[i].System)
	}
	write(t, root+"/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/app/cpuacct.usage_all", text)
	got, err := open(t, newFS(t, root), container(t, root)).ReadPerCPU(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The root has nothing to read, and reading it is no error.
func TestRoot(t *testing.T) {
	for _, name := range fixtures {
		g := open(t, newFS(t, fixture(t, name)), Paths{Unified: "/", CPU: "/", Memory: "/"})
		if diff := cmp.Diff(reading{Memory: Memory{Swappiness: -1}}, read(t, g)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if g.ID() != 0 || !g.Alive() {
			t.Errorf("%s: ID %d, alive %v", name, g.ID(), g.Alive())
		}
	}
}

// What the kernel does not write is an error that names the file, never a number.
func TestMalformed(t *testing.T) {
	for file, text := range map[string]string{
		"memory.max":            "12x\n",
		"memory.current":        "\n",
		"memory.stat":           "anon -5\n",
		"memory.swap.max":       "99999999999999999999\n",
		"cpu.max":               "100000 0\n",
		"cpuset.cpus.effective": "0-\n",
	} {
		root := fixture(t, "v2-6.1")
		path := root + "/sys/fs/cgroup/kubepods/pod1/app/" + file
		write(t, path, text)
		g := open(t, newFS(t, root), container(t, root))
		err := errors.Join(g.ReadMemory(new(Memory)), g.ReadCPU(new(CPU)))
		var pathError *os.PathError
		if !errors.As(err, &pathError) || filepath.Clean(pathError.Path) != path {
			t.Errorf("%s: error %v", file, err)
		}
	}
}

func TestTasks(t *testing.T) {
	root := fixture(t, "v2-6.1")
	g := open(t, newFS(t, root), Paths{Unified: "/kubepods"})
	var tids []int
	if err := g.Tasks(func(tid int) error { tids = append(tids, tid); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 115, 117, 272}, tids); diff != "" {
		t.Errorf("tasks three levels below: %s", diff)
	}

	enough := errors.New("enough")
	calls := 0
	if err := g.Tasks(func(int) error { calls++; return enough }); err != enough || calls != 1 {
		t.Errorf("%d calls, error %v", calls, err)
	}

	// A kernel without cgroup.threads: the threads of each process. 0 is a process that our pid namespace does not have.
	leaf := root + "/sys/fs/cgroup/kubepods/pod1/app/leaf/"
	remove(t, leaf+"cgroup.threads")
	write(t, leaf+"cgroup.procs", "0\n115\n116\n")
	for _, tid := range []string{"115", "118"} {
		write(t, root+"/proc/115/task/"+tid+"/comm", "")
	}
	tids = nil
	if err := g.Tasks(func(tid int) error { tids = append(tids, tid); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{115, 118}, tids); diff != "" {
		t.Errorf("tasks of processes: %s", diff)
	}
}

// A cgroup that is made again may have files that the old one lacked.
func TestMadeAgainWithMoreFiles(t *testing.T) {
	root := fixture(t, "v2-6.1")
	app := root + "/sys/fs/cgroup/kubepods/pod1/app"
	remove(t, app+"/memory.swap.*")
	g := open(t, newFS(t, root), Paths{Unified: "/kubepods/pod1/app"})
	if m := readMemory(t, g); m.Levels[0].HasSwap {
		t.Fatalf("%+v", m.Levels[0])
	}
	if err := os.Rename(app, app+".old"); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"max": "8192\n", "current": "1\n", "stat": "", "swap.max": "4096\n", "swap.current": "0\n"} {
		write(t, app+"/memory."+file, text)
	}
	if err := g.Tasks(func(int) error { return nil }); err != nil { // finds the new directory
		t.Fatal(err)
	}
	if l := readMemory(t, g).Levels[0]; l.Limit != 8192 || !l.HasSwap || l.SwapLimit != 4096 {
		t.Errorf("%+v", l)
	}
}
