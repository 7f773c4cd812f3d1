package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/hooks"
)

const rootfsName = "rootfs"

// busyboxRoot is a root file system with nothing but busybox.
var busyboxRoot = sync.OnceValues(func() (string, error) {
	root := filepath.Join(base, rootfsName)
	for _, dir := range []string{"bin", "dev", "proc", "sys", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755); err != nil {
		return "", err
	}
	for _, applet := range []string{"sh", "cat", "free", "top", "sleep", "head", "grep"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			return "", err
		}
	}
	return root, nil
})

// hostRoot is the host's root file system at another place, without what is mounted in it.
func hostRoot(t *testing.T) string {
	t.Helper()
	dir := scratch(t)
	if err := unix.Mount("/", dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startRunc runs a container by runc. From the compat tree its files are spec mounts, as `docker run -v` makes them;
// from its own subtree they are put there by an OCI hook.
func startRunc(t *testing.T, d *daemon, g *group, root string, bind bindKind) *container {
	t.Helper()
	need(t, "runc")
	c := &container{t: t, group: g, id: fmt.Sprintf("e2e-%d", lastContainer.Add(1))}
	bundle := scratch(t)
	output(t, "runc", "spec", "--bundle", bundle)
	config := filepath.Join(bundle, "config.json")
	var spec map[string]any
	if err := json.Unmarshal([]byte(readString(t, config)), &spec); err != nil {
		t.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"] = false
	process["args"] = []string{"busybox", "sleep", "100000"}
	delete(process, "rlimits")
	spec["root"] = map[string]any{"path": root, "readonly": true}
	linux := spec["linux"].(map[string]any)
	linux["cgroupsPath"] = g.path
	if bind == compatTree {
		mounts := spec["mounts"].([]any)
		for _, file := range boundFiles() {
			if strings.HasPrefix(file, "proc/pressure/") || file == "proc/vmstat" {
				continue // runc lets a hook cover these, but no mount of the spec
			}
			mounts = append(mounts, map[string]any{
				"destination": "/" + file, "source": filepath.Join(d.compat, file), "type": "bind", "options": []string{"bind", "ro"},
			})
		}
		spec["mounts"] = mounts
	} else {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		spec["hooks"] = map[string]any{"prestart": []any{map[string]any{
			"path": self, "args": []string{"hook", d.socket, root}, "env": []string{roleEnv + "=hook"}, "timeout": int(timeout(patience).Seconds()),
		}}}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o644); err != nil {
		t.Fatal(err)
	}

	state := filepath.Join(bundle, "state")
	log, err := os.Create(filepath.Join(bundle, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command("runc", "--root", state, "run", "--detach", "--bundle", bundle, "--pid-file", bundle+"/pid", c.id)
	// The container keeps these, so they are no pipes to be waited for.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, log, log
	t.Cleanup(func() {
		if _, err := start(t, patience, exec.Command("runc", "--root", state, "delete", "--force", c.id)).result(); err != nil {
			t.Error(err)
		}
	})
	if _, err := start(t, patience, cmd).result(); err != nil {
		t.Fatalf("%v\n%s", err, readString(t, log.Name()))
	}
	if c.pid, err = strconv.Atoi(readString(t, bundle+"/pid")); err != nil {
		t.Fatal(err)
	}
	c.exec = func(args ...string) *exec.Cmd {
		return exec.Command("runc", append([]string{"--root", state, "exec", c.id}, args...)...)
	}
	return c
}

// playHook is an OCI hook of the time before pivot_root: it announces the container whose state comes on its input, and
// binds its files below the root. The arguments are the control socket and the root.
func playHook(args []string) error {
	var state struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		return err
	}
	ctx, cancel := contextFor(patience)
	defer cancel()
	v, err := control.Announce(ctx, args[0], state.ID, state.PID)
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
	_, err = hooks.Overlay(v, args[1])
	return err
}

// hold100 keeps 100 MiB in use by dd's buffer: its reader takes one byte, says so and waits.
const hold100 = `exec 3<&0; busybox dd if=/dev/zero bs=104857600 count=1 status=none | { busybox head -c 1 >/dev/null; echo touched; read x <&3; }`

// TestRunc runs what people run in containers of runc: busybox's root, and the host's with procps, Python and Node.
func TestRunc(t *testing.T) {
	t.Parallel()
	need(t, "runc")
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name+" busybox", func(t *testing.T) {
			root, err := busyboxRoot()
			if err != nil {
				t.Fatal(err)
			}
			c := startRunc(t, d, smallGroup(t), root, bind)
			checkSmall(t, c)
			if out := start(t, patience, c.exec("free", "-m")).wait(); !strings.Contains(out, "Mem:") {
				t.Errorf("free: %s", out)
			}
			is(t, "runc exec", start(t, patience, c.exec("cat", "/proc/meminfo")).wait(), 256)
			before := c.meminfo()
			eater := start(t, patience, c.command("busybox", "sh", "-c", hold100))
			eater.expect("touched")
			if grown := c.meminfo().used() - before.used(); !near(grown, 100*miB, 5*miB) {
				t.Errorf("100 MiB touched, used grew by %d kB", grown/kiB)
			}
			eater.kill()
			c.group.memory(200 * miB)
			is(t, "runc exec after a resize", start(t, patience, c.exec("cat", "/proc/meminfo")).wait(), 200)
		})
		t.Run(name+" host's root", func(t *testing.T) {
			if inVM {
				t.Skip("the guest's root is a ramdisk that cannot be pivoted to")
			}
			c := startRunc(t, d, smallGroup(t), hostRoot(t), bind)
			checkPrograms(t, c)
			if out := start(t, timeout(patience), c.exec("free", "-b")).wait(); !strings.Contains(out, " 268435456 ") {
				t.Errorf("free -b by runc exec: %s", out)
			}
		})
	}
}

// runSmall are the flags of `scopefs run` for a container like one in a smallGroup.
var runSmall = []string{"--memory", "256M", "--swap", "64M", "--cpus", "1.5", "--cpuset", "0-1"}

// TestRun runs every command in a throw-away container of its own.
func TestRun(t *testing.T) {
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	d := startDaemon(t)
	throwAway := func(socket string) *container {
		return &container{t: t, exec: func(args ...string) *exec.Cmd {
			flags := append([]string{"run", "--socket", socket}, runSmall...)
			return exec.Command(scopefs, append(append(flags, "--"), args...)...)
		}}
	}
	t.Run("running daemon", func(t *testing.T) {
		c := throwAway(d.socket)
		checkSmall(t, c)
		checkPrograms(t, c)
	})
	t.Run("private daemon", func(t *testing.T) {
		c := throwAway(filepath.Join(scratch(t), "none.sock"))
		for file := range files {
			if err := whole(file, c.read(file)); err != nil {
				t.Error(err)
			}
		}
		is(t, "the command", c.read("proc/meminfo"), 256)
	})
	t.Run("status", func(t *testing.T) {
		c := throwAway(d.socket)
		for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137} {
			p := start(t, patience, c.command("busybox", "sh", "-c", "trap - TERM; busybox sh -c '"+script+"'; exit $?"))
			_, err := p.result()
			if got := p.cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("%s: status %d, want %d: %v", script, got, want, err)
			}
		}
	})
	t.Run("killed", func(t *testing.T) {
		// What a killed run leaves goes with the next one at the latest; the leak check of the suite sees to it.
		p := start(t, patience, throwAway(d.socket).command("busybox", "sh", "-c", "echo on; busybox sleep 1000"))
		p.expect("on")
		p.kill()
		throwAway(d.socket).run("busybox", "true")
		time.Sleep(100 * time.Millisecond)
		list, err := control.List(t.Context(), d.socket)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(timeout(10 * time.Second)); len(list) > 0; time.Sleep(100 * time.Millisecond) {
			if list, err = control.List(t.Context(), d.socket); err != nil || time.Now().After(deadline) {
				t.Fatalf("still announced: %v, %v", list, err)
			}
		}
	})
}
