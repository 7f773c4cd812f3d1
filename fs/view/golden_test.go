package view

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

var update = flag.Bool("update", false, "write what is rendered into the archives in testdata")

// A renderer is a virtual file by its path, for tests that go over all of them.
type renderer struct {
	file   string
	render func(dst []byte, h *host.Snapshot, c *Container) []byte
	text   func(h *host.Snapshot) []byte // the machine's own
}

var renderers = []renderer{
	{"proc/meminfo", Meminfo, func(h *host.Snapshot) []byte { return h.Meminfo }},
	{"proc/stat", Stat, func(h *host.Snapshot) []byte { return h.Stat }},
	{"proc/cpuinfo", Cpuinfo, cpuinfoText},
	{"proc/loadavg", Loadavg, func(h *host.Snapshot) []byte { return h.Loadavg }},
	{"proc/uptime", Uptime, func(h *host.Snapshot) []byte { return h.Uptime }},
	{"proc/swaps", Swaps, func(h *host.Snapshot) []byte { return h.Swaps }},
	{"sys/devices/system/cpu/online", CPUOnline, func(h *host.Snapshot) []byte { return h.Online }},
	{"sys/devices/system/cpu/present", CPUPresent, func(h *host.Snapshot) []byte { return h.Present }},
	{"sys/devices/system/cpu/possible", CPUPossible, func(h *host.Snapshot) []byte { return h.Possible }},
	{"sys/devices/system/cpu/offline", CPUOffline, func(h *host.Snapshot) []byte { return h.Offline }},
	{"proc/diskstats", Diskstats, func(h *host.Snapshot) []byte { return h.Diskstats }},
	{"proc/vmstat", VMStat, func(h *host.Snapshot) []byte { return h.VMStat }},
	{"proc/slabinfo", Slabinfo, func(h *host.Snapshot) []byte { return h.Slabinfo }},
}

// A fixture is one archive of testdata: the files of a machine below host/, containers in NAME/container.json, and what
// each of them is shown below NAME/.
type fixture struct {
	name       string
	archive    *txtar.Archive
	host       *host.Snapshot
	containers map[string]*Container
	want       map[string]string
}

func readFixtures(t testing.TB) (fixtures []*fixture) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, name := range names {
		fixtures = append(fixtures, readFixture(t, name))
	}
	return fixtures
}

func readFixture(t testing.TB, name string) *fixture {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{name: name, archive: archive, containers: map[string]*Container{}, want: map[string]string{}}
	files := map[string][]byte{}
	for _, file := range archive.Files {
		files[file.Name] = file.Data
		dir, rest, _ := strings.Cut(file.Name, "/")
		switch {
		case dir == "host":
		case rest == "container.json":
			c := new(Container)
			if err := json.Unmarshal(file.Data, c); err != nil {
				t.Fatalf("%s: %s: %v", name, file.Name, err)
			}
			if err := readEvents(c, file.Data); err != nil {
				t.Fatalf("%s: %s: %v", name, file.Name, err)
			}
			f.containers[dir] = c
		default:
			f.want[file.Name] = string(file.Data)
		}
	}
	f.host = snapshotOf(t, func(path string) []byte { return files["host/"+path] })
	return f
}

// readEvents reads the events of a container.json, which are told by their names.
func readEvents(c *Container, text []byte) error {
	var named struct {
		Events struct{ Counts map[string]uint64 }
	}
	if err := json.Unmarshal(text, &named); err != nil {
		return err
	}
	for name, n := range named.Events.Counts {
		event, ok := cgroup.FindEvent([]byte(name))
		if !ok {
			return fmt.Errorf("no event %s", name)
		}
		c.Events.Count[event], c.Events.Known[event] = n, true
	}
	return nil
}

// snapshotOf makes a snapshot of files, of which any may be missing.
func snapshotOf(t testing.TB, file func(path string) []byte) *host.Snapshot {
	t.Helper()
	const cpus = "sys/devices/system/cpu/"
	h := &host.Snapshot{
		Meminfo: file("proc/meminfo"), Stat: file("proc/stat"), Swaps: file("proc/swaps"),
		Loadavg: file("proc/loadavg"), Uptime: file("proc/uptime"),
		Online: file(cpus + "online"), Present: file(cpus + "present"), Possible: file(cpus + "possible"),
		Offline: file(cpus + "offline"), Diskstats: file("proc/diskstats"), VMStat: file("proc/vmstat"),
		Slabinfo: file("proc/slabinfo"), PageSize: 4 << 10, THPSize: 2 << 20,
	}
	if text := file("proc/cpuinfo"); text != nil {
		h.Cpuinfo = host.ParseCpuinfo(text)
	}
	h.Overcommit.Ratio, _ = strconv.ParseUint(strings.TrimSpace(string(file("proc/sys/vm/overcommit_ratio"))), 10, 64)
	h.Overcommit.Kbytes, _ = strconv.ParseUint(strings.TrimSpace(string(file("proc/sys/vm/overcommit_kbytes"))), 10, 64)
	var err error
	if h.OnlineCPUs, err = cgroup.ParseCPUList(nil, h.Online); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestGolden(t *testing.T) {
	for _, f := range readFixtures(t) {
		got := f.render(t)
		if *update {
			f.write(t, got)
			continue
		}
		if diff := cmp.Diff(f.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.name, diff)
		}
	}
}

// render renders every file that the machine has for each container, and explains it.
func (f *fixture) render(t *testing.T) map[string]string {
	got := map[string]string{}
	for name, c := range f.containers {
		for _, r := range renderers {
			if r.text(f.host) == nil {
				continue
			}
			got[path.Join(name, r.file)] = string(r.render(nil, f.host, c))
			if numbers := Explain(r.file, f.host, c); len(numbers) > 0 {
				var text bytes.Buffer
				encoder := json.NewEncoder(&text)
				encoder.SetEscapeHTML(false)
				for _, n := range numbers {
					if err := encoder.Encode(n); err != nil {
						t.Fatal(err)
					}
				}
				got[path.Join(name, "explain", r.file)] = text.String()
			}
		}
	}
	return got
}

func (f *fixture) write(t *testing.T, got map[string]string) {
	files := slices.DeleteFunc(f.archive.Files, func(file txtar.File) bool {
		_, ok := f.want[file.Name]
		return ok
	})
	for name, text := range got {
		files = append(files, txtar.File{Name: name, Data: []byte(text)})
	}
	// The machine first, then each container with what it is shown.
	slices.SortStableFunc(files, func(a, b txtar.File) int {
		return strings.Compare(rank(a.Name), rank(b.Name))
	})
	f.archive.Files = files
	if err := os.WriteFile(f.name, txtar.Format(f.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func rank(name string) string {
	dir, rest, _ := strings.Cut(name, "/")
	switch {
	case dir == "host":
		return ""
	case rest == "container.json":
		return dir
	case strings.HasPrefix(rest, "explain/"):
		return dir + "/~" + rest
	}
	return dir + "/" + rest
}
