package tree

import (
	"path"
	"slices"
	"strings"

	"github.com/scopefs/scopefs/fs/container"
)

// The file system:
//
//	c/ID/{proc,sys}       a container's own subtree, whoever reads it
//	by/SLOT/{proc,sys}    the shared tree: the files of whoever opens them
//	proc, sys             symbolic links to by/SLOT/…, with the slot of whoever follows them
//
// The links keep the containers' inodes, and so their page caches, apart (see pages): who binds proc/meminfo from inside
// of a container pins an inode that no other container has. A name that means another node to every caller would do so
// too, but the kernel drops it at every other caller's look-up, and a bind mount that is being made of it then fails.
//
// A node id says by itself what it is, so that it means the same to the daemon that takes a connection over:
//
//	bit 62       the node is in a container's own subtree
//	bit 61       the node is in the shared tree
//	bits 29-60   the slot
//	bits 16-28   1 + the number of a CPU, cpufreq policy or NUMA node on the path, as the reader knows it; 0: there is none
//	bits 0-15    the entry: a directory, a file or a link
//
// The root, c, by and the links have neither bit; the root is FUSE's, 1. Entries from firstSys on are names of the
// machine's /sys that somebody looked at; what they mean is in a table that grows (see sysEntries).
type node uint64

const (
	ownBit     = 1 << 62
	sharedBit  = 1 << 61
	entryBits  = 16
	numberBits = 13
	slotShift  = entryBits + numberBits

	// maxNumber bounds the numbers of CPUs, policies and nodes; NR_CPUS is at most 8192 (x86).
	maxNumber = 1<<numberBits - 2
)

func ownNode(slot uint64, e entryID) node    { return node(ownBit | slot<<slotShift | uint64(e)) }
func sharedNode(slot uint64, e entryID) node { return node(sharedBit | slot<<slotShift | uint64(e)) }
func topNode(e entryID) node                 { return node(e) }

func (n node) own() bool      { return n&ownBit != 0 }
func (n node) top() bool      { return n&(ownBit|sharedBit) == 0 }
func (n node) slot() uint64   { return uint64(n) >> slotShift & container.MaxSlot }
func (n node) entry() entryID { return entryID(n & (1<<entryBits - 1)) }

// number is that of a CPU, policy or node on the path, -1 if there is none.
func (n node) number() int { return int(n>>entryBits&(1<<numberBits-1)) - 1 }

// sibling is another entry of the same tree, with the number -1 where it has none.
func (n node) sibling(e entryID, number int) node {
	return n&(ownBit|sharedBit) | node(n.slot())<<slotShift | node(number+1)<<entryBits | node(e)
}

// entryID is a position in the table of directories and files. It is part of node ids: only ever append.
type entryID uint16

const (
	root entryID = 1 // of the file system, and of a view

	// These are at the top only.
	ownDir    entryID = 2 // "c"
	sharedDir entryID = 3 // "by"
	procLink  entryID = 4 // "proc"
	sysLink   entryID = 5 // "sys"

	firstDir  entryID = 16
	firstFile entryID = 256
	firstSys  entryID = 4096 // of sysEntries
)

// topNames are the names at the top.
var topNames = []child{{"by", sharedDir}, {"c", ownDir}, {"proc", procLink}, {"sys", sysLink}}

// dirs are the directories below a view's root. Only ever append.
var dirs = []string{"proc", "sys", "sys/devices", "sys/devices/system", "sys/devices/system/cpu", "proc/pressure", "sys/devices/system/node"}

// file is the virtual file of an entry, nil for a directory or nothing.
func (e entryID) file() *File {
	if i := int(e) - int(firstFile); i >= 0 && i < len(files) {
		return &files[i]
	}
	return nil
}

func (e entryID) isDir() bool {
	return e == root || e == ownDir || e == sharedDir || e >= firstDir && int(e-firstDir) < len(dirs)
}

func (e entryID) isLink() bool { return e == procLink || e == sysLink }

// child is a name in a directory.
type child struct {
	name  string
	entry entryID
}

// children lists the names in each directory of a view, in order.
var children = func() map[entryID][]child {
	parent := map[string]entryID{".": root}
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

// paths are the entries below a view's root by their paths.
var paths = func() map[entryID]string {
	all := map[entryID]string{}
	for i, d := range dirs {
		all[firstDir+entryID(i)] = d
	}
	for i := range files {
		all[firstFile+entryID(i)] = files[i].Path
	}
	return all
}()

// names lists what is in a directory by itself; the containers in c and by come and go.
func (n node) names() []child {
	switch {
	case !n.top():
		return children[n.entry()]
	case n.entry() == root:
		return topNames
	}
	return nil
}

// lookup is the entry of a name in a directory, 0 if there is none.
func (n node) lookup(name string) entryID {
	for _, c := range n.names() {
		if c.name == name {
			return c.entry
		}
	}
	return 0
}
