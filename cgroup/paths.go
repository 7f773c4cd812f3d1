package cgroup

import (
	"bytes"
	"fmt"
	"strings"
)

// Paths is where a process stands in each cgroup hierarchy, as /proc/PID/cgroup says it: "/" is the hierarchy's root,
// "" that the hierarchy is not there. Paths are comparable.
type Paths struct {
	Unified                                            string // cgroup v2
	CPU, CPUAcct, CPUSet, Memory, Blkio, Pids, Hugetlb string // cgroup v1
}

// hierarchy numbers the fields of Paths: the v2 hierarchy and one for each v1 controller, which may be mounted together.
type hierarchy int

const (
	unified hierarchy = iota
	cpu
	cpuacct
	cpuset
	memory
	blkio
	pids
	hugetlb
	hierarchies
)

// v1Names are the controllers' names in /proc/PID/cgroup and in mount options.
var v1Names = [hierarchies]string{cpu: "cpu", cpuacct: "cpuacct", cpuset: "cpuset", memory: "memory",
	blkio: "blkio", pids: "pids", hugetlb: "hugetlb"}

// v1Hierarchy finds a v1 controller by name.
func v1Hierarchy(name string) (hierarchy, bool) {
	for h := cpu; h < hierarchies; h++ {
		if v1Names[h] == name {
			return h, true
		}
	}
	return 0, false
}

// field is the path in one hierarchy.
func (p *Paths) field(h hierarchy) *string {
	return [hierarchies]*string{&p.Unified, &p.CPU, &p.CPUAcct, &p.CPUSet, &p.Memory, &p.Blkio, &p.Pids, &p.Hugetlb}[h]
}

// ParsePaths reads /proc/PID/cgroup. The mark " (deleted)" behind the path of a removed cgroup is dropped; controllers
// that Paths has no field for are skipped.
func ParsePaths(text []byte) (Paths, error) {
	var p Paths
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		// "5:cpu,cpuacct:/docker/…": only the first two colons separate, the path may hold more.
		id, rest, ok1 := bytes.Cut(line, []byte{':'})
		controllers, path, ok2 := bytes.Cut(rest, []byte{':'})
		if !ok1 || !ok2 || len(path) == 0 || path[0] != '/' {
			return Paths{}, fmt.Errorf("cgroup: no line of /proc/PID/cgroup: %.200q", line)
		}
		where := strings.TrimSuffix(string(path), " (deleted)")
		if string(id) == "0" && len(controllers) == 0 {
			p.Unified = where
			continue
		}
		for more := true; more; {
			var name []byte
			name, controllers, more = bytes.Cut(controllers, []byte{','})
			if h, ok := v1Hierarchy(string(name)); ok {
				*p.field(h) = where
			}
		}
	}
	return p, nil
}

// isRoot: in a hierarchy that is not there, nothing limits a process either.
func isRoot(path string) bool { return path == "" || path == "/" }

// IsRoot says that the process is in the root of every hierarchy: it is in no cgroup that could limit it.
func (p Paths) IsRoot() bool {
	for h := range hierarchies {
		if !isRoot(*p.field(h)) {
			return false
		}
	}
	return true
}

// Contains says that other is in p or below it, in every hierarchy where p is not the root.
func (p Paths) Contains(other Paths) bool {
	for h := range hierarchies {
		if path := *p.field(h); !isRoot(path) && !isBelow(*other.field(h), path) {
			return false
		}
	}
	return true
}

// isBelow says that path is top or below it; /ab is not below /a.
func isBelow(path, top string) bool {
	rest, ok := strings.CutPrefix(path, top)
	return ok && (rest == "" || rest[0] == '/')
}

// Depth is the number of cgroups that p is below, summed over the hierarchies. Of several Paths that contain a
// process, the deepest is the nearest.
func (p Paths) Depth() int {
	depth := 0
	for h := range hierarchies {
		if path := *p.field(h); !isRoot(path) {
			depth += strings.Count(path, "/")
		}
	}
	return depth
}

// TrimInit drops the leaf that an init system puts itself into, /init.scope of systemd and /.lxc of LXC, so that what
// is left is the container's own cgroup.
func (p Paths) TrimInit() Paths {
	for h := range hierarchies {
		path := p.field(h)
		for _, leaf := range []string{"/init.scope", "/.lxc"} {
			if top, ok := strings.CutSuffix(*path, leaf); ok {
				*path = top
				if top == "" {
					*path = "/"
				}
				break
			}
		}
	}
	return p
}

// Parent is the cgroups one level up. In a hierarchy where that would be the root, which is no cgroup of a container, the
// path stays; so the Parent of a container at the top everywhere is the container itself.
func (p Paths) Parent() Paths {
	for h := range hierarchies {
		path := p.field(h)
		if i := strings.LastIndexByte(*path, '/'); i > 0 {
			*path = (*path)[:i]
		}
	}
	return p
}

// showOrder is the order in which a hierarchy speaks for the whole: where runtimes put a container most surely first.
var showOrder = [...]hierarchy{unified, memory, cpu, cpuacct, cpuset, pids, blkio, hugetlb}

// String is one path to show to people: that of cgroup v2 or else of a v1 controller, where it is not the root.
func (p Paths) String() string {
	for _, h := range showOrder {
		if path := *p.field(h); !isRoot(path) {
			return path
		}
	}
	return "/"
}
