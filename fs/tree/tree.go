package tree

import (
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
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
	handles   handles
	pages     pages
	machine   container.Lengths // of the machine's own contents
	Fallbacks Fallbacks
}

// New makes the tree over the machine and its containers.
func New(hostFS *host.FS, registry *container.Registry) *Tree {
	return &Tree{RawFileSystem: fuse.NewDefaultRawFileSystem(), host: hostFS, registry: registry}
}

// SetInvalidator names the function that makes the kernel forget the attributes of a node.
func (t *Tree) SetInvalidator(f func(node uint64)) { t.pages.invalidate = f }

// String names the file system to go-fuse.
func (t *Tree) String() string { return "scopefs" }

// Lookup finds a name. In the shared tree a file's node is that of the caller's container, and is not remembered, so
// that a bind mount made inside a container pins an inode that no other container shares.
func (t *Tree) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := node(h.NodeId)
	if parent == node(fuse.FUSE_ROOT_ID) && name == slotsName {
		return t.found(sharedNode(0, slotsDir), nameTimeout, h, out)
	}
	if parent == sharedNode(0, slotsDir) {
		c := t.registry.ByID(name)
		if c == nil {
			return fuse.ENOENT
		}
		defer c.Release()
		return t.found(ownNode(c.Slot, viewRoot), 0, h, out)
	}
	e := parent.entry().lookup(name)
	switch {
	case e == 0:
		return fuse.ENOENT
	case parent.own():
		return t.found(ownNode(parent.slot(), e), nameTimeout, h, out)
	case e.isDir():
		return t.found(sharedNode(0, e), nameTimeout, h, out)
	}
	c, err := t.registry.Resolve(int(h.Pid))
	if err != nil || c == nil {
		return t.found(sharedNode(0, e), 0, h, out)
	}
	defer c.Release()
	return t.found(sharedNode(c.Slot, e), 0, h, out)
}

const slotsName = "c"

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
	out.Ino = uint64(n)
	now := time.Now()
	out.SetTimes(&now, &now, &now)
	if n.entry().isDir() {
		out.Mode, out.Nlink, out.Blksize = syscall.S_IFDIR|0o555, 2, 4096
		if n.entry() == slotsDir {
			out.Mode = syscall.S_IFDIR | 0o700
		}
		return dirTimeout, fuse.OK
	}
	f := n.entry().file()
	if f == nil {
		return 0, fuse.ENOENT
	}
	out.Mode, out.Nlink = syscall.S_IFREG|f.Mode, 1
	timeout := fileTimeout
	if size, exact := t.pages.size(n, int(h.Pid), func() ([]byte, error) { return t.renderFor(n, f, int(h.Pid)) }); exact {
		out.Size, timeout = size, 0
	} else {
		out.Size = t.sizeHint(n, f, int(h.Pid))
	}
	out.Blocks = (out.Size + 511) / 512
	// tail and others take a file of one block as a whole instead of seeking to its supposed end.
	out.Blksize = 4096
	for uint64(out.Blksize) < out.Size {
		out.Blksize *= 2
	}
	return timeout, fuse.OK
}

// sizeHint is a size that the content does not exceed, but by less than a page: sendfile(2) and splice(2) read no
// further than a file's size, which the kernel shrinks by itself to what a read gave (but not when it is told another one
// at that moment: then it pads with zeros), and a page of a private mapping that lies beyond the content cannot be read.
func (t *Tree) sizeHint(n node, f *File, caller int) uint64 {
	const page, growth = 4096, 64
	c := t.identify(n, caller, f)
	defer c.Release()
	length := &t.lengths(c)[f.index]
	if length.Load() == 0 {
		_, _ = t.render(nil, f, c, caller) // a machine that can't be read shows when the file is
	}
	if f.sameLength {
		return uint64(length.Load())
	}
	return (uint64(length.Load()) + growth + page - 1) / page * page
}

// lengths are the lengths of a container's files, or of the machine's.
func (t *Tree) lengths(c *container.Container) *container.Lengths {
	if c == nil {
		return &t.machine
	}
	return &c.Lengths
}

// renderFor renders what the inode of a node shows.
func (t *Tree) renderFor(n node, f *File, caller int) ([]byte, error) {
	h := handle{node: n, file: f, container: t.identify(n, caller, f)}
	defer h.container.Release()
	if !h.ownInode() {
		return nil, errForeign
	}
	return t.render(nil, f, h.container, caller)
}

