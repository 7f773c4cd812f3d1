package tree

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/fs/view"
)

func pressure(r cgroup.Pressure) File {
	return File{
		Path: "proc/pressure/" + r.String(), pressure: true, resource: r, render: view.Pressure(r),
		host: host.NeedPressure(r), container: container.NeedPressure(r),
	}
}

// SetPollNotifier names the function that makes the kernel poll again the file that it knows by kh.
func (t *Tree) SetPollNotifier(f func(kh uint64)) { t.triggers.notify = f }

// Direct lists the files that are bound from elsewhere than the container's subtree: its pressure files, where the cgroup's
// own do as well. They are the kernel's, triggers and all, and need no daemon. Where a policy shows another cgroup in the
// place of the container there are none, as they cannot follow it.
func (t *Tree) Direct(c *container.Container) map[string]string {
	direct := map[string]string{}
	if c.Policy().Reader != policy.Container {
		return direct // another cgroup may be shown
	}
	for i := range files {
		f := &files[i]
		if !f.pressure || t.absent[firstFile+entryID(i)] || !c.Policy().Shows(f.name) {
			continue
		}
		if path := c.DirectPressure(f.resource); path != "" {
			direct[f.Path] = path
		}
	}
	return direct
}

// mayWrite says whether the machine's kernel would let a task open the file for writing. privileged is over the machine.
func (t *Tree) mayWrite(f *File, privileged bool) error {
	if !f.pressure {
		return unix.EACCES
	}
	return as(privileged, func() error {
		fd, err := t.host.OpenPressure(f.resource)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

// as calls f with the privileges of an opener, as the kernel goes by those when it sets a trigger.
func as(privileged bool, f func() error) error {
	if privileged {
		return f()
	}
	return host.AsUnprivileged(f)
}

// Write sets a trigger.
func (t *Tree) Write(_ <-chan struct{}, in *fuse.WriteIn, text []byte) (uint32, fuse.Status) {
	h := t.handles.get(in.Fh)
	if h == nil || !h.writable || h.node != node(in.NodeId) {
		return 0, fuse.EBADF
	}
	if len(text) == 0 {
		return 0, fuse.OK
	}
	h.setting.Lock()
	defer h.setting.Unlock()
	if tr := h.trigger.Load(); tr != nil {
		n, err := tr.write(text)
		return uint32(n), status(err)
	}
	c := t.shown(h.file, h.container)
	slot := h.slot()
	if h.node.own() {
		slot = h.node.slot() // also where the policy shows another one in its place
	}
	tr, n, err := t.triggers.set(h.owner(), slot, func() (fd int, err error) {
		err = as(h.privileged, func() error {
			if c != nil {
				fd, err = c.OpenPressure(h.file.resource)
				if !errors.Is(err, cgroup.ErrNoPressure) {
					return err
				}
				t.Fallbacks.count(h.file, reason(err), err)
			}
			fd, err = t.host.OpenPressure(h.file.resource)
			return err
		})
		return fd, err
	}, text)
	if err == nil {
		h.trigger.Store(tr)
	}
	return uint32(n), status(err)
}

// Poll says what poll(2) says of an open file: see [server.Poller].
func (t *Tree) Poll(fh, kh uint64, schedule bool) (events uint32) {
	var tr *trigger
	pressure := false
	// A slow READ has the handle's lock.
	t.handles.look(fh, func(h *handle) { pressure, tr = h.file.pressure, h.trigger.Load() })
	if !pressure {
		return unix.POLLIN | pollRdNorm
	}
	if tr == nil {
		return pollFailed
	}
	return tr.poll(kh, schedule)
}

// setSize is all that SETATTR asks for when a file is truncated, beside which file and who.
const setSize = fuse.FATTR_SIZE | fuse.FATTR_FH | fuse.FATTR_LOCKOWNER | fattrKillSuidgid

const fattrKillSuidgid = 1 << 11 // FATTR_KILL_SUIDGID: there are no such bits

// SetAttr refuses chmod(2), chown(2), truncate(2) and utime(2). A file that can be written can be truncated, as a shell
// does before it writes, and that changes nothing.
func (t *Tree) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := node(in.NodeId)
	if f := n.entry().file(); f == nil || !f.pressure || in.Valid&fuse.FATTR_SIZE == 0 || in.Valid&^setSize != 0 {
		return fuse.EPERM
	}
	timeout, status := t.attr(n, &in.InHeader, &out.Attr)
	out.SetTimeout(timeout)
	return status
}

// status is the error number in err.
func status(err error) fuse.Status {
	var errno syscall.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.As(err, &errno):
		return fuse.Status(errno)
	case errors.Is(err, cgroup.ErrGone):
		return fuse.ENODEV
	}
	return fuse.EIO
}
