package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

// cpuinfoAge is how long a parsed /proc/cpuinfo is good. The kernel prints it slowly (on x86 it asks every CPU for its
// frequency), and nothing but that frequency changes between two hotplug events, which change the list of online CPUs.
const cpuinfoAge = time.Second

// FS reads the machine's files below a root. It keeps them open. It is safe for use by several goroutines.
type FS struct {
	meminfo, stat, cpuinfo, swaps, loadavg, uptime file
	online, present, possible, offline             file
	overcommitRatio, overcommitKbytes              file
	pressure                                       [cgroup.Pressures]file
	diskstats, vmstat, slabinfo                    file
	nodesOnline                                    file

	root string
	proc procDir
	sys  sysDirs
	// noOpenat2 says that the kernel is older than openat2(2), which came with Linux 5.6.
	noOpenat2 atomic.Bool
	pageSize  uint64
	thpSize   uint64

	timeNS timeNSs

	maxAge atomic.Int64 // see SetMaxAge
	opened time.Time    // where now counts from

	// The last parsed /proc/cpuinfo, for ordinary readers and for those of Linux32.
	parsed, parsed32 parsedCpuinfo

	parsedNodes parsedNodes
}

// parsedCpuinfo is a parsed /proc/cpuinfo and when it was read, on the clock of FS.now.
type parsedCpuinfo struct {
	mu     sync.Mutex
	last   *Cpuinfo
	read   time.Duration
	online []byte // the list of online CPUs then
}

// Open opens the files below root; "" and "/" are the machine's own. A file that does not exist is no error here:
// Snapshot reports it when it is asked for and cannot be done without.
func Open(root string) (*FS, error) {
	f := &FS{root: root, proc: -1, sys: sysDirs{-1, -1}, pageSize: uint64(os.Getpagesize()), opened: time.Now()}
	for _, file := range []*file{&f.cpuinfo, &f.swaps, &f.diskstats, &f.vmstat, &f.slabinfo} {
		file.records = true
	}
	for file, path := range f.files() {
		file.room = minRead
		if strings.HasPrefix(path, "proc/sys/") {
			file.room = sysctlRoom
		}
		if err := file.openAt(filepath.Join("/", root, path)); err != nil {
			f.Close()
			return nil, err
		}
	}
	if err := errors.Join(f.proc.open(root), f.sys.open(root)); err != nil {
		f.Close()
		return nil, err
	}
	if text, err := os.ReadFile(filepath.Join("/", root, "sys/kernel/mm/transparent_hugepage/hpage_pmd_size")); err == nil {
		f.thpSize = number(text)
	}
	f.findTimeNS()
	return f, nil
}

// files yields every file with its path below the root.
func (f *FS) files() func(yield func(*file, string) bool) {
	return func(yield func(*file, string) bool) {
		_ = yield(&f.meminfo, "proc/meminfo") &&
			yield(&f.stat, "proc/stat") &&
			yield(&f.cpuinfo, "proc/cpuinfo") &&
			yield(&f.swaps, "proc/swaps") &&
			yield(&f.loadavg, "proc/loadavg") &&
			yield(&f.uptime, "proc/uptime") &&
			yield(&f.online, "sys/devices/system/cpu/online") &&
			yield(&f.present, "sys/devices/system/cpu/present") &&
			yield(&f.possible, "sys/devices/system/cpu/possible") &&
			yield(&f.offline, "sys/devices/system/cpu/offline") &&
			yield(&f.overcommitRatio, "proc/sys/vm/overcommit_ratio") &&
			yield(&f.overcommitKbytes, "proc/sys/vm/overcommit_kbytes") &&
			yield(&f.pressure[cgroup.PressureCPU], "proc/pressure/cpu") &&
			yield(&f.pressure[cgroup.PressureMemory], "proc/pressure/memory") &&
			yield(&f.pressure[cgroup.PressureIO], "proc/pressure/io") &&
			yield(&f.pressure[cgroup.PressureIRQ], "proc/pressure/irq") &&
			yield(&f.diskstats, "proc/diskstats") &&
			yield(&f.vmstat, "proc/vmstat") &&
			yield(&f.slabinfo, "proc/slabinfo") &&
			yield(&f.nodesOnline, "sys/devices/system/node/online")
	}
}

// Exists says whether the machine's kernel has a file or directory, named by its path below the root.
func (f *FS) Exists(path string) bool {
	_, err := os.Lstat(filepath.Join("/", f.root, path))
	return err == nil
}

// Close closes the files. The snapshots that were taken stay good.
func (f *FS) Close() error {
	var errs []error
	for file := range f.files() {
		errs = append(errs, file.close())
	}
	f.sys.close()
	f.proc.close()
	return errors.Join(errs...)
}

// SetMaxAge sets how old a text of the machine may be that a Snapshot is given, for all that are taken from now on. Texts
// are shared for that long, and who comes while one is read waits for it. 0, as it is to begin with, reads every one anew.
func (f *FS) SetMaxAge(age time.Duration) { f.maxAge.Store(int64(age)) }

// now is a clock for ages: it is read without a system call, and stands still while the machine is suspended.
func (f *FS) now() time.Duration { return time.Since(f.opened) }

// timeless are the needs of files that tell no time: Boottime, a system call, is not read for these alone.
const timeless = NeedMeminfo | NeedOvercommit | NeedSwaps | NeedCpuinfo | NeedCpuinfo32 | NeedOnlineCPUs | NeedNodes |
	NeedDiskstats | NeedVMStat | NeedSlabinfo

