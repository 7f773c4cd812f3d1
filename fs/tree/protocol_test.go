package tree

import (
	"bytes"
	"encoding/binary"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/internal/fixture"
	"github.com/scopefs/scopefs/fs/server"
)

// The protocol's opcodes (include/uapi/linux/fuse.h).
const (
	opLookup     = 1
	opForget     = 2
	opGetattr    = 3
	opSetattr    = 4
	opReadlink   = 5
	opMkdir      = 9
	opUnlink     = 10
	opOpen       = 14
	opRead       = 15
	opWrite      = 16
	opStatfs     = 17
	opRelease    = 18
	opGetxattr   = 22
	opFlush      = 25
	opInit       = 26
	opOpendir    = 27
	opReaddir    = 28
	opReleasedir = 29
	opCreate     = 35
)

// client speaks the FUSE protocol to a Tree as the kernel does, without a kernel: tests of the whole file system run in
// milliseconds and need no root.
type client struct {
	t      testing.TB
	m      *fixture.Machine
	tree   *Tree
	reg    *container.Registry
	loop   *server.Loop
	unique uint64
	// invalidated are the nodes whose attributes the kernel was told to forget.
	invalidated []uint64
	eachReaddir func() // after each part of a listing; nil for nothing
}

// mount makes a client of a machine with two containers, limited to 100 and 200 MiB, of which the second is announced.
func mount(t testing.TB) *client {
	t.Helper()
	return mountOn(t, fixture.New(t), container.Options{})
}

// mountOn is the same on another machine.
func mountOn(t testing.TB, m *fixture.Machine, opts container.Options) *client {
	t.Helper()
	m.Cgroup("/c1", map[string]string{"memory.max": "104857600\n", "cpu.max": "150000 100000\n"})
	m.Cgroup("/c2", map[string]string{"memory.max": "209715200\n", "cpu.max": "50000 100000\n"})
	m.Start(fixture.Process{PID: 1, Cgroup: "/"})
	m.Start(fixture.Process{PID: 10, Cgroup: "/c1", NS: "c1", Inner: 1})
	m.Start(fixture.Process{PID: 20, Cgroup: "/c2", NS: "c2", Inner: 1})
	h, err := host.Open(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	opts.Root = m.Root
	reg, err := container.Open(h, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close(); h.Close() })
	c := &client{t: t, m: m, tree: New(h, reg), reg: reg}
	c.tree.SetInvalidator(func(n uint64) { c.invalidated = append(c.invalidated, n) })
	c.loop = server.NewLoop(-1, c.tree)
	in := fuse.InitIn{Major: 7, Minor: 38, MaxReadAhead: 131072, Flags: ^uint32(0)}
	if _, errno := c.call(opInit, 0, 0, bytesOf(&in)[inHeaderSize:], 64+outHeaderSize); errno != 0 {
		t.Fatalf("INIT: errno %d", errno)
	}
	if _, err := reg.Announce("web", 20, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))
)

func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// call sends one request of task pid and returns the reply's body and error.
func (c *client) call(opcode uint32, n node, pid uint32, body []byte, room int) ([]byte, int32) {
	c.t.Helper()
	c.unique += 2
	h := fuse.InHeader{Length: uint32(inHeaderSize + len(body)), Opcode: opcode, Unique: c.unique, NodeId: uint64(n)}
	h.Pid = pid
	request := append(bytes.Clone(bytesOf(&h)), body...)
	reply := make([]byte, outHeaderSize+room+4096)
	size := c.loop.Handle(request, reply)
	if size == 0 {
		return nil, 0
	}
	length, errno := binary.NativeEndian.Uint32(reply), int32(binary.NativeEndian.Uint32(reply[4:]))
	if int(length) != size || binary.NativeEndian.Uint64(reply[8:]) != c.unique {
		c.t.Fatalf("opcode %d: reply of %d bytes says %d, unique %x", opcode, size, length, reply[8:16])
	}
	return reply[outHeaderSize:size], -errno
}

func (c *client) lookup(parent node, pid uint32, name string) (*fuse.EntryOut, int32) {
	c.t.Helper()
	body, errno := c.call(opLookup, parent, pid, append([]byte(name), 0), 256)
	if errno != 0 {
		return nil, errno
	}
	out := new(fuse.EntryOut)
	copy(bytesOf(out), body)
	return out, 0
}

// walk looks a path up, as task pid.
func (c *client) walk(pid uint32, names ...string) node {
	c.t.Helper()
	n := node(fuse.FUSE_ROOT_ID)
	for _, name := range names {
		out, errno := c.lookup(n, pid, name)
		if errno != 0 {
			c.t.Fatalf("lookup of %s in %v: errno %d", name, names, errno)
		}
		if n = node(out.NodeId); out.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			n = c.walk(pid, strings.Split(c.readlink(n, pid), "/")...) // the links are at the top
		}
	}
	return n
}

// mustLookup is the node of a name at the top.
func (c *client) mustLookup(name string) node {
	c.t.Helper()
	out, errno := c.lookup(node(fuse.FUSE_ROOT_ID), machinePID, name)
	if errno != 0 {
		c.t.Fatalf("lookup of %s: errno %d", name, errno)
	}
	return node(out.NodeId)
}

func (c *client) readlink(n node, pid uint32) string {
	c.t.Helper()
	target, errno := c.call(opReadlink, n, pid, nil, 4096)
	if errno != 0 {
		c.t.Fatalf("readlink: errno %d", errno)
	}
	return string(target)
}

func (c *client) getattr(n node, pid uint32) (*fuse.AttrOut, int32) {
	c.t.Helper()
	var in fuse.GetAttrIn
	body, errno := c.call(opGetattr, n, pid, bytesOf(&in)[inHeaderSize:], 256)
	out := new(fuse.AttrOut)
	copy(bytesOf(out), body)
	return out, errno
}

func (c *client) open(n node, pid uint32, flags uint32) (fh uint64, openFlags uint32, errno int32) {
	c.t.Helper()
	in := fuse.OpenIn{Flags: flags}
	body, errno := c.call(opOpen, n, pid, bytesOf(&in)[inHeaderSize:], 64)
	if errno != 0 {
		return 0, 0, errno
	}
	var out fuse.OpenOut
	copy(bytesOf(&out), body)
	return out.Fh, out.OpenFlags, 0
}

// mustOpen opens for reading.
func (c *client) mustOpen(n node, pid uint32) uint64 {
	c.t.Helper()
	fh, _, errno := c.open(n, pid, 0)
	if errno != 0 {
		c.t.Fatalf("open: errno %d", errno)
	}
	return fh
}

// pread is a read(2) or pread(2); pageRead is a read that fills the page cache, as sendfile(2) makes the kernel do.
func (c *client) pread(n node, fh uint64, pid uint32, offset, size int) (string, int32) {
	return c.readAs(n, fh, pid, offset, size, fuse.READ_LOCKOWNER)
}

func (c *client) pageRead(n node, fh uint64, pid uint32, offset, size int) (string, int32) {
	return c.readAs(n, fh, pid, offset, size, 0)
}

func (c *client) readAs(n node, fh uint64, pid uint32, offset, size int, flags uint32) (string, int32) {
	c.t.Helper()
	in := fuse.ReadIn{Fh: fh, Offset: uint64(offset), Size: uint32(size), ReadFlags: flags}
	body, errno := c.call(opRead, n, pid, bytesOf(&in)[inHeaderSize:], size)
	return string(body), errno
}

func (c *client) release(n node, fh uint64) {
	c.t.Helper()
	in := fuse.ReleaseIn{Fh: fh}
	if _, errno := c.call(opRelease, n, 0, bytesOf(&in)[inHeaderSize:], 0); errno != 0 {
		c.t.Errorf("release: errno %d", errno)
	}
}

// cat is a whole open, read to the end, close.
func (c *client) cat(n node, pid uint32) string {
	c.t.Helper()
	fh := c.mustOpen(n, pid)
	defer c.release(n, fh)
	var all string
	for {
		text, errno := c.pread(n, fh, pid, len(all), 65536)
		if errno != 0 {
			c.t.Fatalf("read: errno %d", errno)
		}
		if text == "" {
			return all
		}
		all += text
	}
}

func (c *client) readdir(n node) []string { return c.readdirAs(n, machinePID) }

func (c *client) readdirAs(n node, pid uint32) []string {
	c.t.Helper()
	var open fuse.OpenOut
	body, errno := c.call(opOpendir, n, pid, make([]byte, 8), 64)
	if errno != 0 {
		c.t.Fatalf("opendir: errno %d", errno)
	}
	copy(bytesOf(&open), body)
	defer func() {
		in := fuse.ReleaseIn{Fh: open.Fh}
		c.call(opReleasedir, n, 0, bytesOf(&in)[inHeaderSize:], 0)
	}()
	var names []string
	for offset := uint64(0); ; {
		in := fuse.ReadIn{Fh: open.Fh, Offset: offset, Size: 128} // small, so that a listing takes several
		body, errno := c.call(opReaddir, n, pid, bytesOf(&in)[inHeaderSize:], 128)
		if errno != 0 {
			c.t.Fatalf("readdir: errno %d", errno)
		}
		if len(body) == 0 {
			return names
		}
		if c.eachReaddir != nil {
			c.eachReaddir()
		}
		for len(body) > 0 { // struct fuse_dirent: ino, off, namelen, type, name padded to 8
			length := int(binary.NativeEndian.Uint32(body[16:]))
			offset = binary.NativeEndian.Uint64(body[8:])
			names = append(names, string(body[24:24+length]))
			body = body[(24+length+7)/8*8:]
		}
	}
}
