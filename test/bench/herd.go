package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// idler is a container that costs almost nothing, some 60 kB of memory: in its cgroups and pid namespace a shell waits
// for what it is told to run.
type idler struct {
	*process
	id    string
	group *group
	reads bool // it is no shell, but reads files
}

// herd is a growing number of idlers below one cgroup.
type herd struct {
	name    string
	parent  *group
	threads int // of each container's one process; above 1 it is no shell
	idlers  []*idler
}

// startHerd begins a herd without containers.
func (b *bench) startHerd(name string, threads int) (*herd, error) {
	parent, err := b.newGroup(nil)
	return &herd{name: name, parent: parent, threads: threads}, err
}

// herdHands is how many containers are started at once: the kernel makes each wait when it enters a cgroup.
const herdHands = 4

// grow starts containers until there are n, and does first in each new one; first is called from several goroutines.
func (h *herd) grow(b *bench, n int, first func(*idler) error) error {
	from := len(h.idlers)
	for len(h.idlers) < n {
		g, err := b.newGroup(h.parent)
		if err != nil {
			return err
		}
		h.idlers = append(h.idlers, &idler{id: fmt.Sprintf("%s-%d", h.name, len(h.idlers)), group: g})
	}
	added := h.idlers[from:]
	b.onClose(func() {
		for _, i := range added {
			if i.process != nil {
				_ = i.cmd.Process.Kill() // all at once, and then wait
			}
		}
		for _, i := range added {
			if i.process != nil {
				i.end(syscall.SIGKILL)
			}
		}
	})
	return inParallel(herdHands, added, func(i *idler) error {
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if err := i.start(b, h.threads); err != nil {
			return err
		}
		return first(i)
	})
}

// inParallel does f for all of the list, so many at once, and stops at errors.
func inParallel[T any](hands int, list []T, f func(T) error) error {
	var wg sync.WaitGroup
	errs := make([]error, hands)
	for h := range hands {
		wg.Go(func() {
			for i := h; i < len(list) && errs[h] == nil; i += hands {
				errs[h] = f(list[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the others say the same
		}
	}
	return nil
}

func (i *idler) start(b *bench, threads int) (err error) {
	cmd := exec.Command("busybox", "sh")
	if i.reads = threads > 1; i.reads {
		cmd = roleCommand(roleThreads, strconv.Itoa(threads))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if i.process, err = start(b.ctx, i.id, false, cmd); err != nil {
		return err
	}
	if i.reads {
		if err := i.wait(); err != nil {
			return err
		}
	}
	return i.group.add(i.pid())
}

// read has the container read files and waits for the end of it.
func (i *idler) read(paths ...string) error {
	question := strings.Join(paths, " ")
	if !i.reads {
		question = "busybox cat " + question + " >/dev/null"
	}
	if err := i.tell(question); err != nil {
		return err
	}
	return i.wait()
}

// tell begins to run a script in the container's shell, wait waits for its end.
func (i *idler) tell(script string) error {
	if !i.reads {
		script += "\necho $?"
	}
	_, err := fmt.Fprintln(i.in, script)
	return err
}

func (i *idler) wait() error {
	var status int
	if err := i.receive(&status); err != nil {
		return err
	}
	if status != 0 {
		return i.failed(fmt.Errorf("status %d", status))
	}
	return nil
}

// add moves a process into the cgroup.
func (g *group) add(pid int) error {
	for _, dir := range g.dirs() {
		if err := enter(dir, strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// playThreads is the one process of an idle container, with as many threads as its argument says. It reads the files
// that a line of its input names, and prints 0 when it has begun and after each line.
func playThreads() error {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	for {
		// Go has some threads of its own.
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		if len(tasks) >= n {
			break
		}
		there := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(there)
			select {}
		}()
		<-there
	}
	fmt.Println(0)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		for path := range strings.FieldsSeq(in.Text()) {
			if _, err := os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Println(0)
	}
	return in.Err()
}
