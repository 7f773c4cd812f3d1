package view

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// The parsers of prometheus/procfs read what is rendered, and find the container's numbers.
func TestProcfsOracle(t *testing.T) {
	for _, f := range readFixtures(t) {
		if f.host.Meminfo == nil {
			continue // cpuinfo alone, of another architecture
		}
		for name, c := range f.containers {
			t.Run(filepath.Base(f.name)+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				for _, r := range renderers {
					if file, ok := strings.CutPrefix(r.file, "proc/"); ok {
						if err := os.WriteFile(filepath.Join(dir, file), r.render(nil, f.host, c), 0o644); err != nil {
							t.Fatal(err)
						}
					}
				}
				fs, err := procfs.NewFS(dir)
				if err != nil {
					t.Fatal(err)
				}
				checkMeminfo(t, fs, f, c)
				checkStat(t, fs, f, c)
				checkCPUInfo(t, fs, f.host, c)
				checkDiskstats(t, dir, f, c)
				if c.Load != nil {
					load, err := fs.LoadAvg()
					if err != nil {
						t.Fatal(err)
					}
					// 3174, 1024 and 20 of 2048.
					if want := (procfs.LoadAvg{Load1: 1.55, Load5: 0.50, Load15: 0.01}); *load != want {
						t.Errorf("loadavg: got %+v, want %+v", *load, want)
					}
				}
			})
		}
	}
}

// A machine of 1,024 CPUs, of which a container sees 100.
func TestProcfsOracleBig(t *testing.T) {
	h := bigHost(t, 1024)
	c := &Container{CPU: &cgroup.CPU{Set: h.OnlineCPUs[500:], Levels: []cgroup.CPULevel{{Quota: 9_950_000, Period: 100_000}}}, Age: -1}
	c.CPUs = VisibleCPUs(nil, c.CPU, h.OnlineCPUs, &policy.Policy{})
	dir := t.TempDir()
	for file, text := range map[string][]byte{"stat": Stat(nil, h, c), "cpuinfo": Cpuinfo(nil, h, c)} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := procfs.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := fs.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if len(stat.CPU) != 100 || stat.CPU[99].User != (1000+599)/100.0 {
		t.Errorf("%d CPUs, the last %+v", len(stat.CPU), stat.CPU[99])
	}
	checkCPUInfo(t, fs, h, c)
}

func checkMeminfo(t *testing.T, fs procfs.FS, f *fixture, c *Container) {
	m, err := fs.Meminfo()
	if err != nil {
		t.Fatal(err)
	}
	if c.Memory == nil {
		return
	}
	// What the fixtures' containers come to, computed by hand from their limits. Unlimited ones have the machine's.
	machine := meminfoNumbers(t, f.host.Meminfo)
	total, free := machine["MemTotal"], machine["MemFree"]
	switch c.Memory.Levels[0].Path {
	case "/kubepods/pod1/c1":
		total, free = 256<<10, 56<<10
	case "/docker/c2":
		total, free = 256<<10, 96<<10
	case "/c":
		total, free = 64<<10, 0
	}
	if *m.MemTotal != total || *m.MemFree != free {
		t.Errorf("MemTotal %d, MemFree %d, want %d and %d", *m.MemTotal, *m.MemFree, total, free)
	}
	if want := c.Memory.Stat.Anon >> 10; *m.AnonPages != min(want, total) {
		t.Errorf("AnonPages: got %d, want %d", *m.AnonPages, want)
	}
	if *m.VmallocTotal != 34359738367 {
		t.Errorf("VmallocTotal: got %d", *m.VmallocTotal)
	}
}

func checkStat(t *testing.T, fs procfs.FS, f *fixture, c *Container) {
	stat, err := fs.Stat()
	if err != nil {
		t.Fatal(err)
	}
	want := len(c.CPUs)
	if want == 0 {
		want = len(f.host.OnlineCPUs)
	}
	if len(stat.CPU) != want {
		t.Errorf("stat has %d CPUs, want %d", len(stat.CPU), want)
	}
	if c.Times != nil {
		row := func(r CPURow) procfs.CPUStat {
			return procfs.CPUStat{User: float64(r.User) / Hz, System: float64(r.System) / Hz, Idle: float64(r.Idle) / Hz,
				Steal: float64(r.Steal) / Hz}
		}
		if stat.CPUTotal != row(c.Times.Total) {
			t.Errorf("cpu row: got %+v, want %+v", stat.CPUTotal, row(c.Times.Total))
		}
		for i, r := range c.Times.Rows {
			if got := stat.CPU[int64(c.Number(i))]; got != row(r) {
				t.Errorf("cpu%d: got %+v, want %+v", c.Number(i), got, row(r))
			}
		}
	}
	if c.Load != nil && (stat.ProcessesRunning != 3 || stat.ProcessesBlocked != 1) {
		t.Errorf("running %d, blocked %d, want 3 and 1", stat.ProcessesRunning, stat.ProcessesBlocked)
	}
	if stat.BootTime != 1795463305 {
		t.Errorf("btime %d", stat.BootTime)
	}
}

func checkCPUInfo(t *testing.T, fs procfs.FS, h *host.Snapshot, c *Container) {
	if runtime.GOARCH != "amd64" {
		t.Log("cpuinfo not checked: procfs has the parser of its own architecture only, the fixtures are of x86")
		return
	}
	infos, err := fs.CPUInfo()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.CPUs) == 0 {
		return
	}
	if len(infos) != len(c.CPUs) {
		t.Fatalf("cpuinfo has %d CPUs, want %d", len(infos), len(c.CPUs))
	}
	packages, cores := map[string]uint{}, map[[2]string]bool{}
	for _, info := range infos {
		packages[info.PhysicalID]++
		cores[[2]string{info.PhysicalID, info.CoreID}] = true
	}
	for i, info := range infos {
		inPackage := uint(0)
		for core := range cores {
			if core[0] == info.PhysicalID {
				inPackage++
			}
		}
		if info.Processor != uint(c.Number(i)) || info.Siblings != packages[info.PhysicalID] || info.CPUCores != inPackage || len(info.Flags) == 0 {
			t.Errorf("CPU %d of %d: %d siblings of %d, %d cores of %d, %d flags",
				i, len(infos), info.Siblings, packages[info.PhysicalID], info.CPUCores, inPackage, len(info.Flags))
		}
		// Where it sits is where the physical CPU does.
		for _, line := range []string{"physical id\t: " + info.PhysicalID, "core id\t\t: " + info.CoreID, "apicid\t\t: " + info.APICID} {
			if b := blockOf(h.Cpuinfo.Blocks, c.CPUs[i]); !strings.Contains(string(b.Text), "\n"+line+"\n") {
				t.Errorf("CPU %d: %q is not in\n%s", i, line, b.Text)
			}
		}
	}
}

func checkDiskstats(t *testing.T, dir string, f *fixture, c *Container) {
	if f.host.Diskstats == nil || c.IO == nil {
		return
	}
	fs, err := blockdevice.NewFS(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := fs.ProcDiskstats()
	if err != nil {
		t.Fatal(err)
	}
	// The containers that do block I/O do the same, on a loop device and on one that is gone.
	want := blockdevice.IOStats{ReadIOs: 35, ReadSectors: 280, WriteIOs: 128, WriteSectors: 131072, DiscardIOs: 2, DiscardSectors: 4096}
	if len(stats) != 1 || stats[0].DeviceName != "loop0" || stats[0].MajorNumber != 7 || stats[0].IOStats != want {
		t.Errorf("diskstats: %+v, want loop0 alone with %+v", stats, want)
	}
}
