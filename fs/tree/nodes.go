package tree

import (
	"path"
	"slices"
	"strings"
)

// A node id says by itself what it is, so that it means the same to the daemon that takes a connection over:
//
//	bit 62       the node is in a container's own subtree, not in the shared tree
//	bits 16-61   the container's slot; 0 in the shared tree
//	bits 0-15    the entry: a directory or a file
//
// The root of the shared tree is FUSE's root, 1.
type node uint64

const (
	ownBit    = 1 << 62
	entryBits = 16
	maxSlot   = 1<<(62-entryBits) - 1
)

func ownNode(slot uint64, e entryID) node { return node(ownBit | slot<<entryBits | uint64(e)) }
func sharedNode(e entryID) node           { return node(e) }

func (n node) own() bool      { return n&ownBit != 0 }
func (n node) slot() uint64   { return uint64(n) >> entryBits & maxSlot }
func (n node) entry() entryID { return entryID(n & (1<<entryBits - 1)) }

// sibling is another entry of the same tree.
func (n node) sibling(e entryID) node { return n - node(n.entry()) + node(e) }

// entryID is a position in the table of directories and files. It is part of node ids: only ever append.
type entryID uint16

const (
	viewRoot entryID = 1 // the root of a view, holding proc and sys
	slotsDir entryID = 2 // "c", the directory of the containers' own subtrees, in the shared tree only

	firstDir  entryID = 3
	firstFile entryID = 256
)

// dirs are the directories below a view's root. Only ever append.
var dirs = []string{"proc", "sys", "sys/devices", "sys/devices/system", "sys/devices/system/cpu"}

// file is the virtual file of an entry, nil for a directory or nothing.
func (e entryID) file() *File {
	if i := int(e) - int(firstFile); i >= 0 && i < len(files) {
		return &files[i]
	}
	return nil
}

func (e entryID) isDir() bool {
	return e == viewRoot || e == slotsDir || e >= firstDir && int(e-firstDir) < len(dirs)
}

// child is a name in a directory.
type child struct {
	name  string
	entry entryID
}

// children lists each directory's names in order; slotsDir's are the announced containers.
var children = func() map[entryID][]child {
	parent := map[string]entryID{".": viewRoot}
	list := map[entryID][]child{}
	add := func(p string, e entryID) {
		dir := parent[path.Dir(p)]
		list[dir] = append(list[dir], child{path.Base(p), e})
	}
	for i, d := range dirs {
		e := firstDir + entryID(i)
		parent[d] = e
		add(d, e)
	}
	for i := range files {
		add(files[i].Path, firstFile+entryID(i))
	}
	for _, l := range list {
		slices.SortFunc(l, func(a, b child) int { return strings.Compare(a.name, b.name) })
	}
	return list
}()

// lookup is the entry of a name in a directory, 0 if there is none.
func (e entryID) lookup(name string) entryID {
	for _, c := range children[e] {
		if c.name == name {
			return c.entry
		}
	}
	return 0
}
