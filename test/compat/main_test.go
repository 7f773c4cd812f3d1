package compat

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/hooks"
)

var update = flag.Bool("update", false, "write docs/compat.md")

// roleEnv makes the test binary play a part in a container instead of running tests.
const roleEnv = "SCOPEFS_COMPAT_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
	case "hook":
		if err := playHook(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "hook:", err)
			os.Exit(1)
		}
		return
	case "go":
		playGo()
		return
	default:
		fmt.Fprintln(os.Stderr, "no such role:", role)
		os.Exit(2)
	}
	flag.Parse()
	if os.Getenv("SCOPEFS_VM") != "" {
		fmt.Println("SKIP: a guest has no root file systems with these programs")
		return
	}
	if err := runnable(); err != nil {
		if os.Getenv("CI") != "" || *update {
			fmt.Println("FAIL: the programs cannot be run here:", err)
			os.Exit(1)
		}
		fmt.Println("SKIP: the programs cannot be run here:", err)
		return
	}
	os.Exit(m.Run())
}

func runnable() error {
	if os.Geteuid() != 0 {
		return errors.New("they run in containers, which needs root")
	}
	for _, program := range []string{"runc", "mmdebstrap", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// playHook is an OCI hook of the time before pivot_root: it announces the container whose state comes on its input, and
// binds its files below the root.
func playHook(socket, root string) error {
	var state struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	view, err := control.Announce(ctx, socket, state.ID, state.PID)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", state.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return err
	}
	_, err = hooks.Overlay(view, root)
	return err
}

// playGo is the Go program among the clients.
func playGo() {
	fmt.Println("NumCPU", runtime.NumCPU())
	fmt.Println("GOMAXPROCS", runtime.GOMAXPROCS(0))
	fmt.Println("GOMEMLIMIT", debug.SetMemoryLimit(-1))
}

// scopefs builds the program under test, unless $SCOPEFS_BIN names it.
func scopefs(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SCOPEFS_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "scopefs")
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/scopefs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building scopefs: %v\n%s", err, out)
	}
	return path
}
