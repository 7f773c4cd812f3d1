package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diskLine are the counters of a device in /proc/diskstats.
type diskLine []uint64

// The columns of a diskLine that the tests look at.
const (
	reads          = 0
	sectorsRead    = 2
	writes         = 4
	sectorsWritten = 6
)

// diskstats are the lines of a container, or of the machine, by device.
func parseDiskstats(t testing.TB, text string) map[string]diskLine {
	t.Helper()
	if err := whole("proc/diskstats", text); err != nil {
		t.Fatal(err)
	}
	disks := map[string]diskLine{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		for _, field := range f[3:] {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			disks[f[2]] = append(disks[f[2]], n)
		}
	}
	return disks
}

func (c *container) diskstats() map[string]diskLine {
	c.t.Helper()
	return parseDiskstats(c.t, c.read("proc/diskstats"))
}

// vmstat are the rows of a container's /proc/vmstat.
func (c *container) vmstat() map[string]int64 {
	c.t.Helper()
	text := c.read("proc/vmstat")
	if err := whole("proc/vmstat", text); err != nil {
		c.t.Fatal(err)
	}
	rows := map[string]int64{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			c.t.Fatal(err)
		}
		rows[key] = n
	}
	return rows
}

// blockDevice is a loop device of a sparse file, for the time of the test.
type blockDevice struct {
	path   string // such as /dev/loop0
	name   string // loop0
	number string // 7:0
}

func newBlockDevice(t *testing.T, size int64) *blockDevice {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no loop devices: ", err)
	}
	defer control.Close()
	f, err := os.Create(filepath.Join(scratch(t), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for range 20 { // somebody else may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		b := &blockDevice{path: fmt.Sprintf("/dev/loop%d", n), name: fmt.Sprintf("loop%d", n)}
		loop, err := os.OpenFile(b.path, os.O_RDWR, 0)
		if err != nil {
			t.Skip("no loop device: ", err)
		}
		if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(f.Fd())); err != nil {
			loop.Close()
			continue
		}
		t.Cleanup(func() {
			_ = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
			loop.Close()
		})
		var st unix.Stat_t
		if err := unix.Fstat(int(loop.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		b.number = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		return b
	}
	t.Skip("no free loop device")
	return nil
}

// counts makes sure that the kernel counts what the group does on a device. v1 kernels need a limit for that: 6.1 one of
// the group's own, 6.10 and newer one of any cgroup.
func (g *group) counts(b *blockDevice) *group {
	g.t.Helper()
	if h, ok := controllerOf("blkio"); ok {
		for _, file := range []string{"blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"} {
			g.write(filepath.Join(h.dir+g.path, file), fmt.Sprint(b.number, " ", int64(1)<<40))
		}
		return g
	}
	if _, ok := controllerOf("io"); !ok {
		g.t.Skip("this machine has no block I/O controller")
	}
	return g
}

// write writes past the page cache.
func (b *blockDevice) write(c *container, g *group, mib int) {
	c.t.Helper()
	start(c.t, patience, c.commandIn(g, "busybox", "dd", "if=/dev/zero", "of="+b.path, "bs=1M", fmt.Sprint("count=", mib),
		"oflag=direct", "conv=notrunc", "status=none")).wait()
}

// TestDiskstats writes to a device in one container, and looks for that in it, in another one and in programs.
func TestDiskstats(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			b := newBlockDevice(t, 64*miB)
			g, other := newGroup(t).memory(512*miB).counts(b), newGroup(t).counts(b)
			c := startContainer(t, d, g, options{bind: bind})
			idle := startContainer(t, d, other, options{bind: bind})
			if got := c.diskstats()[b.name]; got != nil {
				t.Errorf("before any I/O: %v", got)
			}
			before, idleBefore := c.vmstat(), idle.vmstat()

			b.write(c, g, 64)
			const sectors = 64 * miB / 512
			got := c.diskstats()[b.name]
			if got == nil || got[sectorsWritten] != sectors || got[writes] == 0 {
				t.Fatalf("64 MiB written: %v", got)
			}
			// Who opens a block device may read its partition table.
			for i, n := range got {
				if n != 0 && !slices.Contains([]int{reads, sectorsRead, writes, sectorsWritten}, i) {
					t.Errorf("column %d, which no cgroup counts, is %d", i, n)
				}
			}
			machine := parseDiskstats(t, readString(t, "/proc/diskstats")+"\n")
			if line := machine[b.name]; len(line) != len(got) || line[sectorsWritten] < sectors {
				t.Errorf("the machine has %v, the container %v", line, got)
			}
			if got := idle.diskstats()[b.name]; got != nil {
				t.Errorf("the other container: %v", got)
			}
			for disk := range c.diskstats() {
				if regexp.MustCompile(`^(sd[a-z]+|vd[a-z]+)\d+$`).MatchString(disk) {
					t.Errorf("a partition: %s", disk)
				}
			}
			// A loop device's file may lie on another device, which counts again.
			after, idleAfter := c.vmstat(), idle.vmstat()
			if grown := after["pgpgout"] - before["pgpgout"]; grown < 64*kiB {
				t.Errorf("64 MiB written, and pgpgout grew by %d kB", grown)
			}
			if grown := idleAfter["pgpgout"] - idleBefore["pgpgout"]; grown >= 64*kiB {
				t.Errorf("pgpgout of the other container grew by %d kB", grown)
			}
			checkDiskPrograms(t, c, b)
		})
	}
}

// checkDiskPrograms runs programs that read diskstats, in a container that wrote 64 MiB to a device.
func checkDiskPrograms(t *testing.T, c *container, b *blockDevice) {
	t.Helper()
	prints := func(want string, args ...string) {
		t.Helper()
		if !has(t, args[0]) {
			return
		}
		if out := c.run(args...); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %s\n%s", strings.Join(args, " "), want, out)
		}
	}
	prints(`(?m)^`+b.name+` +\d+ +0 +\d+ +0 +\d+ +0 +131072 +0 +0 +0`, "vmstat", "-d")
	prints(`(?m)^ +\d+ disks\s* 0 partitions`, "vmstat", "-D")
	prints(`^67108864\n$`, "node", "-e", `const line = require('fs').readFileSync('/proc/diskstats', 'utf8').split('\n').map(l => l.trim().split(/\s+/))`+
		`.find(f => f[2] == '`+b.name+`'); console.log(line[9] * 512)`)
	if _, err := os.Stat("/usr/lib/python3/dist-packages/psutil"); err == nil {
		prints(`^67108864 0\n$`, "/usr/bin/python3", "-c",
			"import psutil; d = psutil.disk_io_counters(perdisk=True)['"+b.name+"']; print(d.write_bytes, d.write_time)")
	} else {
		t.Log("not checked with psutil: it is not installed here")
	}
	// sysstat's iostat reads /sys/block, which is the machine's; it need only run.
	prints(`Device`, "iostat", "-d")
	prints(`%util`, "iostat", "-x")
	prints(`(?m)^Average: +`+b.name+` +0.00 +0.00 +0.00 +0.00 `, "sar", "-d", "1", "1")
}

// TestDiskstatsKeepGrowing removes a cgroup below the container's that did I/O, which the kernel forgets on v1.
func TestDiskstatsKeepGrowing(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	b := newBlockDevice(t, 16*miB)
	g := newGroup(t).counts(b)
	init, job := g.child("init.scope").counts(b), g.child("job").counts(b)
	c := startContainer(t, d, init, options{bind: compatTree})
	written := func(want uint64, when string) {
		t.Helper()
		if line := c.diskstats()[b.name]; line == nil || line[sectorsWritten] != want {
			t.Errorf("%s: %v, want %d sectors written", when, line, want)
		}
	}
	b.write(c, job, 16)
	written(16*miB/512, "16 MiB written")
	job.remove()
	if h, ok := controllerOf("blkio"); ok {
		file := filepath.Join(h.dir+g.path, "blkio.throttle.io_service_bytes_recursive")
		still := b.number + fmt.Sprint(" Write ", 16*miB)
		for deadline := time.Now().Add(timeout(5 * time.Second)); strings.Contains(readString(t, file), still); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Log("this kernel does not forget what a removed cgroup did")
				break
			}
		}
	}
	written(16*miB/512, "after the cgroup was removed")
	b.write(c, init, 1)
	written(17*miB/512, "one more MiB written")
}

