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
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest   = 64 << 10 // bytes of one request, its newline included
	readTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
)

// Handler does what requests ask for. Its methods are called from many goroutines at once, with ids that passed
// [CheckID] and pids above 0.
type Handler interface {
	// Announce makes the subtree of the container that the request names, of which PID is a process, and answers with its
	// View and Policy. Announcing a container again answers the same, for the new pid and policy.
	Announce(Request) (Response, error)
	// Forget drops the container.
	Forget(id string) error
	// List returns the announced containers.
	List() []Container
	// Info answers a ping with the daemon's Mount, Policy and Fallbacks.
	Info() Response
}

// Server answers requests on one control socket.
type Server struct {
	path    string
	handler Handler
	ln      *net.UnixListener
	uid     uint32 // the only one that may ask
	timeout time.Duration

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

// Listen makes the control socket at path, readable by root alone, and its directory if that is missing. The socket of a
// daemon that is dead is replaced; that of a living one is an error that names its process. [Server.Serve] answers.
func Listen(path string, h Handler) (*Server, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Two daemons that start together must not take each other's fresh socket for a stale one.
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("control socket: lock %s: %w", dir, err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The socket takes its mode from its descriptor: no moment at which others could connect, no change of the umask.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &Server{path: path, handler: h, ln: ln.(*net.UnixListener), timeout: readTimeout, conns: map[net.Conn]struct{}{}}, nil
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if fi.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("control socket: %s exists and is not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		defer conn.Close()
		pid := "unknown"
		if cred, err := peer(conn.(*net.UnixConn)); err == nil {
			pid = fmt.Sprint(cred.Pid)
		}
		return fmt.Errorf("control socket: a daemon, process %s, already answers on %s", pid, path)
	}
	// Anything else than a refusal, such as a full backlog, may come from a daemon that lives.
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("control socket: %s may be in use: %w", path, err)
	}
	return os.Remove(path)
}

// Path returns where the socket is.
func (s *Server) Path() string { return s.path }

// Serve answers requests until [Server.Close].
func (s *Server) Serve() error {
	for {
		conn, err := s.ln.AcceptUnix()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return nil
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return fmt.Errorf("control socket: %w", err)
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return nil
		}
		s.conns[conn] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		go s.serve(conn)
	}
}

// Close ends Serve, removes the socket and waits for the requests that are being answered.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	err := s.ln.Close()
	for c := range s.conns {
		// Ends the wait for a request that has not come, and leaves an answer that is on its way alone.
		c.SetReadDeadline(time.Now())
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Server) serve(conn *net.UnixConn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		s.wg.Done()
	}()
	resp, err := s.answer(conn)
	if err != nil {
		resp = Response{Error: err.Error()}
	}
	resp.Version = Version
	b, err := json.Marshal(resp)
	if err != nil {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = conn.Write(append(b, '\n')) // a peer that is gone needs no answer
}

func (s *Server) answer(conn *net.UnixConn) (Response, error) {
	cred, err := peer(conn)
	if err != nil {
		return Response{}, fmt.Errorf("who asks is unknown: %w", err)
	}
	if cred.Uid != s.uid {
		return Response{}, fmt.Errorf("user %d may not use the control socket, only user %d may", cred.Uid, s.uid)
	}
	s.mu.Lock()
	if !s.closed {
		conn.SetReadDeadline(time.Now().Add(s.timeout))
	}
	s.mu.Unlock()
	req, err := readRequest(conn)
	if err != nil {
		return Response{}, err
	}
	if req.PID == 0 {
		req.PID = int(cred.Pid)
	}
	return s.do(req)
}

func (s *Server) do(req Request) (resp Response, err error) {
	switch req.Op {
	case OpAnnounce:
		if err = CheckID(req.ID); err != nil {
			return resp, err
		}
		if req.PID <= 0 {
			// The kernel reports pid 0 for a peer in a pid namespace that is not below the daemon's.
			return resp, fmt.Errorf("process %d of container %s is not one that the daemon can see", req.PID, req.ID)
		}
		resp, err = s.handler.Announce(req)
	case OpForget:
		if err = CheckID(req.ID); err != nil {
			return resp, err
		}
		err = s.handler.Forget(req.ID)
	case OpList:
		resp.Containers = s.handler.List()
	case OpPing:
		resp = s.handler.Info()
		resp.PID = os.Getpid()
	default:
		err = fmt.Errorf("unknown operation %q: this daemon knows %s, %s, %s and %s", req.Op, OpAnnounce, OpForget, OpList, OpPing)
	}
	return resp, err
}

// readRequest reads one line of JSON. Fields that it does not know are left alone: a newer peer may send them.
func readRequest(r io.Reader) (Request, error) {
	var req Request
	line, err := bufio.NewReader(io.LimitReader(r, maxRequest)).ReadBytes('\n')
	if err == io.EOF && len(line) == maxRequest {
		return req, fmt.Errorf("request is longer than %d bytes", maxRequest)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return req, errors.New("no whole request came in time: want one line of JSON")
	}
	if err != nil && err != io.EOF {
		return req, fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return req, fmt.Errorf("request is not a line of JSON: %w", err)
	}
	if req.Version < 1 || req.Version > Version {
		return req, fmt.Errorf("message version %d: this daemon speaks 1 to %d", req.Version, Version)
	}
	return req, nil
}

func peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(cerr, err)
}
