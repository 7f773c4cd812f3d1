package tree

import (
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// How long the kernel may keep what it was told. A name in a container's own subtree never means anything else. The
// attributes of a file are asked for again every second, as its time is now and its size may grow.
const (
	nameTimeout = time.Hour
	dirTimeout  = time.Hour
	fileTimeout = time.Second
)

// Tree answers the requests of a FUSE connection.
type Tree struct {
	fuse.RawFileSystem // refuses what is not implemented here

	host      *host.FS
	registry  *container.Registry
	handles   table[handle]
	texts     texts
	dirs      table[dirHandle]
	sys       sysEntries
	pages     pages
	turns     turns
	triggers  triggers
	modes     map[entryID]uint32 // of the files that have none in the table
	absent    map[entryID]bool   // the files and directories that the machine's kernel does not have
	narrow    bool               // the numbers of meminfo fit into their columns
	machine   container.Lengths  // of the machine's own contents
	Fallbacks Fallbacks
}

// New makes the tree over the machine and its containers.
func New(hostFS *host.FS, registry *container.Registry) *Tree {
	t := &Tree{RawFileSystem: fuse.NewDefaultRawFileSystem(), host: hostFS, registry: registry, absent: map[entryID]bool{}, modes: map[entryID]uint32{}}
	for e, path := range paths {
		t.absent[e] = !hostFS.Exists(path)
		if f := e.file(); f != nil && f.Mode == 0 {
			t.modes[e] = hostFS.Mode(path)
		}
	}
	t.triggers.newWatch = newEpoll
	registry.OnForget(t.triggers.forget)
	var h host.Snapshot
	if err := hostFS.Snapshot(host.NeedMeminfo, &h); err == nil {
		t.narrow = len(memTotal.Find(h.Meminfo)) <= len("MemTotal:")+memColumn
	}
	return t
}

// memTotal finds the first number of /proc/meminfo with its key. The kernel pads keys to 16 columns and numbers to 8 more,
// which those of a machine with more than 95 GiB outgrow now and then.
var memTotal = regexp.MustCompile(`MemTotal: *[0-9]+`)

const memColumn = 15

// SetInvalidator names the function that makes the kernel forget the attributes of a node.
func (t *Tree) SetInvalidator(f func(node uint64)) { t.pages.invalidate = f }

// Close ends the triggers.
func (t *Tree) Close() { t.triggers.close() }

// Share is the slot of the container whose files a node is of, which is 0 for what is at the top: one container's readers
// keep another's waiting for one request at most. It implements server.Sharer.
func (t *Tree) Share(n uint64) uint64 { return node(n).slot() }

// String names the file system to go-fuse.
func (t *Tree) String() string { return "scopefs" }

// Lookup finds a name.
func (t *Tree) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := node(h.NodeId)
	switch parent {
	case topNode(ownDir):
		c := t.registry.ByID(name)
		if c == nil {
			return fuse.ENOENT
		}
		defer c.Release()
		return t.found(ownNode(c.Slot, root), 0, h, out)
	case topNode(sharedDir):
		slot, err := strconv.ParseUint(name, 10, 64)
		if err != nil || slot > t.registry.LastSlot() || strconv.FormatUint(slot, 10) != name {
			return fuse.ENOENT
		}
		return t.found(sharedNode(slot, root), nameTimeout, h, out)
	}
	if e := parent.lookup(name); e != 0 {
		if t.absent[e] {
			return fuse.ENOENT
		}
		return t.found(parent.sibling(e, -1), nameTimeout, h, out)
	}
	if dir := t.sysFile(parent); dir != nil {
		return t.lookupSys(parent, dir, name, h, out)
	}
	return fuse.ENOENT
}

// Readlink leads the caller to the files of the shared tree that are his container's.
func (t *Tree) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n := node(h.NodeId)
	if f := t.sysFile(n); f != nil {
		return t.readlinkSys(n, f, int(h.Pid))
	}
	if !n.top() || !n.entry().isLink() {
		return nil, fuse.EINVAL
	}
	slot := uint64(0)
	if c, err := t.registry.Resolve(int(h.Pid)); err == nil && c != nil {
		slot = c.Slot
		c.Release()
	}
	target := strconv.AppendUint([]byte("by/"), slot, 10)
	if n.entry() == procLink {
		return append(target, "/proc"...), fuse.OK
	}
	return append(target, "/sys"...), fuse.OK
}

