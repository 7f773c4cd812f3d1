package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// base holds every file that the suite makes.
	base string
	// scopefs is the program under test.
	scopefs string
	// inVM says that this is a guest of test/vm, which is some ten times slower.
	inVM = os.Getenv("SCOPEFS_VM") != ""
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	flag.Parse()
	if err := runnable(); err != nil {
		if os.Getenv("CI") != "" {
			fmt.Println("FAIL: the end-to-end tests cannot run here:", err)
			os.Exit(1)
		}
		fmt.Println("SKIP: the end-to-end tests cannot run here:", err)
		os.Exit(0)
	}
	os.Exit(run(m))
}

func runnable() error {
	if os.Geteuid() != 0 {
		return errors.New("they make containers, so they need root")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func run(m *testing.M) int {
	// Tests mostly wait: for a burn, for the next step of the load averages, for the other side of a pipe.
	parallel := flag.Lookup("test.parallel")
	if parallel.Value.String() == parallel.DefValue {
		_ = flag.Set("test.parallel", "6")
	}
	before, err := takeInventory()
	if err == nil {
		base, err = os.MkdirTemp("", "scopefs-e2e-")
	}
	if err == nil {
		scopefs, err = findScopefs()
	}
	if err == nil {
		err = adoptOrphans()
	}
	if err != nil {
		fmt.Println("FAIL:", err)
		return 1
	}
	code := m.Run()
	if left := before.left(); len(left) > 0 {
		code = 1
		fmt.Println("FAIL: the tests left behind:")
		for _, l := range left {
			fmt.Println("\t" + l)
		}
	}
	_ = os.RemoveAll(base)
	return code
}

// findScopefs is the program that the environment names, the guest's, or one that is built now.
func findScopefs() (string, error) {
	if path := os.Getenv("SCOPEFS_BIN"); path != "" {
		return filepath.Abs(path)
	}
	if inVM {
		return exec.LookPath("scopefs")
	}
	return build("scopefs", "CGO_ENABLED=0")
}

// build builds the command into base; env and flags are the go tool's.
func build(name, env string, flags ...string) (string, error) {
	path := filepath.Join(base, name)
	args := append(append([]string{"build"}, flags...), "-o", path, "../../cmd/scopefs")
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return path, nil
}

// scale multiplies every timeout.
var scale = sync.OnceValue(func() float64 {
	if s, err := strconv.ParseFloat(os.Getenv("SCOPEFS_E2E_SCALE"), 64); err == nil && s > 0 {
		return s
	}
	if inVM {
		return 10
	}
	return 1
})

// timeout is d, scaled.
func timeout(d time.Duration) time.Duration { return time.Duration(float64(d) * scale()) }

// fewer is how often to repeat something: n times, in a VM a tenth of that.
func fewer(n int) int {
	if inVM {
		return max(1, n/10)
	}
	return n
}

// scratch is a directory for the time of the test. It is removed after all that was registered later, and refuses to be
// while something is mounted below it.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(base, "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range mountsBelow(dir) {
			t.Errorf("%s is still mounted", m)
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// report writes a measured number into the log and the file $SCOPEFS_E2E_REPORT.
func report(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("SCOPEFS_E2E_REPORT")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s: %s\n", t.Name(), line); err != nil {
		t.Error(err)
	}
}
