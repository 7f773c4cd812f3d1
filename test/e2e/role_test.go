package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/hooks"
)

// roleEnv makes the test binary play a part inside a container instead of running tests.
const roleEnv = "SCOPEFS_E2E_ROLE"

// The parts. Each returns when its standard input ends or its work is done.
var roles map[string]func(args []string) error

func init() {
	roles = map[string]func([]string) error{
		"init":    playInit,
		"enter":   playEnter,
		"nest":    playNest,
		"below":   playBelow,
		"hook":    playHook,
		"loop":    playLoop,
		"walk":    playWalk,
		"nobody":  playNobody,
		"touch":   playTouch,
		"burn":    playBurn,
		"ways":    playWays,
		"threads": playThreads,
		"counts":  playCounts,
		"thread":  playThread,

		"monitor":  playMonitor,
		"child":    playChild,
		"triggers": playTriggers,
		"hold":     playHold,
		"oomd":     playOomd,
		"reader":   playReader,
		"thrash":   playThrash,
		"churn":    playChurn,
	}
}

func play(role string, args []string) int {
	err := roles[role](args)
	var status *exec.ExitError
	if ok := err != nil && asExit(err, &status); ok {
		return status.ExitCode()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return 1
	}
	return 0
}

func asExit(err error, status **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*status = e
	return ok
}

// orders are what the test tells an init to do.
type orders struct {
	Join []string // cgroup directories to enter
	// View is what to bind; without a path nothing.
	View control.View
	// Sysfs mounts a new sysfs first, over that of the container which this one is in.
	Sysfs bool
	// Hook binds as scopefs' own hook does, else as a runtime does that was given -v.
	Hook bool
	Comm string
	// CgroupNS makes a cgroup namespace, with the cgroup that was joined as its root.
	CgroupNS bool
}

// playInit is the init of a container. It does the orders that come in lines, answers each with "done", and ends with
// its standard input.
func playInit([]string) error {
	runtime.LockOSThread()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if os.Getpid() == 1 {
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mounting /proc: %w", err)
		}
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		go reap()
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o orders
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		if err := o.do(); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return in.Err()
}

func (o *orders) do() error {
	if err := join(o.Join); err != nil {
		return err
	}
	if o.Comm != "" {
		if err := os.WriteFile("/proc/self/comm", []byte(o.Comm), 0); err != nil {
			return err
		}
	}
	if o.CgroupNS {
		// Of all threads, as /proc/PID/ns shows the first one's.
		if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP, 0, 0); errno != 0 {
			return fmt.Errorf("making a cgroup namespace: %w", errno)
		}
	}
	if o.View.Path == "" {
		return nil
	}
	if o.Sysfs {
		if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting /sys: %w", err)
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mounting /sys: %w", err)
		}
	}
	if o.Hook {
		missing, err := hooks.Overlay(o.View, "/")
		if len(missing) > 0 {
			err = fmt.Errorf("the kernel lacks %v", missing)
		}
		return err
	}
	for _, file := range o.View.Files {
		if err := unix.Mount(filepath.Join(o.View.Path, file), "/"+file, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding %s: %w", file, err)
		}
	}
	return nil
}

func join(dirs []string) error {
	for _, dir := range dirs {
		// "0" is the writer, in whatever pid namespace. The kernel refuses a process of which it is just making a thread, as
		// Go's runtime may any time (cpu_cgroup_can_attach, kernel/sched/core.c).
		err := os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0)
		for try := 0; errors.Is(err, unix.EINVAL) && try < 100; try++ {
			time.Sleep(time.Millisecond)
			err = os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reap waits for the orphans that an init is given. It sleeps otherwise, as an idle container does.
func reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for range ended {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// playEnter runs a command in a container: args are the pid of its init, the path of a cgroup ("" for none) and the
// command. It enters the cgroup, the pid namespace and, if there is a / before the pid, not the mount namespace.
func playEnter(args []string) error {
	runtime.LockOSThread() // to the end: the namespaces are this thread's
	if args[1] != "" {
		if err := join((&group{path: args[1]}).dirs()); err != nil {
			return err
		}
	}
	pid, outside := strings.CutPrefix(args[0], "/")
	namespaces := []string{"pid", "mnt"}
	if outside {
		namespaces = namespaces[:1]
	}
	for _, ns := range namespaces {
		fd, err := unix.Open("/proc/"+pid+"/ns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if ns == "mnt" {
			// Threads share their root and working directory, which a mount namespace forbids.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
		}
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("entering the %s namespace: %w", ns, err)
		}
		unix.Close(fd)
	}
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if cmd.Path != selfExe {
		cmd.Env = os.Environ()[:0:0]
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, roleEnv+"=") {
				cmd.Env = append(cmd.Env, v)
			}
		}
	} else {
		cmd.Args = append(cmd.Args[:1], cmd.Args[2:]...)
		cmd.Env = append(os.Environ(), roleEnv+"="+args[3])
	}
	return cmd.Run()
}

// playNest starts the init of a container in the container that it is in.
func playNest([]string) error {
	cmd := exec.Command(selfExe)
	cmd.Env = append(os.Environ(), roleEnv+"=init")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	return cmd.Run()
}

// playBelow runs a program as the init of a pid namespace and in a mount namespace of its own.
func playBelow(args []string) error {
	if os.Getpid() == 1 {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return err
		}
		return syscall.Exec(args[0], args, os.Environ())
	}
	runtime.LockOSThread() // the child dies with this thread
	cmd := exec.Command(selfExe, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	return cmd.Run()
}

// playNobody runs a command as the user nobody.
func playNobody(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd.Run()
}

// selfExe is the test binary in every mount namespace.
const selfExe = "/proc/self/exe"

// playTouch maps memory, says so, uses it when it gets a line, says so, and keeps it until its input ends.
func playTouch(args []string) error {
	bytes, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	for i := 0; i < len(mem); i += os.Getpagesize() {
		mem[i] = byte(i>>12) | 1
	}
	fmt.Println("touched")
	_, err = io.Copy(io.Discard, in)
	runtime.KeepAlive(mem)
	return err
}

// playBurn keeps as many threads busy as its argument says until its input ends.
func playBurn(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(n + 2)
	for range n {
		go func() {
			runtime.LockOSThread()
			for i := 0; ; i++ {
			}
		}()
	}
	fmt.Println("burning")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// playThread reads files from a thread that is not its process's first.
func playThread(args []string) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		for syscall.Gettid() == syscall.Getpid() {
			// The first thread: stay on it, and do the work from another.
			next := make(chan error)
			go func() { next <- playThread(args) }()
			result <- <-next
			return
		}
		for _, path := range args {
			text, err := os.ReadFile(path)
			if err != nil {
				result <- err
				return
			}
			_, _ = os.Stdout.Write(text)
		}
		result <- nil
	}()
	return <-result
}
