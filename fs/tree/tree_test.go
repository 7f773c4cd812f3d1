package tree

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/internal/fixture"
)

const (
	machinePID = 1
	onePID     = 10 // of a container of 100 MiB and 2 visible CPUs that nobody announced
	webPID     = 20 // of the container web, of 200 MiB and 1 visible CPU
)

// total is MemTotal of a text, in MiB.
func total(text string) int {
	var kB int
	fmt.Sscanf(text, "MemTotal: %d kB", &kB)
	return kB / 1024
}

func TestLayout(t *testing.T) {
	c := mount(t)
	for path, want := range map[string][]string{
		"":                              {".", "..", "by", "c", "proc", "sys"},
		"by":                            {".", "..", "0"},
		"by/0":                          {".", "..", "proc", "sys"},
		"c":                             {".", "..", "web"},
		"proc":                          {".", "..", "cpuinfo", "diskstats", "loadavg", "meminfo", "pressure", "slabinfo", "stat", "swaps", "uptime", "vmstat"},
		"proc/pressure":                 {".", "..", "cpu", "io", "memory"}, // the machine has no irq
		"sys/devices/system":            {".", "..", "cpu"},
		"sys/devices/system/cpu":        {".", "..", "offline", "online", "possible", "present"},
		"c/web":                         {".", "..", "proc", "sys"},
		"c/web/proc":                    {".", "..", "cpuinfo", "diskstats", "loadavg", "meminfo", "pressure", "slabinfo", "stat", "swaps", "uptime", "vmstat"},
		"c/web/sys/devices/system/cpu/": {".", "..", "offline", "online", "possible", "present"},
	} {
		n := c.walk(machinePID, strings.FieldsFunc(path, func(r rune) bool { return r == '/' })...)
		if got := c.readdir(n); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
	for _, names := range [][]string{{"nothing"}, {"proc", "web"}, {"c", "other"}, {"c", "web", "c"}, {"proc", "c"}, {"proc", ""},
		{"by", "x"}, {"by", "00"}, {"by", "-1"}, {"by", "4711"}, {"by", "0", "by"}} {
		parent := c.walk(machinePID, names[:len(names)-1]...)
		if _, errno := c.lookup(parent, machinePID, names[len(names)-1]); errno != int32(syscall.ENOENT) {
			t.Errorf("%v: errno %d, want ENOENT", names, errno)
		}
	}
}

func TestEveryFileInBothTrees(t *testing.T) {
	c := mount(t)
	for _, path := range Paths() {
		if path == "proc/pressure/irq" {
			continue // the machine has none
		}
		mode := uint32(0o444)
		if strings.HasPrefix(path, "proc/pressure/") {
			mode = 0o644 // the machine's
		}
		if path == "proc/slabinfo" {
			mode = 0o400
		}
		names := strings.Split(path, "/")
		if path == "proc/slabinfo" {
			mode = 0o400
		}
		own := c.walk(machinePID, append([]string{"c", "web"}, names...)...)
		shared := c.walk(webPID, names...)
		for _, n := range []node{own, shared} {
			text := c.cat(n, webPID)
			if text == "" || !strings.HasSuffix(text, "\n") {
				t.Errorf("%s: %q", path, text)
			}
			attr, errno := c.getattr(n, webPID)
			if errno != 0 || attr.Mode != syscall.S_IFREG|mode || attr.Nlink != 1 || attr.Owner != (fuse.Owner{}) {
				t.Errorf("%s: errno %d, %+v", path, errno, attr.Attr)
			}
			if path == "proc/meminfo" {
				if attr.Size != uint64(len(text)) {
					t.Errorf("%s: size %d for %d bytes, which it always has", path, attr.Size, len(text))
				}
			} else if attr.Size%4096 != 0 {
				t.Errorf("%s: size %d leaves no room to grow", path, attr.Size)
			}
			if attr.Size < uint64(len(text)) || uint64(attr.Blksize) < attr.Size {
				t.Errorf("%s: size %d and block size %d for %d bytes", path, attr.Size, attr.Blksize, len(text))
			}
			if age := time.Since(time.Unix(int64(attr.Mtime), 0)); age < 0 || age > 2*time.Second {
				t.Errorf("%s: modified %v ago", path, age)
			}
		}
	}
	if counts := c.tree.Fallbacks.Counts(); len(counts) != 0 {
		t.Errorf("fallbacks: %v", counts)
	}
}

func TestWhoseNumbers(t *testing.T) {
	c := mount(t)
	own := c.walk(machinePID, "c", "web", "proc", "meminfo")
	shared := c.walk(machinePID, "proc", "meminfo")
	for _, test := range []struct {
		n    node
		pid  uint32
		want int
		why  string
	}{
		{own, machinePID, 200, "a container's own tree shows it to everybody"},
		{own, onePID, 200, "a container's own tree shows it to other containers"},
		{own, 0, 200, "a container's own tree does not look at the reader"},
		{shared, machinePID, 8192, "the shared tree shows the machine to the machine"},
		{shared, onePID, 100, "the shared tree shows the reader's container"},
		{shared, webPID, 200, "the shared tree shows the reader's container"},
		{shared, 0, 8192, "a reader that is not visible sees the machine"},
	} {
		if got := total(c.cat(test.n, test.pid)); got != test.want {
			t.Errorf("%d MiB, want %d: %s", got, test.want, test.why)
		}
	}
	if counts := c.tree.Fallbacks.Counts(); len(counts) != 1 || counts[Fallback{"proc/meminfo", "caller"}] != 1 {
		t.Errorf("fallbacks %v, want one for the invisible caller", counts)
	}
}

// The opener's identity counts, also when the descriptor is handed to another container.
func TestIdentityIsTheOpeners(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo")
	fh := c.mustOpen(n, onePID)
	if text, _ := c.pread(n, fh, webPID, 0, 65536); total(text) != 100 {
		t.Errorf("a descriptor of a container of 100 MiB shows %d", total(text))
	}
}

// The links lead each container to inodes of its own; every name means the same to all, or a bind mount of it could fail
// beside other readers.
func TestSharedTreeLeadsEachContainerToItsOwnInodes(t *testing.T) {
	c := mount(t)
	seen := map[node]bool{}
	for _, pid := range []uint32{machinePID, onePID, webPID} {
		n := c.walk(pid, "proc", "meminfo")
		if again := c.walk(pid, "proc", "meminfo"); again != n || seen[n] {
			t.Errorf("reader %d: node %x, then %x; others: %v", pid, n, again, seen)
		}
		seen[n] = true
		link, errno := c.lookup(node(fuse.FUSE_ROOT_ID), pid, "proc")
		if errno != 0 || link.Mode != syscall.S_IFLNK|0o777 || node(link.NodeId) != topNode(procLink) || link.EntryValid == 0 {
			t.Errorf("reader %d: errno %d, %+v", pid, errno, link)
		}
		// Whose files a link led to does not matter to what is shown: the opener does.
		if got := total(c.cat(n, onePID)); got != 100 {
			t.Errorf("the inode of reader %d shows a container of 100 MiB %d MiB", pid, got)
		}
	}
	if target := c.readlink(c.mustLookup("sys"), 0); target != "by/0/sys" {
		t.Errorf("a reader that is not visible is led to %s", target)
	}
}

// A runtime binds the files, and so asks for their sizes, before it has set the limits.
func TestLimitsSetAfterTheBind(t *testing.T) {
	c := mount(t)
	c.m.Write("sys/fs/cgroup/c2/cpu.max", "max 100000\n")
	n := c.walk(machinePID, "c", "web", "proc", "stat")
	if _, errno := c.getattr(n, webPID); errno != 0 {
		t.Fatalf("getattr: errno %d", errno)
	}
	time.Sleep(300 * time.Millisecond)
	c.m.Write("sys/fs/cgroup/c2/cpu.max", "50000 100000\n")
	lines := strings.Split(c.cat(n, webPID), "\n")
	total, row := lines[0], lines[1]
	if a, b := strings.Fields(total)[1:], strings.Fields(row)[1:]; !slices.Equal(a, b) {
		t.Errorf("time of CPUs that the container never had: %v in all, %v of its one", a, b)
	}
}

func TestReadAtAnyOffset(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	whole := c.cat(n, webPID)
	for _, offset := range []int{0, 1, 100, len(whole) - 1, len(whole), len(whole) + 1, 1 << 40} {
		for _, size := range []int{1, 700, 65536} {
			fh := c.mustOpen(n, webPID) // a fresh descriptor
			got, errno := c.pread(n, fh, webPID, offset, size)
			want := whole[min(offset, len(whole)):min(offset+size, len(whole))]
			if errno != 0 || got != want {
				t.Errorf("pread(%d, %d): errno %d, %q, want %q", offset, size, errno, got, want)
			}
			c.release(n, fh)
		}
	}
}

func TestSnapshotOfADescriptor(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	fh := c.mustOpen(n, webPID)
	first, _ := c.pread(n, fh, webPID, 0, 20)
	c.m.Write("sys/fs/cgroup/c2/memory.max", "52428800\n")
	rest, _ := c.pread(n, fh, webPID, 20, 65536)
	if total(first+rest) != 200 || !strings.HasSuffix(first+rest, "\n") {
		t.Errorf("a read in two parts mixes two snapshots: %q", first+rest)
	}
	if again, _ := c.pread(n, fh, webPID, 0, 65536); total(again) != 50 {
		t.Errorf("read from the start again: %d MiB, want 50", total(again))
	}
	if fresh := c.cat(n, webPID); total(fresh) != 50 {
		t.Errorf("a new limit shows %d MiB at the next read, want 50", total(fresh))
	}
}

func TestThreadsShareADescriptor(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	fh := c.mustOpen(n, webPID)
	lines := strings.Count(c.cat(n, webPID), "\n")
	var threads sync.WaitGroup
	for i := range 12 {
		threads.Go(func() {
			me := *c // the request numbers are a thread's own
			me.unique = uint64(i+1) << 32
			for range 200 {
				text, errno := me.pread(n, fh, webPID, 0, 65536)
				if errno != 0 || !strings.HasPrefix(text, "MemTotal:") || strings.Count(text, "\n") != lines {
					t.Errorf("errno %d, %q", errno, text)
					return
				}
			}
		})
	}
	threads.Wait()
}

// sendfile(2) and splice(2) read through the page cache, which ends at the inode's size.
func TestPageCacheReads(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	fh := c.mustOpen(n, webPID)
	first, errno := c.pageRead(n, fh, webPID, 0, 4096)
	if errno != 0 || total(first) != 200 {
		t.Fatalf("errno %d, %q", errno, first)
	}
	// While it is read, others get the same bytes and the size is exactly theirs.
	c.m.Write("sys/fs/cgroup/c2/memory.max", "52428800\n")
	if attr, _ := c.getattr(n, webPID); attr.Size != uint64(len(first)) || attr.AttrValid != 0 || attr.AttrValidNsec != 0 {
		t.Errorf("size %d, good for %d s; want exactly %d and not to be remembered", attr.Size, attr.AttrValid, len(first))
	}
	other := c.mustOpen(n, webPID)
	if text, _ := c.pageRead(n, other, webPID, 0, 4096); text != first {
		t.Errorf("a second reader at the same time: %q", text)
	}
	if text, _ := c.pread(n, other, webPID, 0, 65536); total(text) != 50 {
		t.Errorf("read(2) shows %d MiB, want what is true now", total(text))
	}
	c.release(n, fh)
	c.release(n, other)
	if !slices.Contains(c.invalidated, uint64(n)) {
		t.Error("the kernel keeps the size of a content that is over")
	}
	// The next reader gets what is true then.
	attr, _ := c.getattr(n, webPID)
	fh = c.mustOpen(n, webPID)
	text, _ := c.pageRead(n, fh, webPID, 0, 4096)
	if total(text) != 50 || attr.Size != uint64(len(text)) {
		t.Errorf("the next reader: %d MiB, %d bytes with a size of %d", total(text), len(text), attr.Size)
	}
	c.release(n, fh)
}

// Where containers share an inode of the shared tree, each is still given its own numbers.
func TestPageCacheReadsOfASharedInode(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo") // the machine's inode, as a bind mount made by the host has it
	for range 2 {
		for pid, want := range map[uint32]int{machinePID: 8192, onePID: 100, webPID: 200} {
			fh := c.mustOpen(n, pid)
			if text, errno := c.pageRead(n, fh, pid, 0, 4096); errno != 0 || total(text) != want {
				t.Errorf("reader %d: errno %d, %d MiB, want %d", pid, errno, total(text), want)
			}
			c.release(n, fh)
		}
	}
}

// Containers that read one inode through the page cache take turns, and nobody waits for long.
func TestContainersTakeTurnsAtASharedInode(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo")
	opened := func(pid uint32) (fh chan uint64) {
		fh = make(chan uint64, 1)
		other := *c
		other.unique = uint64(pid) << 32
		go func() { fh <- other.mustOpen(n, pid) }()
		return fh
	}
	one := c.mustOpen(n, onePID)
	c.pageRead(n, one, onePID, 0, 4096)

	same := <-opened(onePID) // its own container is not kept waiting
	web := opened(webPID)
	select {
	case <-web:
		t.Fatal("another container was let in while one read")
	case <-time.After(turnFor / 4):
	}
	c.release(n, same)
	c.pread(n, one, onePID, 0, 100) // it is read with read(2) now
	select {
	case <-web:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is left to wait for")
	}

	// The descriptor of web stays open and says no more: others wait for a while only.
	select {
	case <-opened(machinePID):
	case <-time.After(10 * time.Second):
		t.Fatal("a descriptor that is kept open keeps others out")
	}
}

func TestOpenFlags(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo")
	if _, flags, errno := c.open(n, onePID, 0); errno != 0 || flags != fuse.FOPEN_DIRECT_IO|fuse.FOPEN_NOFLUSH {
		t.Errorf("errno %d, flags %x", errno, flags)
	}
	for _, flags := range []uint32{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_WRONLY | syscall.O_TRUNC} {
		if _, _, errno := c.open(n, machinePID, flags); errno != int32(syscall.EACCES) {
			t.Errorf("open with %x: errno %d, want EACCES", flags, errno)
		}
	}
}

func TestErrors(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo")
	dir := c.walk(machinePID, "proc")
	if _, errno := c.getattr(node(1<<40|999), machinePID); errno != int32(syscall.ENOENT) {
		t.Errorf("getattr of no node: errno %d", errno)
	}
	if _, _, errno := c.open(node(999), machinePID, 0); errno == 0 {
		t.Error("a node that is none was opened")
	}
	if _, errno := c.pread(n, 4711, machinePID, 0, 100); errno != int32(syscall.EBADF) {
		t.Errorf("read of no handle: errno %d", errno)
	}
	fh := c.mustOpen(n, machinePID)
	if _, errno := c.pread(c.walk(machinePID, "proc", "stat"), fh, machinePID, 0, 100); errno != int32(syscall.EBADF) {
		t.Errorf("a handle used with another node: errno %d", errno)
	}
	c.release(n, fh)
	if _, errno := c.pread(n, fh, machinePID, 0, 100); errno != int32(syscall.EBADF) {
		t.Errorf("read of a released handle: errno %d", errno)
	}
	c.release(n, fh) // again: nothing happens
	refused := map[string][]byte{"mkdir": make([]byte, 8), "unlink": nil, "create": make([]byte, 16)}
	for name, opcode := range map[string]uint32{"mkdir": opMkdir, "unlink": opUnlink, "create": opCreate} {
		body := append(refused[name], "name\x00"...)
		if _, errno := c.call(opcode, dir, machinePID, body, 256); errno != int32(syscall.EPERM) {
			t.Errorf("%s: errno %d, want EPERM", name, errno)
		}
	}
	var set fuse.SetAttrIn
	if _, errno := c.call(opSetattr, n, machinePID, bytesOf(&set)[inHeaderSize:], 256); errno != int32(syscall.EPERM) {
		t.Errorf("setattr: errno %d, want EPERM", errno)
	}
	if _, errno := c.call(opReadlink, n, machinePID, nil, 4096); errno != int32(syscall.EINVAL) {
		t.Errorf("readlink: errno %d, want EINVAL", errno)
	}
	if _, errno := c.call(opStatfs, node(fuse.FUSE_ROOT_ID), machinePID, nil, 256); errno != 0 {
		t.Errorf("statfs: errno %d", errno)
	}
	var flush fuse.FlushIn
	if _, errno := c.call(opFlush, n, machinePID, bytesOf(&flush)[inHeaderSize:], 0); errno != int32(syscall.ENOSYS) {
		t.Errorf("flush: errno %d, want ENOSYS, so that kernels without FOPEN_NOFLUSH ask no more", errno)
	}
	if _, errno := c.call(opOpendir, n, machinePID, make([]byte, 8), 64); errno != int32(syscall.ENOTDIR) {
		t.Errorf("opendir of a file: errno %d, want ENOTDIR", errno)
	}
	c.call(opForget, n, 0, make([]byte, 8), 0)
	if text := c.cat(n, onePID); total(text) != 100 {
		t.Errorf("after a forget: %q", text)
	}
}

// Who lists the containers while one of them ends is told of each of the others, once.
func TestContainersEndWhileTheyAreListed(t *testing.T) {
	c := mount(t)
	want := []string{".", ".."}
	for i := range 20 {
		id := fmt.Sprintf("a%02d", i) // before web
		if _, err := c.reg.Announce(id, onePID, nil); err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	want = append(want, "web")
	ended := false
	c.eachReaddir = func() {
		if !ended {
			ended = true
			if err := c.reg.Forget("a00"); err != nil {
				t.Error(err)
			}
		}
	}
	if got := c.readdir(c.walk(machinePID, "c")); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	if n := c.tree.dirs.open(); n != 0 {
		t.Errorf("%d directories stay open", n)
	}
}

// The machine's numbers, and a count, where the container's cannot be read any more.
func TestForgottenContainer(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	fh := c.mustOpen(n, webPID)
	if err := c.reg.Forget("web"); err != nil {
		t.Fatal(err)
	}
	if text, errno := c.pread(n, fh, webPID, 0, 65536); errno != 0 || total(text) != 200 {
		t.Errorf("an open descriptor: errno %d, %d MiB", errno, total(text))
	}
	c.release(n, fh)
	if got := total(c.cat(n, webPID)); got != 8192 {
		t.Errorf("opened afterwards: %d MiB, want the machine's", got)
	}
	if counts := c.tree.Fallbacks.Counts(); counts[Fallback{"proc/meminfo", "forgotten"}] != 1 {
		t.Errorf("fallbacks: %v", counts)
	}
	if _, err := c.reg.Announce("web", webPID, nil); err != nil {
		t.Fatal(err)
	}
	if again := c.walk(machinePID, "c", "web", "proc", "meminfo"); again == n {
		t.Error("a slot was used again")
	}
}

func TestUnreadableContainer(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	c.m.Write("sys/fs/cgroup/c2/memory.max", "garbage\n")
	if got := total(c.cat(n, webPID)); got != 8192 {
		t.Errorf("%d MiB, want the machine's", got)
	}
	if counts := c.tree.Fallbacks.Counts(); counts[Fallback{"proc/meminfo", "unreadable"}] == 0 {
		t.Errorf("fallbacks: %v", counts)
	}
	c.m.Write("sys/fs/cgroup/c2/memory.max", "104857600\n")
	if got := total(c.cat(n, webPID)); got != 100 {
		t.Errorf("readable again: %d MiB, want 100", got)
	}
}

// A file of hundreds of kB is whole, in reads of any size.
func TestLargeFile(t *testing.T) {
	c := mount(t)
	var stat strings.Builder
	stat.WriteString("cpu  1 2 3 4 5 6 7 8 9 10\n")
	for i := range 4096 {
		fmt.Fprintf(&stat, "cpu%d 100000 2 300000 400000000 5 6 7 8 9 10\n", i)
	}
	stat.WriteString("intr 1\nctxt 2\nbtime 3\nprocesses 4\nprocs_running 5\nprocs_blocked 6\nsoftirq 7\n")
	c.m.Write("proc/stat", stat.String())
	n := c.walk(machinePID, "proc", "stat")
	if text := c.cat(n, machinePID); text != stat.String() {
		t.Errorf("%d bytes of %d", len(text), stat.Len())
	}
	if attr, _ := c.getattr(n, machinePID); attr.Size < uint64(stat.Len()) {
		t.Errorf("size %d for %d bytes: sendfile would cut it", attr.Size, stat.Len())
	}
}

func TestOpenHandlesAreGivenBack(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	for range 1000 {
		c.cat(n, webPID)
	}
	if n := c.tree.handles.open(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
}

func FuzzRequests(f *testing.F) {
	for _, op := range []uint32{opLookup, opGetattr, opOpen, opRead, opWrite, opReaddir, opGetxattr, opReleasedir, opSetattr, 46, 47, 52} {
		f.Add(op, uint64(1), uint32(onePID), []byte("proc\x00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
		f.Add(op, uint64(ownNode(1, firstFile)), uint32(0), []byte{})
		for _, e := range []entryID{firstDir + 4, firstSys, firstSys + 1, firstSys + 1000} { // 4: sys/devices/system/cpu
			for _, number := range []int{-1, 0, 5, maxNumber} {
				f.Add(op, uint64(sharedNode(1, root).sibling(e, number)), uint32(onePID), []byte("cpu1\x00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
			}
		}
	}
	c := mountOn(f, fixture.NewNUMA(f), container.Options{})
	c.sys(onePID, "cpu0/topology/core_id") // makes entries
	f.Fuzz(func(t *testing.T, op uint32, n uint64, pid uint32, body []byte) {
		if op == opInit || len(body) > 4096 {
			return
		}
		h := fuse.InHeader{Length: uint32(inHeaderSize + len(body)), Opcode: op, Unique: 2, NodeId: n}
		h.Pid = pid
		request := append(slices.Clone(bytesOf(&h)), body...)
		c.loop.Handle(request, make([]byte, 140<<10))
		me := *c
		me.t = t
		if text := me.cat(me.walk(onePID, "proc", "meminfo"), onePID); total(text) != 100 {
			t.Errorf("afterwards a reader gets %q", text)
		}
	})
}
