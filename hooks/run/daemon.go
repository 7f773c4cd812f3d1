package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scopefs/scopefs/fs/control"
)

// Private is a daemon in this process that serves one run.
type Private struct {
	// Socket is its control socket. What it answers to a ping as its mount must lie below the directory it was given.
	Socket string
	// Detach takes the mount point out of the host's mount table (umount2 with MNT_DETACH). It is called once, as soon as
	// the container has its own copy of the mount and before anything is bound; the daemon serves on.
	Detach func() error
	// Stop ends the daemon. It is called last, when no process of the container is left; a mount point that was not
	// detached is to be gone afterwards.
	Stop func()
}

// PrivateDaemon starts a daemon that mounts its file system at dir/fs and listens on dir/control.sock. dir exists, is
// empty but for files of the run's own, has mode 0700 and is removed after Stop.
type PrivateDaemon func(dir string) (*Private, error)

// findDaemon returns the control socket to use: the running daemon's, or that of a private one that it starts.
func findDaemon(socket, dir string, start PrivateDaemon) (string, *Private, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, _, err := control.Ping(ctx, socket)
	if err == nil {
		return socket, nil, nil
	}
	if !errors.Is(err, control.ErrNoDaemon) || start == nil {
		return "", nil, err
	}
	p, err := start(dir)
	if err != nil {
		return "", nil, fmt.Errorf("start a private daemon: %w", err)
	}
	return p.Socket, p, nil
}
