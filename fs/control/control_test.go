package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/policy"
)

// registry is a Handler that remembers.
type registry struct {
	mu  sync.Mutex
	ids map[string]int
}

func (r *registry) Announce(req Request) (Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[req.ID] = req.PID
	const cpu = "proc/pressure/cpu"
	view := View{Path: "/mnt/c/" + req.ID, Files: []string{"proc/meminfo", cpu}, Direct: map[string]string{cpu: "/sys/fs/cgroup/a/cpu.pressure"}}
	return Response{View: view, Policy: req.Policy}, nil
}

func (r *registry) Forget(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.ids[id]; !ok {
		return fmt.Errorf("no container %s", id)
	}
	delete(r.ids, id)
	return nil
}

func (r *registry) List() []Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var l []Container
	for id, pid := range r.ids {
		l = append(l, Container{ID: id, PID: pid})
	}
	return l
}

func (r *registry) Info() Response {
	return Response{Mount: "/mnt", Policy: policy.Overrides{"swap": "off"}}
}

func start(t *testing.T, change func(*Server)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new", "control.sock")
	s, err := Listen(path, &registry{ids: map[string]int{}})
	if err != nil {
		t.Fatal(err)
	}
	s.uid = uint32(os.Getuid())
	if change != nil {
		change(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket is left: %v", err)
		}
	})
	return path
}

func TestCall(t *testing.T) {
	ctx, sock := t.Context(), start(t, nil)
	if fi, err := os.Stat(sock); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", fi.Mode(), err)
	}
	if fi, err := os.Stat(filepath.Dir(sock)); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("directory: %v %v", fi.Mode(), err)
	}
	if mount, pid, err := Ping(ctx, sock); mount != "/mnt" || pid != os.Getpid() || err != nil {
		t.Errorf("Ping = %q %d %v", mount, pid, err)
	}
	v, err := Announce(ctx, sock, "a", 0)
	if v.Path != "/mnt/c/a" || len(v.Files) != 2 || v.Direct["proc/pressure/cpu"] != "/sys/fs/cgroup/a/cpu.pressure" || err != nil {
		t.Errorf("Announce = %+v %v", v, err)
	}
	if l, err := List(ctx, sock); len(l) != 1 || l[0].ID != "a" || l[0].PID != os.Getpid() || err != nil {
		t.Errorf("List = %v %v; pid 0 is to be the caller", l, err)
	}
	own := policy.Overrides{"reader": "parent"}
	if resp, err := Call(ctx, sock, Request{Op: OpAnnounce, ID: "a", Policy: own}); err != nil || !maps.Equal(resp.Policy, own) {
		t.Errorf("announcing with a policy: %v %v", resp.Policy, err)
	}
	if resp, err := Call(ctx, sock, Request{Op: OpPing}); err != nil || resp.Policy["swap"] != "off" || resp.PID != os.Getpid() {
		t.Errorf("ping: %+v %v", resp, err)
	}
	if err := Forget(ctx, sock, "a"); err != nil {
		t.Error(err)
	}
	if err := Forget(ctx, sock, "a"); err == nil || !strings.Contains(err.Error(), "no container a") {
		t.Errorf("Forget twice: %v", err)
	}
	if _, err := Announce(ctx, sock, "../x", 0); err == nil || !strings.Contains(err.Error(), `"../x"`) {
		t.Errorf("bad id: %v", err)
	}
	if _, err := Announce(ctx, sock, "x", -3); err == nil || !strings.Contains(err.Error(), "-3") {
		t.Errorf("bad pid: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	sock := start(t, func(s *Server) { s.timeout = 200 * time.Millisecond })
	for name, c := range map[string]struct{ send, want string }{
		"garbage":       {"\x00\xff garbage\n", "not a line of JSON"},
		"empty":         {"\n", "not a line of JSON"},
		"wrong type":    {`{"version":1,"op":7}` + "\n", "not a line of JSON"},
		"oversized":     {strings.Repeat("x", 3*maxRequest), "longer than 65536 bytes"},
		"slow":          {`{"version":1,`, "no whole request"},
		"silent":        {"", "no whole request"},
		"newer version": {`{"version":2,"op":"ping"}` + "\n", "version 2: this daemon speaks 1 to 1"},
		"no version":    {`{"op":"ping"}` + "\n", "version 0"},
		"unknown op":    {`{"version":1,"op":"dance"}` + "\n", `unknown operation "dance": this daemon knows announce, forget, list and ping`},
		"unknown field": {`{"version":1,"op":"ping","later":{"a":1}}` + "\n", `"mount":"/mnt"`},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", sock)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go conn.Write([]byte(c.send))
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			var raw json.RawMessage
			if err := json.NewDecoder(conn).Decode(&raw); err != nil {
				t.Fatal(err)
			}
			var resp Response
			if err := json.Unmarshal(raw, &resp); err != nil || resp.Version != Version {
				t.Errorf("%s: %v", raw, err)
			}
			if !strings.Contains(string(raw)+resp.Error, c.want) {
				t.Errorf("answer %s, want %q", raw, c.want)
			}
		})
	}
}

func TestWrongUser(t *testing.T) {
	sock := start(t, func(s *Server) { s.uid++ })
	_, _, err := Ping(t.Context(), sock)
	if err == nil || !strings.Contains(err.Error(), "may not use the control socket") {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) {
	sock := start(t, nil)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			id := fmt.Sprintf("c%d", i)
			if v, err := Announce(t.Context(), sock, id, i+1); v.Path != "/mnt/c/"+id || err != nil {
				t.Errorf("%+v %v", v, err)
			}
		})
	}
	wg.Wait()
	if l, err := List(t.Context(), sock); len(l) != 64 || err != nil {
		t.Errorf("%d containers, %v", len(l), err)
	}
}

func TestListenStale(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	if _, err := Call(t.Context(), path, Request{Op: OpPing}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("no socket: %v", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("live socket: %v", err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close() // what a killed daemon leaves
	if _, err := Call(t.Context(), path, Request{Op: OpPing}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("stale socket: %v", err)
	}
	s, err := Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, nil); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("plain file: %v", err)
	}
}

func TestCallGivesUp(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // listens and never answers
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := Ping(ctx, ln.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "run-1", "A.b_c-9", strings.Repeat("x", MaxID)} {
		if err := CheckID(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", ".", "..", ".a", "a/b", "a b", "ä", "a\x00", strings.Repeat("x", MaxID+1)} {
		if CheckID(id) == nil {
			t.Errorf("%q passes", id)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, s := range []string{`{"version":1,"op":"ping"}` + "\n", `{"version":1,"op":"announce","id":"a","pid":7}`, "[]", "null\n", `{"version":1e400}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := readRequest(bytes.NewReader(b))
		if err == nil && (req.Version < 1 || req.Version > Version || len(b) > maxRequest && !bytes.Contains(b[:maxRequest], []byte("\n"))) {
			t.Errorf("%q was read as %+v", b, req)
		}
	})
}
