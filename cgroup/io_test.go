package cgroup

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func readIO(t testing.TB, g *Group) (io IO) {
	t.Helper()
	if err := g.ReadIO(&io); err != nil {
		t.Fatal(err)
	}
	return io
}

func TestParseIOStat(t *testing.T) {
	sda := DeviceIO{Device: Device{8, 0}, Reads: IOCount{2, 8192}, Writes: IOCount{1, 512}, Discards: IOCount{3, 4096}}
	for name, tt := range map[string]struct {
		text string
		want []DeviceIO
	}{
		"all fields": {"8:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=4096 dios=3\n", []DeviceIO{sda}},
		"fields of policies": {"8:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=4096 dios=3 cost.vrate=100.00 cost.usage=7 use_delay=0 depth=max\n",
			[]DeviceIO{sda}},
		"before Linux 4.20, without discards": {"253:16 rbytes=1 wbytes=0 rios=1 wios=0\n",
			[]DeviceIO{{Device: Device{253, 16}, Reads: IOCount{1, 1}}}},
		"a device alone": {"7:0\n8:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=4096 dios=3\n",
			[]DeviceIO{{Device: Device{7, 0}}, sda}},
		"no newline behind devices alone": {"7:1 7:0 8:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=4096 dios=3\n254:0 ",
			[]DeviceIO{{Device: Device{7, 1}}, {Device: Device{7, 0}}, sda, {Device: Device{254, 0}}}},
		"a device without a number": {"(unknown) rbytes=9 wbytes=9 rios=9 wios=9 dbytes=0 dios=0\n8:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=4096 dios=3\n",
			[]DeviceIO{sda}},
		"nothing": {"", nil},
	} {
		var io IO
		if err := io.parseStat([]byte(tt.text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, io.Devices); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if err := new(IO).parseStat([]byte("8:0 rbytes=-1\n")); err == nil {
		t.Error("a negative count is no error")
	}
}

func TestParseBlkio(t *testing.T) {
	var io IO
	err := errors.Join(
		io.parseRequests([]byte("7:0 Read 176\n7:0 Write 256\n7:0 Sync 433\n7:0 Async 0\n7:0 Discard 1\n7:0 Total 433\n8:0 Read 5\nTotal 438\n")),
		io.parseBytes([]byte("7:0 Read 68177920\n7:0 Write 134217728\n7:0 Discard 1048576\n7:0 Total 203444224\n9:0 Write 4096\nTotal 1\n")))
	want := []DeviceIO{
		{Device: Device{7, 0}, Reads: IOCount{176, 68177920}, Writes: IOCount{256, 134217728}, Discards: IOCount{1, 1048576}},
		{Device: Device{8, 0}, Reads: IOCount{Requests: 5}},
		{Device: Device{9, 0}, Writes: IOCount{Bytes: 4096}},
	}
	if diff := cmp.Diff(want, io.Devices); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"8:0 Read\n", "8:0 Read x\n", "8:0 Write 18446744073709551616\n"} {
		if err := new(IO).parseBytes([]byte(bad)); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

// The nearest cgroup that has the controller counts.
func TestIOController(t *testing.T) {
	root := fixture(t, "v2-6.1")
	dir := root + "/sys/fs/cgroup/kubepods/pod1/"
	g := open(t, newFS(t, root), container(t, root))
	remove(t, dir+"app/io.stat")
	remove(t, dir+"io.stat")
	if io := readIO(t, g); io.Version != V2 || io.Path != "/kubepods" {
		t.Errorf("two levels above: %+v", io)
	}
	remove(t, root+"/sys/fs/cgroup/kubepods/io.stat")
	g = open(t, newFS(t, root), container(t, root)) // a kernel's file that is open would say ENODEV now, this one does not
	if io := readIO(t, g); io.Version != V0 || len(io.Devices) != 0 {
		t.Errorf("no level has the controller: %+v", io)
	}
	write(t, dir+"app/io.stat", "8:0 rbytes=512 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n")
	time.Sleep(recheck + 10*time.Millisecond)
	want := IO{V2, "/kubepods/pod1/app", []DeviceIO{{Device: Device{8, 0}, Reads: IOCount{1, 512}}}}
	if diff := cmp.Diff(want, readIO(t, g)); diff != "" {
		t.Error(diff)
	}
	write(t, dir+"app/io.stat", "8:0 rbytes=many\n")
	if err := g.ReadIO(new(IO)); err == nil || !strings.Contains(err.Error(), "io.stat") {
		t.Errorf("got error %v", err)
	}
}

// A v1 kernel that does not sum up the cgroups below has files without "_recursive" alone.
func TestBlkioNotRecursive(t *testing.T) {
	root := fixture(t, "v1-5.10")
	dir := root + "/sys/fs/cgroup/blkio/kubepods/pod1/app/"
	recursive := readIO(t, open(t, newFS(t, root), container(t, root)))
	remove(t, dir+"*_recursive")
	own := readIO(t, open(t, newFS(t, root), container(t, root)))
	if len(recursive.Devices) != 1 || len(own.Devices) != 1 {
		t.Fatalf("recursive %+v, own %+v", recursive, own)
	}
	if r, o := recursive.Devices[0], own.Devices[0]; r.Writes != (IOCount{3, 3 * mib}) || o.Writes != (IOCount{2, 2 * mib}) {
		t.Errorf("recursive %+v, own %+v", r, o)
	}
}

// Of a cgroup that goes away, or whose controller does, one of the two files may be read and the other be missing.
func TestBlkioHalf(t *testing.T) {
	root := fixture(t, "v1-5.10")
	dir := root + "/sys/fs/cgroup/blkio/kubepods/pod1/"
	write(t, dir+"app/blkio.throttle.io_serviced_recursive", "9:9 Read 5\nTotal 5\n")
	remove(t, dir+"app/blkio.throttle.io_service_bytes*")
	for _, file := range []string{"io_serviced", "io_service_bytes"} {
		write(t, dir+"blkio.throttle."+file+"_recursive", "8:0 Write 7\nTotal 7\n")
	}
	want := IO{V1, "/kubepods/pod1", []DeviceIO{{Device: Device{8, 0}, Writes: IOCount{7, 7}}}}
	if diff := cmp.Diff(want, readIO(t, open(t, newFS(t, root), container(t, root)))); diff != "" {
		t.Error(diff)
	}
}

func TestMemoryEvents(t *testing.T) {
	for _, tt := range []struct {
		version Version
		text    string
		want    map[string]uint64
	}{
		{V2, "anon 4096\npgfault 7\npgmajfault 0\nworkingset_refault_anon 3\nnew_key 5\n",
			map[string]uint64{"pgfault": 7, "pgmajfault": 0, "workingset_refault_anon": 3}},
		{V1, "pgfault 1\npgpgin 5\ntotal_pgpgin 9\ntotal_pgfault 7\ntotal_pgmajfault 2\n", map[string]uint64{"pgfault": 7, "pgmajfault": 2}},
	} {
		e := MemoryEvents{Version: tt.version}
		if err := e.parse([]byte(tt.text)); err != nil {
			t.Fatal(err)
		}
		got := map[string]uint64{}
		for i, n := range e.Count {
			if e.Known[i] {
				got[Event(i).String()] = n
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
	if err := (&MemoryEvents{Version: V2}).parse([]byte("pgfault -1\n")); err == nil {
		t.Error("a negative count is no error")
	}
}

// The statistics and the events are of one cgroup.
func TestMemoryEventsOfTheNearest(t *testing.T) {
	root := fixture(t, "v2-6.1")
	g := open(t, newFS(t, root), container(t, root))
	var m Memory
	var e MemoryEvents
	if err := g.ReadMemoryAndEvents(&m, &e); err != nil {
		t.Fatal(err)
	}
	if e.Version != V2 || e.Path != m.Levels[0].Path {
		t.Errorf("events of %q, statistics of %q", e.Path, m.Levels[0].Path)
	}
}

// The file is long: the kernel hands out a page at a time.
func TestSlabinfo(t *testing.T) {
	root := fixture(t, "v1-5.10")
	file := root + "/sys/fs/cgroup/memory/kubepods/pod1/app/memory.kmem.slabinfo"
	g := open(t, newFS(t, root), container(t, root))
	for _, text := range []string{"", "slabinfo - version: 2.1\n", strings.Repeat("dentry 1 2 3\n", 5000)} {
		write(t, file, text)
		got, err := g.ReadSlabinfo([]byte("before"))
		if err != nil || string(got) != "before"+text {
			t.Errorf("%d bytes: got %d, error %v", len(text), len(got), err)
		}
	}
	remove(t, file)
	fresh := open(t, newFS(t, root), container(t, root))
	if got, err := fresh.ReadSlabinfo(nil); len(got) != 0 || err != nil {
		t.Errorf("without the file: %q, %v", got, err)
	}
	root = fixture(t, "v2-6.1")
	if got, err := open(t, newFS(t, root), container(t, root)).ReadSlabinfo(nil); len(got) != 0 || err != nil {
		t.Errorf("on v2: %q, %v", got, err)
	}
}

func FuzzIOStat(f *testing.F) {
	f.Add([]byte("8:0 rbytes=8192 wbytes=512 rios=2 wios=1 dbytes=4096 dios=3\n7:0 8:16 rios=1\n"))
	f.Add([]byte("8:0 rbytes=18446744073709551615 cost.vrate=1.00\n(unknown) rios=3\n"))
	f.Add([]byte("4096:0 rios=1\n1:1048576 rios=1\n0:0\n=\n8:0 8:0 rios=1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var io IO
		if err := io.parseStat(text); err == nil {
			checkDevices(t, &io, text)
		}
	})
}

func FuzzBlkio(f *testing.F) {
	f.Add([]byte("7:0 Read 68177920\n7:0 Write 134217728\n7:0 Sync 1\n7:0 Discard 1048576\n7:0 Total 203444224\nTotal 203444224\n"))
	f.Add([]byte("Total 0\n8:0 Read 18446744073709551615\n8:0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var io IO
		if errors.Join(io.parseRequests(text), io.parseBytes(text)) == nil {
			checkDevices(t, &io, text)
		}
	})
}

// checkDevices fails on a device that is named twice, or that the text does not name.
func checkDevices(t *testing.T, io *IO, text []byte) {
	var seen []Device
	for _, d := range io.Devices {
		if slices.Contains(seen, d.Device) || d.Device.Major >= 1<<12 || d.Device.Minor >= 1<<20 {
			t.Fatalf("%q: %v", text, io.Devices)
		}
		seen = append(seen, d.Device)
	}
	if len(seen) > bytes.Count(text, []byte(":")) {
		t.Fatalf("%q: %d devices", text, len(seen))
	}
}

func FuzzMemoryEvents(f *testing.F) {
	f.Add([]byte("pgfault 5\nworkingset_nodereclaim 18446744073709551615\n"), true)
	f.Add([]byte("total_pgfault 5\npgfault 1\ntotal_ 3\n"), false)
	f.Fuzz(func(t *testing.T, text []byte, v2 bool) {
		e := MemoryEvents{Version: V1}
		if v2 {
			e.Version = V2
		}
		if e.parse(text) != nil {
			return
		}
		for i, n := range e.Count {
			if n != 0 && !e.Known[i] || e.Known[i] && !bytes.Contains(text, []byte(Event(i).String())) {
				t.Fatalf("%q: %s is %d, known %v", text, Event(i), n, e.Known[i])
			}
		}
	})
}

// The largest counters that the kernel has are read as they are.
func TestIOStatLargest(t *testing.T) {
	var io IO
	if err := io.parseStat([]byte("8:0 rbytes=18446744073709551615\n")); err != nil || io.Devices[0].Reads.Bytes != math.MaxUint64 {
		t.Errorf("%+v, %v", io, err)
	}
}

func TestReadIOAllocatesNothing(t *testing.T) {
	for _, name := range []string{"v2-6.1", "v1-5.10"} {
		root := fixture(t, name)
		g := open(t, newFS(t, root), container(t, root))
		var io IO
		var m Memory
		var e MemoryEvents
		var slab []byte
		read := func() {
			err := errors.Join(g.ReadIO(&io), g.ReadMemoryAndEvents(&m, &e))
			var err2 error
			if slab, err2 = g.ReadSlabinfo(slab[:0]); err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
		}
		read()
		if n := testing.AllocsPerRun(100, read); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations per warm read", name, n)
		}
	}
}