// TestVMStat compares vmstat with meminfo, while a container uses memory and another one does not.
func TestVMStat(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t).memory(256*miB), options{bind: bind})
			idle := startContainer(t, d, newGroup(t).memory(256*miB), options{bind: bind})
			page := int64(os.Getpagesize())
			before, idleBefore := c.vmstat(), idle.vmstat()
			eater := c.touched(100 * miB)
			after, idleAfter, m := c.vmstat(), idle.vmstat(), c.meminfo()
			for row, want := range map[string]int64{"nr_anon_pages": 100 * miB / page, "nr_free_pages": -100 * miB / page} {
				if grown := after[row] - before[row]; !near(grown, want, 8*miB/page) {
					t.Errorf("100 MiB touched, and %s grew by %d", row, grown)
				}
				if grown := idleAfter[row] - idleBefore[row]; !near(grown, 0, 8*miB/page) {
					t.Errorf("another container touched 100 MiB, and %s grew by %d", row, grown)
				}
			}
			for row, key := range map[string]string{"nr_free_pages": "MemFree", "nr_anon_pages": "AnonPages", "nr_file_pages": "Cached", "nr_mapped": "Mapped"} {
				if !near(after[row]*page, m[key], 8*miB) {
					t.Errorf("%s is %d pages, %s %d bytes", row, after[row], key, m[key])
				}
			}
			// Huge pages make few faults.
			if after["pgfault"] <= before["pgfault"] {
				t.Errorf("pgfault went from %d to %d", before["pgfault"], after["pgfault"])
			}
			if machine := key(t, "/proc/vmstat", "pgfault"); idleAfter["pgfault"] == 0 || uint64(after["pgfault"]) >= machine {
				t.Errorf("pgfault is %d in one container, %d in another, %d on the machine", after["pgfault"], idleAfter["pgfault"], machine)
			}
			for _, row := range []string{"pgfault", "pgmajfault", "pgpgin", "pgpgout"} {
				if after[row] < before[row] {
					t.Errorf("%s fell from %d to %d", row, before[row], after[row])
				}
			}
			finish(eater)
			prints := func(want string, args ...string) {
				t.Helper()
				if has(t, args[0]) {
					if out := c.run(args...); !regexp.MustCompile(want).MatchString(out) {
						t.Errorf("%s: want %s\n%s", strings.Join(args, " "), want, out)
					}
				}
			}
			prints(`(?m)( +\d+){17}\n( +\d+){17}\n( +\d+){17}\n`, "vmstat", "1", "3")
			prints(`(?m)^ *262144 K total memory$`, "vmstat", "-s")
			prints(`(?m)pgpgin/s +pgpgout/s +fault/s`, "sar", "-B", "1", "1")
		})
	}
}

// TestSlabinfo reads slabinfo as root and as somebody else.
func TestSlabinfo(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t).memory(100*miB), options{bind: bind})
			// Since Linux 5.9 no cgroup has caches of its own: the machine's are shown, and nothing in them.
			text := c.read("proc/slabinfo")
			if err := whole("proc/slabinfo", text); err != nil {
				t.Fatal(err)
			}
			lines, machine := strings.Split(text, "\n"), strings.Split(readString(t, "/proc/slabinfo"), "\n")
			if len(lines) < 3 || lines[0] != machine[0] || lines[1] != machine[1] {
				t.Fatalf("got %.400q", text)
			}
			empty := regexp.MustCompile(`^\S+ +0 +0 +\d+ +\d+ +\d+ : tunables +\d+ +\d+ +\d+ : slabdata +0 +0 +0$`)
			for _, line := range lines[2:] {
				if line != "" && !empty.MatchString(line) {
					t.Errorf("a cache with something in it: %q", line)
				}
			}
			if !strings.Contains(text, "\ndentry ") {
				t.Errorf("no dentry cache in %.400q", text)
			}
			p := start(t, patience, c.command(selfExe, "nobody", "busybox", "cat", "/proc/slabinfo"))
			if out, err := p.result(); err == nil || !strings.Contains(p.err.String(), "ermission denied") {
				t.Errorf("as nobody: %v %q %q", err, out, p.err.String())
			}
			if has(t, "slabtop") {
				if out := c.run("slabtop", "-o"); !regexp.MustCompile(`Active / Total Objects .*: 0 / 0 `).MatchString(out) {
					t.Errorf("slabtop: %s", out)
				}
			}
		})
	}
}
