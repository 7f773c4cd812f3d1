package tree

import (
	"bytes"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/view"
)

// /sys/devices/system/cpu and node are the machine's own, read through: every look-up, listing and read goes to the
// kernel's file of the same path, so that names, types, modes, links and errors are the kernel's. Two things are changed
// on the way. Numbers in paths and in the targets of links are the reader's: his cpu1 may be the machine's cpu5, and what
// he does not see is not there (numberings). And the content of some files is rewritten (sysRules). The files of the
// table win over the machine's.
//
// A reader of the machine, and a container whose policy leaves the directory to the kernel, see it unchanged.

const sysRoot = "sys/devices/system/"

// sysEntries are the names below sysRoot that somebody looked at, as far as the machine has them. A reader's path with
// the first number in it replaced by *, such as "cpu/cpu*/topology/core_id", is one entry; the number is in the node id.
//
// A daemon that takes a connection over has to take paths over with it, all and in this order: node ids, and so what
// the kernel has cached and readers hold open, are positions in it.
type sysEntries struct {
	mu    sync.RWMutex
	paths []string
	files []*File // of paths
	entry map[string]entryID
	full  sync.Once
}

// maxSysEntries bounds the table. What a machine has is far less: a path for each file of one CPU, one policy, one node.
const maxSysEntries = 32768

