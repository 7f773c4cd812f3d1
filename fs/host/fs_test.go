package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// raceEnabled says that the race detector is on.
var raceEnabled bool

// needAll asks for everything.
const needAll = NeedMeminfo | NeedStat | NeedCpuinfo | NeedSwaps | NeedLoadavg | NeedUptime | NeedCPULists | NeedOvercommit |
	NeedDiskstats | NeedVMStat | NeedSlabinfo | NeedNodes

// writeRoot makes a root with the given files.
func writeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func fixture() map[string]string {
	return map[string]string{
		"proc/meminfo":                     "MemTotal:        1024000 kB\n",
		"proc/stat":                        "cpu  1 2 3 4\ncpu0 1 2 3 4\n",
		"proc/cpuinfo":                     "processor\t: 0\nmodel\t\t: 1\n\nprocessor\t: 1\nmodel\t\t: 1\n\n",
		"proc/swaps":                       "Filename\n",
		"proc/loadavg":                     "0.00 0.01 0.05 1/100 200\n",
		"proc/uptime":                      "10.00 20.00\n",
		"proc/diskstats":                   "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n",
		"proc/vmstat":                      "nr_free_pages 10\n",
		"proc/slabinfo":                    "slabinfo - version: 2.1\n# name\n",
		"proc/sys/vm/overcommit_ratio":     "60\n",
		"proc/sys/vm/overcommit_kbytes":    "0\n",
		"sys/devices/system/cpu/online":    "0-1,3\n",
		"sys/devices/system/cpu/present":   "0-3\n",
		"sys/devices/system/cpu/possible":  "0-7\n",
		"sys/devices/system/cpu/offline":   "2,4-7\n",
		"sys/devices/system/cpu/unrelated": "x",

		"sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
	}
}

func open(t *testing.T, root string) *FS {
	t.Helper()
	f, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestSnapshot(t *testing.T) {
	files := fixture()
	f := open(t, writeRoot(t, files))
	var s Snapshot
	if err := f.Snapshot(needAll, &s); err != nil {
		t.Fatal(err)
	}
	for path, got := range map[string][]byte{
		"proc/meminfo": s.Meminfo, "proc/stat": s.Stat, "proc/swaps": s.Swaps, "proc/loadavg": s.Loadavg,
		"proc/uptime": s.Uptime, "proc/cpuinfo": s.Cpuinfo.Raw,
		"sys/devices/system/cpu/online": s.Online, "sys/devices/system/cpu/present": s.Present,
		"sys/devices/system/cpu/possible": s.Possible, "sys/devices/system/cpu/offline": s.Offline,
		"proc/diskstats": s.Diskstats, "proc/vmstat": s.VMStat, "proc/slabinfo": s.Slabinfo,
	} {
		if string(got) != files[path] {
			t.Errorf("%s: got %q, want %q", path, got, files[path])
		}
	}
	if want := []int{0, 1, 3}; !slices.Equal(s.OnlineCPUs, want) {
		t.Errorf("OnlineCPUs: got %v, want %v", s.OnlineCPUs, want)
	}
	if want := (Overcommit{Ratio: 60}); s.Overcommit != want {
		t.Errorf("Overcommit: got %v, want %v", s.Overcommit, want)
	}
	if s.PageSize != uint64(os.Getpagesize()) || s.THPSize != 2<<20 {
		t.Errorf("PageSize %d, THPSize %d", s.PageSize, s.THPSize)
	}
	if len(s.Cpuinfo.Blocks) != 2 {
		t.Errorf("got %d blocks, want 2", len(s.Cpuinfo.Blocks))
	}

	// What is not asked for is emptied.
	if err := f.Snapshot(NeedStat, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Meminfo) != 0 || s.Cpuinfo != nil || len(s.OnlineCPUs) != 0 || s.Overcommit != (Overcommit{}) || len(s.Stat) == 0 {
		t.Errorf("after asking for stat alone: %+v", s)
	}
}

func TestSnapshotMissing(t *testing.T) {
	files := fixture()
	for _, optional := range []string{"proc/swaps", "proc/sys/vm/overcommit_ratio", "proc/sys/vm/overcommit_kbytes",
		"sys/devices/system/cpu/offline"} {
		delete(files, optional)
	}
	var s Snapshot
	if err := open(t, writeRoot(t, files)).Snapshot(needAll, &s); err != nil {
		t.Errorf("without the optional files: %v", err)
	}
	for _, need := range []struct {
		path string
		part Need
	}{
		{"proc/meminfo", NeedMeminfo}, {"proc/stat", NeedStat}, {"proc/cpuinfo", NeedCpuinfo},
		{"proc/loadavg", NeedLoadavg}, {"proc/uptime", NeedUptime},
		{"proc/diskstats", NeedDiskstats}, {"proc/vmstat", NeedVMStat}, {"proc/slabinfo", NeedSlabinfo},
		{"sys/devices/system/cpu/online", NeedCPULists}, {"sys/devices/system/cpu/present", NeedCPULists},
		{"sys/devices/system/cpu/possible", NeedCPULists},
	} {
		files := fixture()
		delete(files, need.path)
		f := open(t, writeRoot(t, files))
		err := f.Snapshot(needAll, &s)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), need.path) {
			t.Errorf("without %s: got error %v", need.path, err)
		}
		if err := f.Snapshot(needAll&^need.part, &s); err != nil {
			t.Errorf("without %s, which was not asked for: %v", need.path, err)
		}
	}
}