var errForeign = errors.New("the inode is another container's")

// identify is whose numbers an open of the node shows; nil: the machine's.
func (t *Tree) identify(n node, pid int, f *File) *container.Container {
	if n.own() {
		c := t.registry.BySlot(n.slot())
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

// render renders the container's numbers, or the machine's where the container's can't be read.
func (t *Tree) render(dst []byte, f *File, c *container.Container, reader int) ([]byte, error) {
	out, err := f.Render(dst, t.host, c, reader)
	var unreadable *containerError
	if errors.As(err, &unreadable) {
		reason := "unreadable"
		if errors.Is(err, cgroup.ErrGone) {
			reason = "gone"
		}
		t.Fallbacks.count(f, reason, err)
		out, err = f.Render(dst, t.host, nil, reader)
	}
	if err == nil {
		t.lengths(c)[f.index].Store(uint32(len(out) - len(dst)))
	}
	return out, err
}

// Open fixes whose numbers the new file descriptor shows.
func (t *Tree) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := node(in.NodeId)
	f := n.entry().file()
	if f == nil {
		return fuse.ENOENT
	}
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EACCES
	}
	h := &handle{node: n, file: f, container: t.identify(n, int(in.Pid), f)}
	t.pages.open(h, int(in.Pid))
	out.Fh = t.handles.add(h)
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// Read takes a new snapshot at offset 0 and goes on with it behind that. A first read at another offset takes one too.
func (t *Tree) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := t.handles.get(in.Fh)
	if h == nil || h.node != node(in.NodeId) {
		return nil, fuse.EBADF
	}
	render := func(dst []byte) ([]byte, error) { return t.render(dst, h.file, h.container, int(in.Pid)) }
	var n int
	var err error
	// The kernel names the owner of a read(2), and nobody for a read that fills its page cache.
	if in.ReadFlags&fuse.READ_LOCKOWNER == 0 && h.ownInode() {
		n, err = t.pages.read(h, buf, in.Offset, render)
	} else {
		t.pages.done(h)
		n, err = h.read(buf, in.Offset, render)
	}
	if err != nil {
		slog.Error("reading the machine's own file", "file", h.file.Path, "err", err)
		return nil, fuse.EIO
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Release ends a file descriptor.
func (t *Tree) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if h := t.handles.remove(in.Fh); h != nil {
		t.pages.release(h)
		h.container.Release()
	}
}

// Flush does nothing on close(2). Answered with ENOSYS once, it is not sent again by kernels that know no
// FOPEN_NOFLUSH (before 5.18).
func (t *Tree) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Forget does nothing: a node id says by itself what it is.
func (t *Tree) Forget(uint64, uint64) {}

// OpenDir opens any directory.
func (t *Tree) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	if !node(in.NodeId).entry().isDir() {
		return fuse.ENOTDIR
	}
	return fuse.OK
}

// ReadDir lists a directory.
func (t *Tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n := node(in.NodeId)
	list := []fuse.DirEntry{{Name: ".", Ino: uint64(n), Mode: syscall.S_IFDIR}, {Name: "..", Ino: uint64(n), Mode: syscall.S_IFDIR}}
	if n == sharedNode(0, slotsDir) {
		for _, c := range t.registry.Announced() {
			list = append(list, fuse.DirEntry{Name: c.ID, Mode: syscall.S_IFDIR, Ino: uint64(n)})
		}
	} else {
		if n == node(fuse.FUSE_ROOT_ID) {
			list = append(list, fuse.DirEntry{Name: slotsName, Mode: syscall.S_IFDIR, Ino: uint64(sharedNode(0, slotsDir))})
		}
		for _, c := range children[n.entry()] {
			d := fuse.DirEntry{Name: c.name, Mode: syscall.S_IFREG, Ino: uint64(n) - uint64(n.entry()) + uint64(c.entry)}
			if c.entry.isDir() {
				d.Mode = syscall.S_IFDIR
			}
			list = append(list, d)
		}
	}
	for i := min(in.Offset, uint64(len(list))); i < uint64(len(list)); i++ {
		list[i].Off = i + 1
		if !out.AddDirEntry(list[i]) {
			break
		}
	}
	return fuse.OK
}

// StatFs answers df(1).
func (t *Tree) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	return fuse.OK
}
