// Package fs puts the parts of the daemon together: the machine, the containers, the tree of files, the FUSE connection
// and the control socket.
package fs

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/fs/server"
	"github.com/scopefs/scopefs/fs/tree"
)

// Options say what a daemon serves and where.
type Options struct {
	// Mount is the directory to mount on. Its state lies beside it: the lock, the CPU ledgers.
	Mount string
	// Socket is the path of the control socket; "" is control.sock beside Mount.
	Socket string
	// LXCFSCompat is a second place to show the mount at, such as /var/lib/lxcfs; "" for none.
	LXCFSCompat string
	// Policy is how containers are shown that make no choices of their own, to begin with (see SetPolicy).
	Policy policy.Policy
	// MaxAge is how old what readers are shown may be, to begin with (see SetMaxAge).
	MaxAge time.Duration
}

// LedgerDir is where a daemon with this mount point keeps the CPU ledgers.
func LedgerDir(mount string) string { return mount + ".ledger" }

// SocketPath is the control socket of a daemon with this mount point.
func SocketPath(mount string) string { return filepath.Join(filepath.Dir(mount), "control.sock") }

// Daemon serves the file system until it is closed.
type Daemon struct {
	opts     Options
	host     *host.FS
	registry *container.Registry
	tree     *tree.Tree
	mount    *server.Mount
	control  *control.Server
	stop     context.CancelFunc
	sampling sync.WaitGroup
	// served is closed when the FUSE connection, once it is serving, has ended.
	serving bool
	served  chan struct{}
}

// Start mounts the file system and begins to serve it.
func Start(opts Options) (*Daemon, error) {
	var err error
	if opts.Mount, err = filepath.Abs(opts.Mount); err != nil {
		return nil, err
	}
	if opts.Socket == "" {
		opts.Socket = SocketPath(opts.Mount)
	}
	d := &Daemon{opts: opts, served: make(chan struct{})}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Daemon) start() (err error) {
	// The lock on the mount point comes first: it keeps a second daemon off everything else.
	if d.mount, err = server.MountAt(d.opts.Mount); err != nil {
		return err
	}
	// From here on without symbolic links, so that a link that is changed later moves nothing. The socket keeps the name
	// that was given, as a socket's may not be long; it is in the same directory.
	d.opts.Mount = d.mount.Point
	if d.host, err = host.Open(""); err != nil {
		return err
	}
	d.registry, err = container.Open(d.host, container.Options{LedgerDir: LedgerDir(d.opts.Mount), Policy: d.opts.Policy})
	if err != nil {
		return err
	}
	d.SetMaxAge(d.opts.MaxAge)
	d.tree = tree.New(d.host, d.registry)
	loop := server.NewLoop(d.mount.FD, d.tree)
	d.tree.SetInvalidator(loop.InvalidateAttr)
	d.tree.SetPollNotifier(loop.NotifyPoll)
	if err := loop.Init(); err != nil {
		return err
	}
	d.serving = true
	go func() {
		defer close(d.served)
		loop.Serve()
	}()
	var ctx context.Context
	ctx, d.stop = context.WithCancel(context.Background())
	d.sampling.Go(func() { d.registry.Run(ctx) })

	if d.opts.LXCFSCompat != "" {
		if err := d.mount.AlsoAt(d.opts.LXCFSCompat); err != nil {
			return err
		}
	}
	if d.control, err = control.Listen(d.opts.Socket, d); err != nil {
		return err
	}
	go func() {
		if err := d.control.Serve(); err != nil {
			slog.Error("the control socket is closed", "err", err)
		}
	}()
	return nil
}

// Detach takes the mount out of this mount namespace; what was bound from it elsewhere stays served.
func (d *Daemon) Detach() error { return d.mount.Detach() }

// Served is closed when the connection has ended, as by umount(8).
func (d *Daemon) Served() <-chan struct{} { return d.served }

// Close ends everything. Bind mounts of the view that live on elsewhere answer with ENOTCONN when the process has ended.
func (d *Daemon) Close() error {
	var errs []error
	if d.control != nil {
		errs = append(errs, d.control.Close())
	}
	if d.stop != nil {
		d.stop()
		d.sampling.Wait()
	}
	if d.mount != nil {
		errs = append(errs, d.mount.Detach())
	}
	if d.serving && !d.connectionEnds() {
		// Readers elsewhere still have the view. They are served until this process ends.
		d.mount.Unlock()
		return errors.Join(errs...)
	}
	if d.mount != nil {
		errs = append(errs, d.mount.Close())
	}
	if d.tree != nil {
		d.tree.Close()
	}
	if d.registry != nil {
		d.registry.Close()
	}
	if d.host != nil {
		errs = append(errs, d.host.Close())
	}
	return errors.Join(errs...)
}

// connectionEnds waits for the kernel to end the connection, as it does at once when the last mount has gone.
func (d *Daemon) connectionEnds() bool {
	select {
	case <-d.served:
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}

// SetPolicy changes how containers are shown from now on, the running ones too, except in what they chose themselves.
// The files that are bound into a container stay those of its start: one that is turned off shows the machine's content.
func (d *Daemon) SetPolicy(p policy.Policy) { d.registry.SetPolicy(p) }

// SetMaxAge sets how old what a reader is shown may be, at most: within that time readers share what was read, of the machine
// and of each container. With 0 each is shown what is now.
func (d *Daemon) SetMaxAge(age time.Duration) {
	d.host.SetMaxAge(age)
	d.registry.SetMaxAge(age)
}

// Announce implements control.Handler.
func (d *Daemon) Announce(req control.Request) (control.Response, error) {
	c, err := d.registry.Announce(req.ID, req.PID, req.Policy)
	if err != nil {
		return control.Response{}, err
	}
	slog.Info("container announced", "id", req.ID, "pid", req.PID, "slot", c.Slot)
	p := c.Policy()
	view := control.View{Path: d.subtree(req.ID), Files: d.tree.Files(p), Direct: d.tree.Direct(c)}
	return control.Response{View: view, Policy: p.Text()}, nil
}

// Forget implements control.Handler.
func (d *Daemon) Forget(id string) error {
	slog.Info("container forgotten", "id", id)
	return d.registry.Forget(id)
}

// List implements control.Handler.
func (d *Daemon) List() []control.Container {
	list := d.registry.Announced()
	for i := range list {
		list[i].Path = d.subtree(list[i].ID)
	}
	return list
}

// Info implements control.Handler.
func (d *Daemon) Info() control.Response {
	fallbacks := map[string]uint64{}
	for f, n := range d.tree.Fallbacks.Counts() {
		fallbacks[f.File+" "+f.Reason] = n
	}
	return control.Response{Mount: d.opts.Mount, Policy: d.registry.Policy().Text(), Fallbacks: fallbacks}
}

func (d *Daemon) subtree(id string) string { return filepath.Join(d.opts.Mount, "c", id) }
