// Package tree is the file system that readers see: which files there are, what a node id means, whose numbers an open
// file shows. It answers go-fuse's requests; the numbers come from the packages view, container and host.
package tree

import (
	"fmt"
	"path"
	"strings"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/fs/view"
)

// File is one virtual file.
type File struct {
	// Path is relative to the view's root, such as "proc/meminfo".
	Path string
	// Mode holds the permission bits, those of the kernel's own file; 0: as this machine's kernel has them.
	Mode uint32

	// sameLength says that the content has the same length every time, short of a value that outgrows its column.
	sameLength bool

	// pressure says that it is the pressure file of resource, and takes triggers.
	pressure bool
	resource cgroup.Pressure

	// name is what policies call it by; the files of a tree below /sys share one.
	name      string
	index     int
	host      host.Need
	container container.Need
	render    renderer

	// rewrite is for the files that are read through from the machine's /sys; nil passes them through.
	rewrite view.Rewriter
	hidden  bool // from everybody
}

// files are the virtual files. Node ids hold positions in this table and must mean the same in every version, as the
// kernel keeps them: only ever append.
var files = numbered([]File{
	{
		Path: "proc/meminfo", Mode: 0o444, render: view.Meminfo, sameLength: true,
		host: host.NeedMeminfo | host.NeedOvercommit, container: container.NeedMemory,
	},
	{
		Path: "proc/stat", Mode: 0o444, render: view.Stat,
		host: host.NeedStat | host.NeedOnlineCPUs | host.NeedTimeNS, container: container.NeedTimes | container.NeedLoad,
	},
	{
		Path: "proc/cpuinfo", Mode: 0o444, render: view.Cpuinfo,
		host: host.NeedCpuinfo | host.NeedOnlineCPUs, container: container.NeedCPU,
	},
	{
		Path: "proc/loadavg", Mode: 0o444, render: view.Loadavg,
		host: host.NeedLoadavg, container: container.NeedLoad,
	},
	{
		Path: "proc/uptime", Mode: 0o444, render: view.Uptime,
		host: host.NeedUptime | host.NeedOnlineCPUs | host.NeedTimeNS, container: container.NeedAge | container.NeedTimes,
	},
	{
		Path: "proc/swaps", Mode: 0o444, render: view.Swaps,
		host: host.NeedSwaps | host.NeedMeminfo, container: container.NeedMemory,
	},
	cpuList("online", view.CPUOnline),
	cpuList("present", view.CPUPresent),
	cpuList("possible", view.CPUPossible),
	cpuList("offline", view.CPUOffline),
	pressure(cgroup.PressureCPU),
	pressure(cgroup.PressureMemory),
	pressure(cgroup.PressureIO),
	pressure(cgroup.PressureIRQ),
	{
		Path: "proc/diskstats", Mode: 0o444, render: view.Diskstats,
		host: host.NeedDiskstats, container: container.NeedIO,
	},
	{
		Path: "proc/vmstat", Mode: 0o444, render: view.VMStat,
		host:      host.NeedVMStat | host.NeedMeminfo,
		container: container.NeedMemory | container.NeedEvents | container.NeedIO,
	},
	{
		Path: "proc/slabinfo", Mode: 0o400, render: view.Slabinfo,
		host: host.NeedSlabinfo, container: container.NeedMemory | container.NeedSlabinfo,
	},
})

func numbered(list []File) []File {
	for i := range list {
		list[i].index, list[i].name = i, policyName(list[i].Path)
	}
	return list
}

// policyName is which of policy.Files a path belongs to.
func policyName(p string) string {
	if name, ok := strings.CutPrefix(p, "proc/"); ok {
		return name
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(p, "sys/devices/system/"), "/")
	return name
}

func cpuList(name string, render renderer) File {
	return File{
		Path: "sys/devices/system/cpu/" + name, Mode: 0o444, render: render,
		host: host.NeedCPULists, container: container.NeedCPU,
	}
}

// renderer appends a file's content to dst; c is nil for the machine's own.
type renderer func(dst []byte, h *host.Snapshot, c *view.Container) []byte

// Paths are the paths of all virtual files, whether this machine's kernel has them or not.
func Paths() []string {
	list := make([]string, len(files))
	for i := range files {
		list[i] = files[i].Path
	}
	return list
}

// Find is the virtual file that a person means by name: its path, with or without a leading slash, or the last part of
// it.
func Find(name string) (*File, error) {
	want := strings.TrimPrefix(path.Clean(name), "/")
	for i := range files {
		if f := &files[i]; f.Path == want || path.Base(f.Path) == want {
			return f, nil
		}
	}
	return nil, fmt.Errorf("no virtual file %q; there are %s", name, strings.Join(Paths(), ", "))
}

// Shown says whether a policy shows the container's numbers in the file, and not the kernel's.
func (f *File) Shown(p *policy.Policy) bool { return p.Shows(f.name) }

// Render appends to dst what the file says in a container, c, or on the machine itself with c nil or where the container's
// policy leaves the file to the kernel. reader is the task that reads, 0 if it is not known. An error leaves dst as it was.
func (f *File) Render(dst []byte, hostFS *host.FS, c *container.Container, reader int) ([]byte, error) {
	w := works.Get().(*work)
	defer works.Put(w)
	v, err := f.snapshot(w, hostFS, c, reader)
	if err != nil {
		return dst, err
	}
	return f.render(dst, &w.host, v), nil
}

// Explain says where each of the container's numbers in the file comes from.
func (f *File) Explain(hostFS *host.FS, c *container.Container, reader int) ([]view.Number, error) {
	var w work
	v, err := f.snapshot(&w, hostFS, c, reader)
	if err != nil {
		return nil, err
	}
	return view.Explain(f.Path, &w.host, v), nil
}

func (f *File) snapshot(w *work, hostFS *host.FS, c *container.Container, reader int) (*view.Container, error) {
	need := f.host
	if need&host.NeedCpuinfo != 0 && hostFS.Linux32(reader) {
		need ^= host.NeedCpuinfo | host.NeedCpuinfo32
	}
	if err := hostFS.Snapshot(need, &w.host); err != nil {
		return nil, err
	}
	if need&host.NeedTimeNS != 0 && !hostFS.ReadTimeNS(reader, &w.host) {
		hostFS.ReadTimeNS(c.Init(), &w.host)
	}
	if c == nil || !f.Shown(c.Policy()) {
		return nil, nil
	}
	if err := c.Snapshot(f.container, &w.host, reader, &w.container); err != nil {
		return nil, &containerError{err}
	}
	return &w.container.View, nil
}

// containerError tells a container that can't be read from a machine that can't.
type containerError struct{ error }

func (e *containerError) Unwrap() error { return e.error }