func (t *Tree) found(n node, timeout time.Duration, h *fuse.InHeader, out *fuse.EntryOut) fuse.Status {
	out.NodeId = uint64(n)
	out.SetEntryTimeout(timeout)
	attrTimeout, status := t.attr(n, h, &out.Attr)
	out.SetAttrTimeout(attrTimeout)
	return status
}

// GetAttr says what stat(2) shows.
func (t *Tree) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	timeout, status := t.attr(node(in.NodeId), &in.InHeader, &out.Attr)
	out.SetTimeout(timeout)
	return status
}

// attr fills in the attributes of a node and says how long they are good.
func (t *Tree) attr(n node, h *fuse.InHeader, out *fuse.Attr) (time.Duration, fuse.Status) {
	if f := t.sysFile(n); f != nil {
		return t.attrSys(n, f, int(h.Pid), out)
	}
	out.Ino = uint64(n)
	now := time.Now()
	out.SetTimes(&now, &now, &now)
	if n.entry().isDir() {
		out.Mode, out.Nlink, out.Blksize = syscall.S_IFDIR|0o555, 2, 4096
		if n == topNode(ownDir) {
			out.Mode = syscall.S_IFDIR | 0o700
		}
		return dirTimeout, fuse.OK
	}
	if n.entry().isLink() {
		out.Mode, out.Nlink, out.Blksize = syscall.S_IFLNK|0o777, 1, 4096
		return dirTimeout, fuse.OK
	}
	f := n.entry().file()
	if f == nil {
		return 0, fuse.ENOENT
	}
	out.Mode, out.Nlink = syscall.S_IFREG|f.Mode|t.modes[n.entry()], 1
	c := t.identify(n, int(h.Pid), f)
	defer c.Release()
	return t.size(n, f, c, int(h.Pid), func() uint64 { return t.sizeHint(f, c) }, out), fuse.OK
}

// size fills in the size of a regular file, hint where it is not known exactly, and says how long it is good.
func (t *Tree) size(n node, f *File, c *container.Container, pid int, hint func() uint64, out *fuse.Attr) time.Duration {
	timeout, size, exact := fileTimeout, uint64(0), false
	if pinned(n, c) {
		size, exact = t.pages.size(n, pid, func() ([]byte, error) { return t.content(nil, n, f, c, pid) })
	}
	if !exact {
		size = hint()
	}
	if exact || !pinned(n, c) || c != nil && c.Policy().Reader == policy.Caller {
		timeout = 0 // of the next reader it may be another one
	}
	out.Size = size
	out.Blocks = (out.Size + 511) / 512
	// tail and others take a file of one block as a whole instead of seeking to its supposed end.
	out.Blksize = 4096
	for uint64(out.Blksize) < out.Size {
		out.Blksize *= 2
	}
	return timeout
}

// sizeHint is a size that the content does not exceed, but by less than a page: sendfile(2) and splice(2) read no
// further than a file's size, which the kernel shrinks by itself to what a read gave (but not when it is told another one
// at that moment: then it pads with zeros), and a page of a private mapping that lies beyond the content cannot be read.
func (t *Tree) sizeHint(f *File, c *container.Container) uint64 {
	const page, growth = 4096, 64
	length := t.lengths(c)[f.index].Load()
	if length == 0 {
		// Not the container's own: a runtime binds the files before it has set the limits, and from its first look at
		// stat on the CPUs that the container sees count.
		if t.machine[f.index].Load() == 0 {
			_, _ = t.render(nil, f, nil, 0) // a machine that can't be read shows when the file is
		}
		length = t.machine[f.index].Load()
	}
	if f.sameLength && t.narrow {
		return uint64(length)
	}
	return (uint64(length) + growth + page - 1) / page * page
}

// pinned says that the inode of a node is this container's: in its own tree, unless others are shown there in its place,
// and in the shared one where its files were bound from inside of it.
func pinned(n node, c *container.Container) bool {
	if c == nil {
		return n.slot() == 0
	}
	return n.slot() == c.Slot
}

// lengths are the lengths of a container's files, or of the machine's.
func (t *Tree) lengths(c *container.Container) *container.Lengths {
	if c == nil {
		return &t.machine
	}
	return &c.Lengths
}

