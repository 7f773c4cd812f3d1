package cgroup

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixtures are the archives in testdata. Their heads say where the files are from. There is none of a 4.19 kernel, as
// none could be had: testdata/memory.stat-4.19 has the keys and the order of that version's memcg_stat_show, and
// invented numbers.
var fixtures = []string{"v2-6.1", "v2-5.10", "v1-6.1", "v1-5.10", "hybrid-6.18", "v1-alibaba-4.19", "v1-alibaba-5.10"}

// fixture unpacks an archive.
func fixture(t testing.TB, name string) (root string) {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	root = t.TempDir()
	for _, f := range archive.Files {
		write(t, filepath.Join(root, f.Name), string(f.Data))
	}
	return root
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, pattern string) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	for _, name := range names {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
}

// newFS discovers a fixture's hierarchies.
func newFS(t testing.TB, root string) *FS {
	t.Helper()
	h, err := Discover(root)
	if err != nil {
		t.Fatal(err)
	}
	return NewFS(h)
}

// open opens the Group at p, to be closed with the test.
func open(t testing.TB, fs *FS, p Paths) *Group {
	t.Helper()
	g, err := fs.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// container is where the container of a fixture is: what /proc/self/cgroup said in it.
func container(t testing.TB, root string) Paths {
	t.Helper()
	text, err := os.ReadFile(root + "/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePaths(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// reading is all that a Group says.
type reading struct {
	Memory    Memory
	CPU       CPU
	IO        IO
	Events    map[string]uint64
	PerCPU    []CPUUsage
	Usage     uint64
	Load      *Load `json:",omitempty"` // where the kernel keeps one
	TaskCount uint64
	Tasks     []int
	Procs     []int
}

func read(t testing.TB, g *Group) (r reading) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	must(g.ReadCPU(&r.CPU))
	must(g.ReadIO(&r.IO))
	var events MemoryEvents
	must(g.ReadMemoryAndEvents(&r.Memory, &events))
	if events.Version != V0 {
		r.Events = map[string]uint64{}
	}
	for i, known := range events.Known {
		if known {
			r.Events[Event(i).String()] = events.Count[i]
		}
	}
	r.PerCPU, err = g.ReadPerCPU(nil)
	must(err)
	r.Usage, err = g.ReadUsage()
	must(err)
	load, ok, err := g.ReadLoad()
	must(err)
	if ok {
		r.Load = &load
	}
	r.TaskCount, _ = g.TaskCount()
	must(g.Tasks(func(tid int) error { r.Tasks = append(r.Tasks, tid); return nil }))
	must(g.Procs(func(pid int) error { r.Procs = append(r.Procs, pid); return nil }))
	return r
}

// The golden files were compared with the archives by eye; TestReadMemory and TestReadCPU say what must be in them.
func TestFixtures(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			root := fixture(t, name)
			got := read(t, open(t, newFS(t, root), container(t, root)))
			golden := "testdata/" + name + ".golden.json"
			if *update {
				text, err := json.MarshalIndent(got, "", " ")
				if err != nil {
					t.Fatal(err)
				}
				write(t, golden, string(text)+"\n")
			}
			text, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			var want reading
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}