// of is the entry of a path, made when it is new; 0 when the table is full.
func (s *sysEntries) of(sysPath string) entryID {
	s.mu.RLock()
	e := s.entry[sysPath]
	s.mu.RUnlock()
	if e != 0 {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entry[sysPath]; e != 0 {
		return e
	}
	if len(s.paths) >= maxSysEntries {
		s.full.Do(func() { slog.Error("no room for more names below /sys/devices/system", "path", sysPath) })
		return 0
	}
	if s.entry == nil {
		s.entry = map[string]entryID{}
	}
	e = firstSys + entryID(len(s.paths))
	s.paths, s.files, s.entry[sysPath] = append(s.paths, sysPath), append(s.files, newSysFile(sysPath)), e
	return e
}

func (s *sysEntries) file(e entryID) *File {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if i := int(e) - int(firstSys); i >= 0 && i < len(s.files) {
		return s.files[i]
	}
	return nil
}

// newSysFile is what is known of a path in the table: how it is rewritten, and what that needs.
func newSysFile(sysPath string) *File {
	f := &File{
		Path: sysRoot + sysPath, name: policyName(sysRoot + sysPath), index: -1,
		host: host.NeedOnlineCPUs, container: container.NeedCPU,
	}
	if f.name == "node" {
		f.host, f.container = f.host|host.NeedNodes, f.container|container.NeedMems // to tell which nodes are seen
	}
	if r := ruleFor(sysPath); r != nil {
		f.host, f.container, f.rewrite = f.host|r.host, f.container|r.container, r.rewrite
		f.hidden = r.hidden
	}
	return f
}

// sysTrees are the directories of the table that are read through.
var sysTrees = func() map[entryID]*File {
	trees := map[entryID]*File{}
	for i, d := range dirs {
		if slices.Contains(host.SysTrees, strings.TrimPrefix(d, sysRoot)) {
			trees[firstDir+entryID(i)] = newSysFile(strings.TrimPrefix(d, sysRoot))
		}
	}
	return trees
}()

// sysFile is the file, directory or link of a node that is read through, nil for any other node.
func (t *Tree) sysFile(n node) *File {
	switch e := n.entry(); {
	case n.top():
		return nil
	case e >= firstSys:
		return t.sys.file(e)
	default:
		return sysTrees[e]
	}
}

// sysPath is a node's path below sysRoot, as the reader knows it.
func sysPath(n node, f *File) string { return string(appendSysPath(nil, n, f)) }

func appendSysPath(dst []byte, n node, f *File) []byte {
	before, after, numbered := strings.Cut(strings.TrimPrefix(f.Path, sysRoot), "*")
	dst = append(dst, before...)
	if numbered {
		dst = strconv.AppendInt(dst, int64(n.number()), 10)
	}
	return append(dst, after...)
}

// A numbering is a kind of names that end in a number: what the reader calls whatever the machine calls so. ok is false for
// what he does not see.
type numbering struct {
	prefix    string
	toMachine func(l *look, number int) (int, bool)
	toReader  func(l *look, number int) (int, bool)
}

// numberings are used wherever such a name stands: in paths, listings and the targets of links. They are asked only for
// a reader who is shown a container.
var numberings = []numbering{
	{"cpu", (*look).physicalCPU, (*look).cpuNumber},
	{"policy", (*look).machinePolicy, (*look).policyNumber},
	{"node", (*look).seenNode, (*look).seenNode},
	{"memory", unseen, unseen},
}

// unseen hides the blocks that the machine's memory is made of: how many there are says its size, and none is a container's.
func unseen(*look, int) (int, bool) { return 0, false }

// splitNumber cuts a name such as "cpu5" in two; kind is nil for any other name.
func splitNumber[S string | []byte](name S) (kind *numbering, number int) {
	for i := range numberings {
		if n, ok := numberAfter(name, numberings[i].prefix); ok {
			return &numberings[i], n
		}
	}
	return nil, 0
}

// numberAfter is the number that a name has behind a prefix, and nothing else.
func numberAfter[S string | []byte](name S, prefix string) (n int, ok bool) {
	const digits = 18 // fit into any int64
	start := len(prefix)
	if len(name) <= start || len(name) > start+digits || string(name[:start]) != prefix ||
		name[start] == '0' && len(name) > start+1 {
		return 0, false
	}
	for _, c := range []byte(name[start:]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// look is one look at what is read through, by one reader.
type look struct {
	host *host.FS
	work *work
	view *view.Container // nil: the machine is shown
}

// look looks at a file for a container, nil for the machine. end must be called on the result.
func (t *Tree) look(f *File, c *container.Container, pid int) (*look, error) {
	w := works.Get().(*work)
	l := &w.look
	*l = look{host: t.host, work: w}
	if c == nil {
		return l, nil
	}
	p := c.Policy()
	if !p.Shows(f.name) {
		return l, nil
	}
	v, err := f.snapshot(l.work, t.host, c, pid)
	if t.fallsBack(f, err) {
		v, err = nil, nil
	}
	if err != nil {
		l.end()
		return nil, err
	}
	if l.view = v; v != nil && !p.Shows("cpu") {
		v.CPUs = nil // what other trees say of CPUs agrees with the kernel's numbers
	}
	return l, nil
}

func (l *look) end() { works.Put(l.work) }

// toMachine is the machine's path of a reader's, ok false where he sees no such thing.
func (l *look) toMachine(p string) (machine string, ok bool) {
	path, ok := appendRenumbered(l, nil, p, (*numbering).numberOfMachine)
	return string(path), ok
}

// toReader is the reverse, for the target of a link.
func (l *look) toReader(p string) (string, bool) {
	path, ok := appendRenumbered(l, nil, p, (*numbering).numberOfReader)
	return string(path), ok
}

func (k *numbering) numberOfMachine(l *look, n int) (int, bool) { return k.toMachine(l, n) }
func (k *numbering) numberOfReader(l *look, n int) (int, bool)  { return k.toReader(l, n) }

// appendRenumbered appends a path to dst in which the numbers are other ones; ok is false where one of them has none.
func appendRenumbered[S string | []byte](l *look, dst []byte, p S, number func(*numbering, *look, int) (int, bool)) (path []byte, ok bool) {
	if l.view == nil {
		return append(dst, p...), true
	}
	for start := 0; ; {
		end := start
		for end < len(p) && p[end] != '/' {
			end++
		}
		name := p[start:end]
		if kind, n := splitNumber(name); kind == nil {
			dst = append(dst, name...)
		} else if n, ok := number(kind, l, n); ok {
			dst = strconv.AppendInt(append(dst, kind.prefix...), int64(n), 10)
		} else {
			return dst, false
		}
		if end == len(p) {
			return dst, true
		}
		dst, start = append(dst, '/'), end+1
	}
}

// firstNumber is the first number in a path, the one that sysEntries have * for; -1 if there is none.
func firstNumber(p []byte) int {
	for more := true; more; {
		var name []byte
		name, p, more = bytes.Cut(p, []byte{'/'})
		if kind, n := splitNumber(name); kind != nil {
			return n
		}
	}
	return -1
}

// childOf is the node of a name in a directory: its path in sysEntries, and the number. ok is false for names that are
// none, or too high a number.
func childOf(n node, dir *File, name string) (p string, number int, ok bool) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/*") {
		return "", -1, false
	}
	number = n.number()
	if kind, k := splitNumber(name); kind != nil && number < 0 {
		if k > maxNumber {
			return "", -1, false
		}
		name, number = kind.prefix+"*", k
	}
	return strings.TrimPrefix(dir.Path, sysRoot) + "/" + name, number, true
}

// nameTimeoutOf is how long a name below /sys is good: one with a number until the next look, as a change of the quota
// or the cpuset takes CPUs away; any other goes only with the CPU that it belongs to.
func nameTimeoutOf(name string) time.Duration {
	if kind, _ := splitNumber(name); kind != nil {
		return 0
	}
	return time.Second
}

// lookupSys finds a name in a directory that is read through.
func (t *Tree) lookupSys(parent node, dir *File, name string, h *fuse.InHeader, out *fuse.EntryOut) fuse.Status {
	p, number, ok := childOf(parent, dir, name)
	if !ok {
		return fuse.ENOENT
	}
	c := t.identify(parent, int(h.Pid), dir)
	defer c.Release()
	l, err := t.look(dir, c, int(h.Pid))
	if err != nil {
		return fuse.EIO
	}
	defer l.end()
	machine, ok := l.toMachine(strings.Replace(p, "*", strconv.Itoa(number), 1))
	if !ok {
		return fuse.ENOENT
	}
	st, err := t.host.SysStat(machine)
	if err != nil {
		return fuse.ToStatus(err)
	}
	e := t.sys.of(p)
	if e == 0 || t.sys.file(e).hidden {
		return fuse.ENOENT
	}
	n := parent.sibling(e, number)
	out.NodeId = uint64(n)
	out.SetEntryTimeout(nameTimeoutOf(name))
	out.SetAttrTimeout(t.fillSys(n, t.sys.file(e), c, int(h.Pid), l, machine, &st, &out.Attr))
	return fuse.OK
}

// attrSys fills in the attributes of a node that is read through.
func (t *Tree) attrSys(n node, f *File, pid int, out *fuse.Attr) (time.Duration, fuse.Status) {
	c := t.identify(n, pid, f)
	defer c.Release()
	l, err := t.look(f, c, pid)
	if err != nil {
		return 0, fuse.EIO
	}
	defer l.end()
	machine, ok := l.toMachine(sysPath(n, f))
	if !ok {
		return 0, fuse.ENOENT
	}
	st, err := t.host.SysStat(machine)
	if err != nil {
		return 0, fuse.ToStatus(err)
	}
	return t.fillSys(n, f, c, pid, l, machine, &st, out), fuse.OK
}

// fillSys makes attributes of those that the machine's file has, and says how long they are good.
func (t *Tree) fillSys(n node, f *File, c *container.Container, pid int, l *look, machine string, st *unix.Stat_t, out *fuse.Attr) time.Duration {
	out.Ino = uint64(n)
	atime, mtime, ctime := time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix()), time.Unix(st.Ctim.Unix())
	if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		mtime = time.Now() // as of every file here: what it says may be new
		atime, ctime = mtime, mtime
	}
	out.SetTimes(&atime, &mtime, &ctime)
	out.Mode, out.Nlink, out.Owner = st.Mode, uint32(st.Nlink), fuse.Owner{Uid: st.Uid, Gid: st.Gid}
	out.Size, out.Blksize = uint64(st.Size), 4096
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return t.size(n, f, c, pid, func() uint64 { return uint64(st.Size) }, out)
	case syscall.S_IFDIR:
		if _, hidden, err := t.namesSys(l, n, f, machine); err == nil {
			out.Nlink -= min(hidden, out.Nlink)
		}
	}
	if !pinned(n, c) {
		return 0
	}
	return fileTimeout
}

// openSys checks that a file can be read.
func (t *Tree) openSys(n node, f *File, c *container.Container, pid int) fuse.Status {
	l, err := t.look(f, c, pid)
	if err != nil {
		return fuse.EIO
	}
	defer l.end()
	machine, ok := l.toMachine(sysPath(n, f))
	if !ok {
		return fuse.ENOENT
	}
	return fuse.ToStatus(t.host.SysReadable(machine))
}

// renderSys appends the content of a file that is read through. An error is an errno: ENODEV, as from the kernel's own
// sysfs, where a CPU has gone since the file was opened.
func (t *Tree) renderSys(dst []byte, n node, f *File, c *container.Container, reader int) ([]byte, error) {
	l, err := t.look(f, c, reader)
	if err != nil {
		return dst, err
	}
	defer l.end()
	w := l.work
	w.path = appendSysPath(w.path[:0], n, f)
	machine, ok := appendRenumbered(l, w.machine[:0], w.path, (*numbering).numberOfMachine)
	if w.machine = machine; !ok {
		return dst, syscall.ENODEV
	}
	if l.view == nil || f.rewrite == nil {
		dst, err = t.host.SysRead(dst, machine)
	} else if w.text, err = t.host.SysRead(w.text[:0], machine); err == nil {
		dst = f.rewrite(dst, w.text, firstNumber(machine), &w.host, l.view)
	}
	if err == syscall.ENOENT {
		err = syscall.ENODEV
	}
	return dst, err
}

// readlinkSys is where a link leads, in the reader's numbers.
func (t *Tree) readlinkSys(n node, f *File, pid int) ([]byte, fuse.Status) {
	c := t.identify(n, pid, f)
	defer c.Release()
	l, err := t.look(f, c, pid)
	if err != nil {
		return nil, fuse.EIO
	}
	defer l.end()
	machine, ok := l.toMachine(sysPath(n, f))
	if !ok {
		return nil, fuse.ENOENT
	}
	target, err := t.host.SysReadlink(machine)
	if err != nil {
		return nil, fuse.ToStatus(err)
	}
	if target, ok = l.toReader(target); !ok {
		return nil, fuse.ENOENT
	}
	return []byte(target), fuse.OK
}

// dirHandle is an open directory in which names come and go: whose it is, and what it held when it was read from its start,
// as offsets are positions in that.
type dirHandle struct {
	node      node
	file      *File                // of one that is read through, nil for that of the announced containers
	container *container.Container // nil: the machine's

	mu   sync.Mutex
	list []fuse.DirEntry
}

// openDirSys fixes whose names the new file descriptor shows.
func (t *Tree) openDirSys(n node, f *File, pid int, out *fuse.OpenOut) fuse.Status {
	c := t.identify(n, pid, f)
	l, err := t.look(f, c, pid)
	if err != nil {
		c.Release()
		return fuse.EIO
	}
	defer l.end()
	status := fuse.ENOENT
	if machine, ok := l.toMachine(sysPath(n, f)); ok {
		st, err := t.host.SysStat(machine)
		switch {
		case err != nil:
			status = fuse.ToStatus(err)
		case st.Mode&syscall.S_IFMT != syscall.S_IFDIR:
			status = fuse.ENOTDIR
		case !c.OpenFile():
			status = fuse.Status(syscall.ENFILE)
		default:
			out.Fh = t.dirs.add(&dirHandle{node: n, file: f, container: c})
			return fuse.OK
		}
	}
	c.Release()
	return status
}

// listSys lists the names of the table, and then what else the machine has.
func (t *Tree) listSys(d *dirHandle, pid int) ([]fuse.DirEntry, fuse.Status) {
	l, err := t.look(d.file, d.container, pid)
	if err != nil {
		return nil, fuse.EIO
	}
	defer l.end()
	machine, ok := l.toMachine(sysPath(d.node, d.file))
	if !ok {
		return nil, fuse.ENOENT
	}
	names, _, err := t.namesSys(l, d.node, d.file, machine)
	if err != nil {
		return nil, fuse.ToStatus(err)
	}
	return append(t.list(d.node), names...), fuse.OK
}

// namesSys lists what of one of the machine's directories the reader sees, but for the names of the table, and counts the
// directories that he does not see.
func (t *Tree) namesSys(l *look, n node, dir *File, machine string) (list []fuse.DirEntry, hiddenDirs uint32, err error) {
	names, err := t.host.SysList(machine)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		if n.lookup(name.Name) != 0 {
			continue
		}
		called, seen := l.toReader(name.Name)
		if seen {
			p, number, ok := childOf(n, dir, called)
			e := entryID(0)
			if ok {
				e = t.sys.of(p)
			}
			if seen = e != 0 && !t.sys.file(e).hidden; seen {
				list = append(list, fuse.DirEntry{Name: called, Mode: name.Type, Ino: uint64(n.sibling(e, number))})
			}
		}
		if !seen && name.Type == syscall.S_IFDIR {
			hiddenDirs++
		}
	}
	return list, hiddenDirs, nil
}

func (l *look) cpuNumber(cpu int) (int, bool)      { return l.view.CPUNumber(cpu) }
func (l *look) physicalCPU(number int) (int, bool) { return l.view.PhysicalCPU(number) }

// seenNode keeps a node's number. In the tree of the CPUs, where all names of nodes are links, it hides none: a visible CPU
// is on a visible node.
func (l *look) seenNode(node int) (int, bool) { return node, l.view.SeesNode(node, &l.work.host) }

// policies are the machine's cpufreq policies. The kernel names each by its first CPU; a reader's is named by his number
// of the first CPU that he sees, and is not there for one who sees none.
const policies = "cpu/cpufreq"

func (l *look) policyNumber(policy int) (int, bool) {
	if len(l.view.CPUs) == 0 {
		return policy, true
	}
	text, err := l.host.SysRead(nil, fmt.Appendf(nil, "%s/policy%d/affected_cpus", policies, policy))
	if err != nil {
		return 0, false // all of its CPUs are offline
	}
	return l.view.FirstCPU(text)
}

func (l *look) machinePolicy(number int) (int, bool) {
	if len(l.view.CPUs) == 0 {
		return number, true
	}
	cpu, ok := l.view.PhysicalCPU(number)
	if !ok {
		return 0, false
	}
	target, err := l.host.SysReadlink("cpu/cpu" + strconv.Itoa(cpu) + "/cpufreq")
	if err != nil {
		return 0, false
	}
	policy, ok := numberAfter(path.Base(target), "policy")
	if !ok {
		return 0, false
	}
	first, ok := l.policyNumber(policy)
	return policy, ok && first == number
}