// identify is whose numbers an open of the node shows; nil: the machine's.
func (t *Tree) identify(n node, pid int, f *File) *container.Container {
	if n.own() {
		c := t.registry.ResolveIn(n.slot(), pid)
		if c == nil {
			t.Fallbacks.count(f, "forgotten", errors.New("the container is not announced any more"))
		}
		return c
	}
	c, err := t.registry.Resolve(pid)
	if err != nil {
		t.Fallbacks.count(f, "caller", err)
	}
	return c
}

// shown is whose numbers a file shows, c's or with nil the machine's.
func (t *Tree) shown(f *File, c *container.Container) *container.Container {
	if c == nil || !f.Shown(c.Policy()) {
		return nil
	}
	return c
}

// render renders the container's numbers, or the machine's where the container's can't be read or are not wanted.
func (t *Tree) render(dst []byte, f *File, c *container.Container, reader int) ([]byte, error) {
	out, err := f.Render(dst, t.host, c, reader)
	if t.fallsBack(f, err) {
		out, err = f.Render(dst, t.host, nil, reader)
	}
	if err == nil {
		t.lengths(c)[f.index].Store(uint32(len(out) - len(dst)))
	}
	return out, err
}

// content is what a file says: one of the table, or one that is read through from the machine's /sys.
func (t *Tree) content(dst []byte, n node, f *File, c *container.Container, reader int) ([]byte, error) {
	if n.entry() >= firstSys {
		return t.renderSys(dst, n, f, c, reader)
	}
	return t.render(dst, f, c, reader)
}

// fallsBack says whether an error is a container's that cannot be read, and counts it.
func (t *Tree) fallsBack(f *File, err error) bool {
	if err == nil {
		return false
	}
	var unreadable *containerError
	if !errors.As(err, &unreadable) {
		return false
	}
	t.Fallbacks.count(f, reason(err), err)
	return true
}

// Files lists what is bound into a container that is shown as the policy says: files, and the directories below /sys
// that are shown as a whole.
func (t *Tree) Files(p *policy.Policy) []string {
	exists := func(path string) bool {
		for e, p := range paths {
			if p == path {
				return !t.absent[e]
			}
		}
		return false
	}
	return Binds(exists, p.Shows)
}

// Open fixes whose numbers the new file descriptor shows.
func (t *Tree) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := node(in.NodeId)
	f := n.entry().file()
	if n.entry() >= firstSys {
		f = t.sysFile(n)
	}
	if f == nil {
		return fuse.ENOENT
	}
	writable, privileged := in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY, false
	if writable {
		inEffect, overMachine := t.host.Privileged(int(in.Pid))
		privileged = inEffect
		if err := t.mayWrite(f, overMachine); err != nil {
			return status(err)
		}
	}
	c := t.identify(n, int(in.Pid), f)
	if n.entry() >= firstSys {
		if status := t.openSys(n, f, c, int(in.Pid)); !status.Ok() {
			c.Release()
			return status
		}
	}
	if !c.OpenFile() {
		c.Release()
		return fuse.Status(syscall.ENFILE)
	}
	h := handles.Get().(*handle)
	h.node, h.file, h.container, h.writable, h.privileged = n, f, c, writable, privileged
	if pinned(n, c) {
		t.pages.open(h, int(in.Pid))
	}
	t.turns.wait(h)
	if out.Fh = h.opened(&t.handles); out.Fh == 0 {
		t.close(h)
		return fuse.Status(syscall.ENFILE)
	}
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// ReadInto takes a new snapshot at offset 0 and goes on with it behind that. A first read at another offset takes one too.
func (t *Tree) ReadInto(in *fuse.ReadIn, buf []byte) (int, fuse.Status) {
	h := t.handles.get(in.Fh)
	if h == nil {
		return 0, fuse.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fh != in.Fh || h.node != node(in.NodeId) {
		return 0, fuse.EBADF
	}
	render := func(dst []byte) ([]byte, error) { return t.content(dst, h.node, h.file, h.container, int(in.Pid)) }
	var n int
	var err error
	// The kernel names the owner of a read(2), and nobody for a read that fills its page cache.
	if in.ReadFlags&fuse.READ_LOCKOWNER != 0 {
		t.pages.done(h)
		t.turns.done(h)
		n, err = h.read(buf, in.Offset, &t.texts, render)
	} else if t.turns.read(h); pinned(h.node, h.container) {
		n, err = t.pages.read(h, buf, in.Offset, render)
	} else {
		n, err = h.read(buf, in.Offset, &t.texts, render)
	}
	if err != nil {
		return 0, h.unreadable(err)
	}
	return n, fuse.OK
}

// unreadable is the answer to a read that failed.
func (h *handle) unreadable(err error) fuse.Status {
	var errno syscall.Errno
	if h.node.entry() >= firstSys && errors.As(err, &errno) {
		return fuse.Status(errno) // that of the kernel's file
	}
	slog.Error("reading the machine's own file", "file", h.file.Path, "err", err)
	return fuse.EIO
}

// Release ends a file descriptor.
func (t *Tree) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if h := t.handles.remove(in.Fh); h != nil {
		t.close(h)
	}
}

