package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Hierarchies says where the cgroup hierarchies are mounted. A controller without a v1 hierarchy is on v2, if there is one.
type Hierarchies struct {
	root   string
	mounts [hierarchies]*mount
}

// mount is one mounted hierarchy; v1 controllers that are mounted together share it.
type mount struct {
	point string // directory, below the injected root
	root  string // the cgroup that is seen at point: field 4 of mountinfo
}

// ErrNoHierarchy says that no cgroup hierarchy is mounted.
var ErrNoHierarchy = errors.New("cgroup: no hierarchy is mounted")

// Discover reads root/proc/self/mountinfo. Mount points are taken below root, too; "" is the machine itself.
func Discover(root string) (*Hierarchies, error) {
	infos, err := cgroupMounts(root)
	if err != nil {
		return nil, err
	}
	h := &Hierarchies{root: root}
	found := false
	for _, info := range infos {
		m := &mount{point: filepath.Join("/", root, info.Mountpoint), root: info.Root}
		if st, err := os.Stat(m.point); err != nil || !st.IsDir() {
			continue // hidden below another mount
		}
		if info.FSType == "cgroup2" {
			found = h.offer(unified, m) || found
			continue
		}
		for option := range strings.SplitSeq(info.VFSOptions, ",") {
			if at, ok := v1Hierarchy(option); ok {
				found = h.offer(at, m) || found
			}
		}
	}
	if !found {
		return nil, ErrNoHierarchy
	}
	return h, nil
}

func cgroupMounts(root string) ([]*mountinfo.Info, error) {
	f, err := os.Open(root + "/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroup: find the hierarchies: %w", err)
	}
	defer f.Close()
	infos, err := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("cgroup: find the hierarchies: %w", err)
	}
	return infos, nil
}

// NSDelegate says whether cgroup v2 is mounted with nsdelegate now: then a process in a cgroup namespace of its own may
// not write to most files of the namespace's root, pressure files among them.
func (h *Hierarchies) NSDelegate() bool {
	infos, err := cgroupMounts(h.root)
	return err == nil && slices.ContainsFunc(infos, func(i *mountinfo.Info) bool {
		return i.FSType == "cgroup2" && slices.Contains(strings.Split(i.VFSOptions, ","), "nsdelegate")
	})
}

// offer takes m where it is the first mount of a hierarchy or a better one: one that shows the whole hierarchy, then the
// one with the shortest mount point, as bind mounts into containers have long ones.
func (h *Hierarchies) offer(at hierarchy, m *mount) bool {
	old := h.mounts[at]
	switch {
	case old == nil:
	case (old.root == "/") != (m.root == "/"):
		if old.root == "/" {
			return false
		}
	case len(m.point) >= len(old.point):
		return false
	}
	h.mounts[at] = m
	return true
}

// locate finds where a controller of a process is: on v1 where that is mounted, else on v2. A nil mount means that the
// process is in no cgroup there but the root.
func (h *Hierarchies) locate(at hierarchy, p *Paths) (*mount, string, Version) {
	version := V1
	if h.mounts[at] == nil {
		at = unified
	}
	if at == unified {
		version = V2
	}
	path := *p.field(at)
	if h.mounts[at] == nil || isRoot(path) {
		return nil, "", V0
	}
	return h.mounts[at], path, version
}

// Dir is the directory of a process's cgroup for a controller ("cpu", "memory" …; "" is the v2 hierarchy itself), and
// its version; ok is false where the process is in the root there, or the cgroup lies outside of what is mounted.
func (h *Hierarchies) Dir(controller string, p Paths) (dir string, version Version, ok bool) {
	at, _ := v1Hierarchy(controller) // not one of v1's: the v2 hierarchy
	m, path, version := h.locate(at, &p)
	if m == nil {
		return "", V0, false
	}
	rel, ok := m.rel(path)
	if !ok {
		return "", V0, false
	}
	return m.point + rel, version, true
}

// rel turns a path of /proc/PID/cgroup into one below the mount point. That fails for a cgroup outside of the mount's
// root, and for one outside of our cgroup namespace, which the kernel writes as "/../other".
func (m *mount) rel(path string) (string, bool) {
	if m.root != "/" {
		if !isBelow(path, m.root) {
			return "", false
		}
		path = path[len(m.root):]
	}
	if strings.Contains(path+"/", "/../") {
		return "", false
	}
	return path, true
}
