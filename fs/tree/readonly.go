package tree

import "github.com/hanwen/go-fuse/v2/fuse"

// What would change the tree is refused as procfs refuses it. The default, ENOSYS, would read as a fault of the file
// system, and the kernel would remember it for as long as the connection lives.

// Mknod refuses to make a file.
func (t *Tree) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

// Mkdir refuses to make a directory.
func (t *Tree) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

// Unlink refuses to remove a file.
func (t *Tree) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EPERM }

// Rmdir refuses to remove a directory.
func (t *Tree) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EPERM }

// Rename refuses to move a file.
func (t *Tree) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return fuse.EPERM
}

// Link refuses to link a file.
func (t *Tree) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

// Symlink refuses to make a symbolic link.
func (t *Tree) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

// Create refuses to make and open a file.
func (t *Tree) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.EPERM
}