// close ends a handle.
func (t *Tree) close(h *handle) {
	h.closed(&t.texts)
	t.pages.release(h)
	t.turns.done(h)
	t.triggers.remove(h.trigger.Load())
	h.container.CloseFile()
	h.container.Release()
	h.reuse()
}

// Flush does nothing on close(2). Answered with ENOSYS once, it is not sent again by kernels that know no
// FOPEN_NOFLUSH (before 5.18).
func (t *Tree) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Forget does nothing: a node id says by itself what it is.
func (t *Tree) Forget(uint64, uint64) {}

// OpenDir opens any directory.
func (t *Tree) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := node(in.NodeId)
	if f := t.sysFile(n); f != nil {
		return t.openDirSys(n, f, int(in.Pid), out)
	}
	if !n.entry().isDir() {
		return fuse.ENOTDIR
	}
	if n == topNode(ownDir) {
		out.Fh = t.dirs.add(&dirHandle{node: n})
	}
	return fuse.OK
}

// ReleaseDir ends a directory's file descriptor.
func (t *Tree) ReleaseDir(in *fuse.ReleaseIn) {
	if d := t.dirs.remove(in.Fh); d != nil {
		d.container.CloseFile()
		d.container.Release()
	}
}

// ReadDir lists a directory.
func (t *Tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n := node(in.NodeId)
	if t.sysFile(n) == nil && n != topNode(ownDir) {
		addEntries(out, in.Offset, t.list(n)) // always the same
		return fuse.OK
	}
	d := t.dirs.get(in.Fh)
	if d == nil || d.node != n {
		return fuse.EBADF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.Offset == 0 || d.list == nil {
		list, status := t.listNow(d, int(in.Pid))
		if !status.Ok() {
			return status
		}
		d.list = list
	}
	addEntries(out, in.Offset, d.list)
	return fuse.OK
}

// listNow lists a directory in which names come and go.
func (t *Tree) listNow(d *dirHandle, pid int) ([]fuse.DirEntry, fuse.Status) {
	if d.file == nil {
		return t.list(d.node), fuse.OK
	}
	return t.listSys(d, pid)
}

// list lists a directory of the tables.
func (t *Tree) list(n node) []fuse.DirEntry {
	list := []fuse.DirEntry{{Name: ".", Ino: uint64(n), Mode: syscall.S_IFDIR}, {Name: "..", Ino: uint64(n), Mode: syscall.S_IFDIR}}
	switch n {
	case topNode(ownDir):
		for _, c := range t.registry.Announced() {
			list = append(list, fuse.DirEntry{Name: c.ID, Mode: syscall.S_IFDIR, Ino: uint64(n)})
		}
	case topNode(sharedDir):
		list = append(list, fuse.DirEntry{Name: "0", Mode: syscall.S_IFDIR, Ino: uint64(sharedNode(0, root))})
	}
	for _, c := range n.names() {
		if t.absent[c.entry] {
			continue
		}
		d := fuse.DirEntry{Name: c.name, Mode: syscall.S_IFREG, Ino: uint64(n.sibling(c.entry, -1))}
		if c.entry.isDir() {
			d.Mode = syscall.S_IFDIR
		} else if c.entry.isLink() {
			d.Mode = syscall.S_IFLNK
		}
		list = append(list, d)
	}
	return list
}

// addEntries answers with the part of a listing that starts at offset, as far as it fits.
func addEntries(out *fuse.DirEntryList, offset uint64, list []fuse.DirEntry) {
	for i := min(offset, uint64(len(list))); i < uint64(len(list)); i++ {
		list[i].Off = i + 1
		if !out.AddDirEntry(list[i]) {
			break
		}
	}
}

// StatFs answers df(1).
func (t *Tree) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	return fuse.OK
}
