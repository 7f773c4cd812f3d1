package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/scopefs/scopefs/fs"
	"github.com/scopefs/scopefs/fs/server"
)

// floorFS is one file of constant content: the least that a file system can do that is served by scopefs' loop.
type floorFS struct {
	fuse.RawFileSystem
	content []byte
}

const (
	floorName = "file"
	floorNode = 2
	floorSize = 1500
)

const hour = 3600 // seconds for which the kernel keeps names and attributes

// playFloor serves it on the mount point in os.Args[1] until SIGTERM.
func playFloor() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	fs.TuneRuntime()
	m, err := server.MountAt(os.Args[1])
	if err != nil {
		return err
	}
	loop := server.NewLoop(m.FD, &floorFS{fuse.NewDefaultRawFileSystem(), []byte(strings.Repeat("constant text 0\n", floorSize/16+1)[:floorSize])})
	if err := loop.Init(); err != nil {
		return errors.Join(err, m.Close())
	}
	go loop.Serve()
	<-ended
	return m.Close()
}

func (f *floorFS) attr(node uint64, a *fuse.Attr) fuse.Status {
	a.Ino = node
	switch node {
	case fuse.FUSE_ROOT_ID:
		a.Mode, a.Nlink = syscall.S_IFDIR|0o555, 2
	case floorNode:
		a.Mode, a.Nlink, a.Size = syscall.S_IFREG|0o444, 1, uint64(len(f.content))
	default:
		return fuse.ENOENT
	}
	return fuse.OK
}

// Lookup implements [fuse.RawFileSystem].
func (f *floorFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.NodeId != fuse.FUSE_ROOT_ID || name != floorName {
		return fuse.ENOENT
	}
	out.NodeId, out.EntryValid, out.AttrValid = floorNode, hour, hour
	return f.attr(floorNode, &out.Attr)
}

// GetAttr implements [fuse.RawFileSystem].
func (f *floorFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.AttrValid = hour
	return f.attr(in.NodeId, &out.Attr)
}

// Open implements [fuse.RawFileSystem].
func (f *floorFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.Fh, out.OpenFlags = 1, fuse.FOPEN_DIRECT_IO|fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// ReadInto implements [server.Reader].
func (f *floorFS) ReadInto(in *fuse.ReadIn, buf []byte) (int, fuse.Status) {
	return copy(buf, f.content[min(in.Offset, uint64(len(f.content))):]), fuse.OK
}

// Release implements [fuse.RawFileSystem].
func (f *floorFS) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Flush implements [fuse.RawFileSystem].
func (f *floorFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }
