package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/scopefs/scopefs/fs/control"
	"golang.org/x/sys/unix"
)

// session is what one run made on the host. Each has a directory with a lock file that the run holds for as long as it
// lives; one whose lock is free was killed, and the next run ends it by the same close.
type session struct {
	base    string
	id      string
	lock    *os.File
	private *Private // nil: a running daemon serves it, or none any more
	state
}

// state is the part of a session that its successor needs.
type state struct {
	Cgroup string // "" while there is none
	Socket string // of the daemon that may know the container
}

func (s *session) dir() string { return filepath.Join(s.base, s.id) }

// newSession makes a session with a fresh id below base, and ends those that were left behind.
func newSession(base string) (*session, error) {
	// Others pass through the parent, to the daemon's mount.
	err := os.MkdirAll(filepath.Dir(base), 0o755)
	if err == nil {
		err = os.MkdirAll(base, 0o700)
	}
	if err != nil {
		return nil, err
	}
	var random [5]byte
	rand.Read(random[:])
	s := &session{base: base, id: "run-" + hex.EncodeToString(random[:])}
	var stale []*session
	// Under the lock no session is half made, so one without a locked lock file is dead.
	err = withLock(base, func() (err error) {
		if stale, err = claimStale(base); err != nil {
			return err
		}
		if err := os.Mkdir(s.dir(), 0o700); err != nil {
			return err
		}
		if s.lock, err = lockFile(filepath.Join(s.dir(), "lock")); err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir()))
		}
		return err
	})
	for _, old := range stale {
		if err := old.close(); err != nil {
			slog.Warn("a run that was killed could not be cleared up", "container", old.id, "err", err)
		}
	}
	return s, err
}

// withLock calls f while no other run is between the same two points.
func withLock(base string, f func() error) error {
	dir, err := os.Open(base)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", base, err)
		}
		return f()
	}
}

// lockFile opens and locks path, or fails at once if another process holds it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// claimStale returns the sessions below base that nobody holds, and holds them.
func claimStale(base string) ([]*session, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, err
	}
	var stale []*session
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		s := &session{base: base, id: e.Name()}
		if s.lock, err = lockFile(filepath.Join(s.dir(), "lock")); err != nil {
			continue
		}
		// A run that was killed before it wrote the state has made no cgroup.
		if b, err := os.ReadFile(filepath.Join(s.dir(), "state.json")); err == nil {
			if err := json.Unmarshal(b, &s.state); err != nil {
				slog.Warn("reading what a killed run left", "file", s.dir()+"/state.json", "err", err)
			}
		}
		stale = append(stale, s)
	}
	return stale, nil
}

// save writes down what close needs; it comes before what it tells of is made.
func (s *session) save() error {
	b, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir(), "state.json"), b, 0o600)
}

// close removes all that the session made, and says what is left.
func (s *session) close() error {
	var errs []error
	if s.Cgroup != "" {
		if err := removeGroup(s.Cgroup); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, withLock(s.base, func() error { removeRootGroup(); return nil }))
	}
	if s.Socket != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		// A daemon that is gone, or that noticed the container's end by itself, has nothing to forget.
		_ = control.Forget(ctx, s.Socket, s.id)
	}
	if s.private != nil {
		s.private.Stop()
	}
	if err := unmountBelow(s.dir()); err != nil {
		errs = append(errs, err) // removing the directory would remove what is mounted
	} else if err := os.RemoveAll(s.dir()); err != nil {
		errs = append(errs, err)
	}
	s.lock.Close()
	return errors.Join(errs...)
}

// unmountBelow detaches every mount below dir. It reads the mount table rather than the mounts: who looks into a FUSE
// mount whose daemon hangs, hangs too.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return &os.PathError{Op: "umount", Path: m.Mountpoint, Err: err}
		}
	}
	return nil
}