func TestOpenError(t *testing.T) {
	files := fixture()
	delete(files, "proc/stat")
	root := writeRoot(t, files)
	// A loop is an error that is not "does not exist".
	if err := os.Symlink("stat", filepath.Join(root, "proc/stat")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root); !errors.Is(err, unix.ELOOP) || !strings.Contains(err.Error(), "proc/stat") {
		t.Errorf("got error %v", err)
	}
}

// A file that only root may read is an error when it is read, and no earlier.
func TestSnapshotUnreadable(t *testing.T) {
	f := open(t, writeRoot(t, fixture()))
	f.slabinfo.close()
	f.slabinfo.path, f.slabinfo.err = "/proc/slabinfo", unix.EACCES
	var s Snapshot
	if err := f.Snapshot(needAll, &s); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "slabinfo") {
		t.Errorf("got error %v", err)
	}
	if err := f.Snapshot(needAll&^NeedSlabinfo, &s); err != nil {
		t.Errorf("of the other files: %v", err)
	}
}

// A file that grows past the buffer, and shrinks again, is read whole.
func TestSnapshotGrows(t *testing.T) {
	files := fixture()
	root := writeRoot(t, files)
	f := open(t, root)
	var s Snapshot
	for _, size := range []int{10, minRead - 1, minRead, minRead + 1, 1 << 20, 3} {
		text := strings.Repeat("0123456789", size/10+1)[:size]
		if err := os.WriteFile(filepath.Join(root, "proc/stat"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.Snapshot(NeedStat, &s); err != nil {
			t.Fatal(err)
		}
		if string(s.Stat) != text {
			t.Errorf("size %d: got %d bytes", size, len(s.Stat))
		}
	}
}

func TestSnapshotAllocatesNothing(t *testing.T) {
	f := open(t, "/")
	var s Snapshot
	snapshot := func() {
		if err := f.Snapshot(needAll, &s); err != nil {
			t.Fatal(err)
		}
	}
	for _, age := range []time.Duration{0, time.Nanosecond, time.Hour} {
		f.SetMaxAge(age)
		snapshot()
		f.parsed.read += time.Hour // it must not age in between
		if n := testing.AllocsPerRun(100, snapshot); n != 0 {
			t.Errorf("%v allocations per warm snapshot, shared for %v", n, age)
		}
	}
}

// Syscalls that read are counted by the kernel: a text that is made as one is read with one, a text of records, of which
// these have few, with one more that finds its end.
func TestSnapshotReadsOnce(t *testing.T) {
	reads := func() (n int) {
		text, err := os.ReadFile("/proc/thread-self/io")
		if err != nil {
			t.Skip("the kernel does not count them: ", err)
		}
		if _, err := fmt.Sscanf(string(text[bytes.Index(text, []byte("syscr")):]), "syscr: %d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := reads()
	own := reads() - before // of reads itself

	f := open(t, "/")
	var s Snapshot
	for _, test := range []struct {
		what string
		need Need
		want int
	}{
		{"meminfo", NeedMeminfo, 1}, {"stat", NeedStat, 1}, {"loadavg", NeedLoadavg, 1}, {"uptime", NeedUptime, 1},
		{"the CPUs that are online", NeedOnlineCPUs, 1}, {"overcommit", NeedOvercommit, 1}, {"swaps", NeedSwaps, 2},
		{"a warm cpuinfo", NeedCpuinfo | NeedOnlineCPUs, 1}, {"the clock", 0, 0},
	} {
		if err := f.Snapshot(needAll, &s); err != nil {
			t.Fatal(err)
		}
		f.parsed.read += time.Hour // it must not age in between
		want := test.want
		if test.need == NeedOvercommit && s.Overcommit.Ratio == 0 {
			want = 2
		}
		before := reads()
		err := f.Snapshot(test.need, &s)
		if got := reads() - before - own; err != nil || got != want {
			t.Errorf("%s: %d reads, want %d (%v)", test.what, got, want, err)
		}
	}
}

func TestBoottimeOnlyWhereNeeded(t *testing.T) {
	f := open(t, writeRoot(t, fixture()))
	var s Snapshot
	for need, want := range map[Need]bool{
		0: true, NeedStat: true, NeedUptime | NeedOnlineCPUs: true, NeedCPULists: true, NeedLoadavg: true, needAll: true,
		NeedMeminfo | NeedOvercommit: false, NeedCpuinfo | NeedOnlineCPUs: false,
	} {
		if err := f.Snapshot(need, &s); err != nil || (s.Boottime != 0) != want {
			t.Errorf("need %b: %v %v", need, s.Boottime, err)
		}
	}
}

// The kernel takes one of the two at a time.
func TestOvercommit(t *testing.T) {
	for _, test := range []struct {
		ratio, kbytes string
		want          Overcommit
	}{
		{"50\n", "0\n", Overcommit{Ratio: 50}}, {"0\n", "4096\n", Overcommit{Kbytes: 4096}}, {"0\n", "0\n", Overcommit{}},
		{"0\n", strings.Repeat("1", sysctlRoom+6) + "\n", Overcommit{Kbytes: 1 << 63}},
	} {
		files := fixture()
		files["proc/sys/vm/overcommit_ratio"], files["proc/sys/vm/overcommit_kbytes"] = test.ratio, test.kbytes
		f := open(t, writeRoot(t, files))
		s := Snapshot{Overcommit: Overcommit{Ratio: 1, Kbytes: 1}}
		if err := f.Snapshot(NeedOvercommit, &s); err != nil || s.Overcommit != test.want {
			t.Errorf("%+v: %+v, %v", test, s.Overcommit, err)
		}
	}
}

// The numbers of a list that stays are not parsed anew, and those of one that changes are.
func TestOnlineCPUs(t *testing.T) {
	root := writeRoot(t, fixture())
	f := open(t, root)
	var s Snapshot
	for _, test := range []struct {
		text string
		need Need
		want []int
	}{
		{"0-1,3\n", NeedOnlineCPUs, []int{0, 1, 3}}, {"0-1,3\n", NeedMeminfo, nil}, {"0-1,3\n", NeedCPULists, []int{0, 1, 3}},
		{"0\n", NeedOnlineCPUs, []int{0}}, {"nonsense\n", NeedOnlineCPUs, nil}, {"0\n", NeedOnlineCPUs, []int{0}}, {"", NeedOnlineCPUs, []int{}},
	} {
		if err := os.WriteFile(filepath.Join(root, "sys/devices/system/cpu/online"), []byte(test.text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := f.Snapshot(test.need, &s)
		if wrong := test.text == "nonsense\n"; wrong != (err != nil) || !slices.Equal(s.OnlineCPUs, test.want) {
			t.Errorf("%+v: %v, %v", test, s.OnlineCPUs, err)
		}
	}
}

func TestMaxAge(t *testing.T) {
	root := writeRoot(t, fixture())
	f := open(t, root)
	var s Snapshot
	text := func() string {
		t.Helper()
		if err := f.Snapshot(NeedMeminfo|NeedOnlineCPUs, &s); err != nil {
			t.Fatal(err)
		}
		return string(s.Meminfo)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, "proc/meminfo"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text()
	write("one")
	if got := text(); got != "one" {
		t.Errorf("to begin with, all are fresh: %q", got)
	}
	f.SetMaxAge(time.Hour)
	text()
	write("another")
	if got := text(); got != "one" {
		t.Errorf("%q, want the text of before", got)
	}
	copy(s.Meminfo, "two") // of this reader alone
	if got := text(); got != "one" {
		t.Errorf("%q was another reader's", got)
	}
	f.meminfo.taken -= time.Hour
	if got := text(); got != "another" {
		t.Errorf("%q, want a new text", got)
	}
	write("third")
	f.SetMaxAge(0)
	if got := text(); got != "third" {
		t.Errorf("%q, want a fresh text", got)
	}
	f.SetMaxAge(time.Hour)
	if got := text(); got != "third" {
		t.Errorf("%q, which is older than what was given before", got)
	}
	f.meminfo.taken -= time.Hour
	f.meminfo.close()
	for range 2 {
		if err := f.Snapshot(NeedMeminfo, &s); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a file that cannot be read: %v", err)
		}
	}
}

// Readers who come while a text is read, or soon after, are all given that one.
func TestMaxAgeParallel(t *testing.T) {
	f := open(t, "")
	f.SetMaxAge(time.Hour)
	texts := make([]string, 8)
	var wg sync.WaitGroup
	for i := range texts {
		wg.Go(func() {
			var s Snapshot
			for range 100 {
				if err := f.Snapshot(NeedMeminfo|NeedStat|NeedUptime, &s); err != nil {
					t.Error(err)
					return
				}
				text := string(s.Meminfo) + string(s.Stat) + string(s.Uptime)
				if texts[i] == "" {
					texts[i] = text
				}
				if text != texts[i] {
					t.Errorf("two texts:\n%s%s", text, texts[i])
					return
				}
			}
		})
	}
	wg.Wait()
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("two texts:\n%s%s", text, texts[0])
		}
	}
}

// A file that the kernel does not come back from holds up neither the readers of other files, nor Close.
func TestStuckFile(t *testing.T) {
	for _, age := range []time.Duration{0, time.Hour} {
		f, err := Open(writeRoot(t, fixture()))
		if err != nil {
			t.Fatal(err)
		}
		f.SetMaxAge(age)
		f.meminfo.mu.Lock() // as its reader does
		var s Snapshot
		if err := f.Snapshot(needAll&^NeedMeminfo, &s); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		f.meminfo.mu.Unlock()
		if err := f.meminfo.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCpuinfoAges(t *testing.T) {
	root := writeRoot(t, fixture())
	f := open(t, root)
	var s Snapshot
	if err := f.Snapshot(NeedCpuinfo, &s); err != nil {
		t.Fatal(err)
	}
	first := s.Cpuinfo
	text := bytes.Clone(first.Raw)
	if err := os.WriteFile(filepath.Join(root, "proc/cpuinfo"), []byte("processor\t: 0\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.Snapshot(NeedCpuinfo, &s); err != nil || s.Cpuinfo != first {
		t.Errorf("got %p (error %v), want the cached %p", s.Cpuinfo, err, first)
	}
	f.parsed.read -= cpuinfoAge
	if err := f.Snapshot(NeedCpuinfo, &s); err != nil || len(s.Cpuinfo.Blocks) != 1 {
		t.Errorf("after its time: got %d blocks (error %v), want 1", len(s.Cpuinfo.Blocks), err)
	}
	if !bytes.Equal(first.Raw, text) {
		t.Error("the old one was written to")
	}
}

// Many readers of the machine's own files at once: no text is mixed of two.
func TestSnapshotParallel(t *testing.T) {
	f := open(t, "")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var s Snapshot
			for range 200 {
				if err := f.Snapshot(NeedStat|NeedMeminfo, &s); err != nil {
					t.Error(err)
					return
				}
				if !bytes.HasPrefix(s.Stat, []byte("cpu  ")) || bytes.Count(s.Stat, []byte("\nsoftirq ")) != 1 ||
					bytes.Count(s.Meminfo, []byte("MemTotal:")) != 1 {
					t.Errorf("mixed text:\n%s\n%s", s.Stat, s.Meminfo)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestBoottime(t *testing.T) {
	f := open(t, "")
	var s Snapshot
	if err := f.Snapshot(NeedUptime, &s); err != nil {
		t.Fatal(err)
	}
	field, _, _ := strings.Cut(string(s.Uptime), " ")
	seconds, err := strconv.ParseFloat(field, 64)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Boottime.Seconds() - seconds; d < -1 || d > 1 {
		t.Errorf("Boottime %v, /proc/uptime %v", s.Boottime, seconds)
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0, "x": 0, "50\n": 50, "007": 7, "99999999999999999999999": 1 << 63,
	} {
		if got := number([]byte(text)); got != want {
			t.Errorf("number(%q) = %d, want %d", text, got, want)
		}
	}
}
