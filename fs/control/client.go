package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where the daemon of a host listens.
const DefaultSocket = "/run/scopefs/control.sock"

// maxResponse bounds an answer: a listing of some ten thousand containers fits.
const maxResponse = 16 << 20

// ErrNoDaemon is wrapped by the errors of [Call] when nobody listens on the socket.
var ErrNoDaemon = errors.New("no scopefs daemon answers")

// Call asks the daemon at socket and returns its answer; an error that the daemon answered is returned as one. Without a
// deadline in ctx it waits for at most 10 seconds.
func Call(ctx context.Context, socket string, req Request) (Response, error) {
	var resp Response
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return resp, fmt.Errorf("%w on %s", ErrNoDaemon, socket)
	}
	if err != nil {
		return resp, fmt.Errorf("ask the scopefs daemon: %w", err)
	}
	defer conn.Close()
	// Cancelling ctx ends a read or write that is under way.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()

	if req.Version == 0 {
		req.Version = Version
	}
	b, err := json.Marshal(req)
	if err != nil {
		return resp, err
	}
	// A daemon that refuses the peer answers and hangs up without reading, so its answer counts even if writing fails.
	_, werr := conn.Write(append(b, '\n'))
	line, rerr := bufio.NewReader(io.LimitReader(conn, maxResponse)).ReadBytes('\n')
	if rerr != nil {
		if ctx.Err() != nil {
			rerr = ctx.Err()
		} else if werr != nil {
			rerr = werr
		}
		return resp, fmt.Errorf("ask the scopefs daemon on %s: %w", socket, rerr)
	}
	if err := json.Unmarshal(line, &resp); err != nil {
		return resp, fmt.Errorf("answer of the scopefs daemon on %s: %w", socket, err)
	}
	if resp.Error != "" {
		return resp, fmt.Errorf("scopefs daemon: %s: %s", req.Op, resp.Error)
	}
	return resp, nil
}

// Announce tells the daemon that pid is a process of container id, 0 being the caller. It is shown as the daemon's policy
// says; Call takes its own choices too.
func Announce(ctx context.Context, socket, id string, pid int) (View, error) {
	resp, err := Call(ctx, socket, Request{Op: OpAnnounce, ID: id, PID: pid})
	return resp.View, err
}

// Forget tells the daemon to drop container id.
func Forget(ctx context.Context, socket, id string) error {
	_, err := Call(ctx, socket, Request{Op: OpForget, ID: id})
	return err
}

// List returns the containers that are announced.
func List(ctx context.Context, socket string) ([]Container, error) {
	resp, err := Call(ctx, socket, Request{Op: OpList})
	return resp.Containers, err
}

// Ping returns the mount point and the process of the daemon at socket.
func Ping(ctx context.Context, socket string) (mount string, pid int, err error) {
	resp, err := Call(ctx, socket, Request{Op: OpPing})
	return resp.Mount, resp.PID, err
}