// Snapshot fills dst with what need names and empties the rest; the time namespace is the machine's until ReadTimeNS. It
// reuses the buffers of dst, so a warm call allocates nothing (but a /proc/cpuinfo that has become too old). /proc/swaps,
// offline and the overcommit settings are empty where the kernel has none; any other file that is missing is an error.
// After an error dst is not to be used.
func (f *FS) Snapshot(need Need, dst *Snapshot) error {
	dst.PageSize, dst.THPSize = f.pageSize, f.thpSize
	dst.Boottime, dst.TimeNS = 0, TimeNS{}
	var err error
	if need&timeless != need || need == 0 {
		if dst.Boottime, err = clock(unix.CLOCK_BOOTTIME); err != nil {
			return err
		}
	}
	read := func(part Need, file *file, buf *[]byte) {
		*buf = (*buf)[:0]
		if need&part != 0 && err == nil {
			*buf, err = f.read(file, *buf)
		}
	}
	optional := func(part Need, file *file, buf *[]byte) {
		if file.err == unix.ENOENT {
			part = 0
		}
		read(part, file, buf)
	}
	read(NeedMeminfo, &f.meminfo, &dst.Meminfo)
	read(NeedStat, &f.stat, &dst.Stat)
	optional(NeedSwaps, &f.swaps, &dst.Swaps)
	read(NeedLoadavg, &f.loadavg, &dst.Loadavg)
	read(NeedUptime, &f.uptime, &dst.Uptime)
	read(NeedOnlineCPUs, &f.online, &dst.Online)
	read(needOtherLists, &f.present, &dst.Present)
	read(needOtherLists, &f.possible, &dst.Possible)
	optional(needOtherLists, &f.offline, &dst.Offline)
	optional(NeedOvercommit, &f.overcommitRatio, &dst.overcommitRatio)
	dst.Overcommit = Overcommit{Ratio: number(dst.overcommitRatio)}
	if dst.Overcommit.Ratio == 0 { // to set either is to set the other to 0 (mm/util.c)
		optional(NeedOvercommit, &f.overcommitKbytes, &dst.overcommitKbytes)
		dst.Overcommit.Kbytes = number(dst.overcommitKbytes)
	}
	for r := range cgroup.Pressures {
		read(NeedPressure(r), &f.pressure[r], &dst.Pressure[r])
	}
	read(NeedDiskstats, &f.diskstats, &dst.Diskstats)
	read(NeedVMStat, &f.vmstat, &dst.VMStat)
	read(NeedSlabinfo, &f.slabinfo, &dst.Slabinfo)
	if err != nil {
		return err
	}
	dst.OnlineCPUs = nil
	if need&NeedOnlineCPUs != 0 {
		if dst.OnlineCPUs, err = dst.online.parse(dst.Online); err != nil {
			return fmt.Errorf("%s: %w", f.online.path, err)
		}
	}
	dst.Nodes = nil
	if need&NeedNodes != 0 {
		if dst.Nodes, err = f.readNodes(dst.Online, len(dst.OnlineCPUs)); err != nil {
			return fmt.Errorf("the NUMA nodes: %w", err)
		}
	}
	dst.Cpuinfo = nil
	if need&NeedCpuinfo != 0 {
		dst.Cpuinfo, err = f.parsed.get(f.now(), dst.Online, f.cpuinfo.read)
	}
	if need&NeedCpuinfo32 != 0 {
		dst.Cpuinfo, err = f.parsed32.get(f.now(), dst.Online, func(buf []byte) (text []byte, err error) {
			err = asLinux32(func() (err error) { text, err = f.cpuinfo.read(buf); return err })
			return text, err
		})
	}
	return err
}

// read appends a file's text to buf, which is not older than SetMaxAge says.
func (f *FS) read(file *file, buf []byte) ([]byte, error) {
	if age := time.Duration(f.maxAge.Load()); age > 0 {
		return file.share(buf, age, f.now)
	}
	return file.read(buf)
}

// parse is the numbers in a list. They are those of the last one as long as it says the same, as it nearly always does.
func (p *parsedList) parse(text []byte) (numbers []int, err error) {
	if len(p.numbers) > 0 && bytes.Equal(p.text, text) {
		return p.numbers, nil
	}
	p.numbers, err = cgroup.ParseCPUList(p.numbers[:0], text)
	if err != nil {
		p.numbers = p.numbers[:0]
		return nil, err
	}
	p.text = append(p.text[:0], text...)
	return p.numbers, nil
}

// get returns /proc/cpuinfo not older than cpuinfoAge, and of the CPUs that are online now.
func (p *parsedCpuinfo) get(now time.Duration, online []byte, read func(buf []byte) ([]byte, error)) (*Cpuinfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != nil && now-p.read < cpuinfoAge && bytes.Equal(p.online, online) {
		return p.last, nil
	}
	// The old text may be in use: the new one gets a buffer of its own, of about the size that it will need.
	size := 0
	if p.last != nil {
		size = len(p.last.Raw) + minRead
	}
	raw, err := read(make([]byte, 0, size))
	if err != nil {
		return nil, err
	}
	p.last, p.read, p.online = ParseCpuinfo(raw), now, append(p.online[:0], online...)
	return p.last, nil
}

// number is the decimal number that a text starts with, 0 if none, saturating.
func number(text []byte) (n uint64) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		if n > (1<<63)/10-1 {
			return 1 << 63
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
