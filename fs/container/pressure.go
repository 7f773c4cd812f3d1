package container

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

// NeedPressure is the need of one pressure file. Where no pressure is counted for the container, Snapshot fails with
// [cgroup.ErrNoPressure].
func NeedPressure(r cgroup.Pressure) Need { return needPressure << r }

const _ = needPressure << (cgroup.Pressures - 1) // a Need has room for all

// OpenPressure opens the container's pressure file for a trigger, see [cgroup.Group.OpenPressure].
func (c *Container) OpenPressure(r cgroup.Pressure) (fd int, err error) {
	return c.group.OpenPressure(r)
}

// Owner is the cgroups of the container whose bounds what a reader opens counts for: its own, or those of the announced
// one in whose place it is shown, so that more cgroups in a container do not make for more.
func (c *Container) Owner() cgroup.Paths { return c.owner }

// DirectPressure is the container's own pressure file, for its processes to use instead of ours: "" where there is none
// or where the kernel would not let root of the container set triggers. That is so in a user namespace, as the file is
// the machine's root's, and in a cgroup namespace of a hierarchy that is mounted with nsdelegate.
func (c *Container) DirectPressure(r cgroup.Pressure) string {
	if c.init == nil {
		return ""
	}
	if !c.proc.sharesNS(c.init.pid, "user") {
		return ""
	}
	if !c.proc.sharesNS(c.init.pid, "cgroup") && c.registry.cg.Hierarchies().NSDelegate() { // which reads the table of mounts
		return ""
	}
	return c.group.PressureFile(r)
}

// sharesNS says whether a task is in our namespace of a kind. A kernel without such namespaces has one for all.
func (p *procFS) sharesNS(task int, kind string) bool {
	var theirs, ours unix.Stat_t
	if err := unix.Fstatat(p.dir, "self/ns/"+kind, &ours, 0); err != nil {
		return true
	}
	return unix.Fstatat(p.dir, strconv.Itoa(task)+"/ns/"+kind, &theirs, 0) == nil && theirs.Ino == ours.Ino
}
