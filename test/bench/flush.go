package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// runFlush reads the memory of a cgroup with many below it. The kernel counts by CPU and adds up what has changed below
// when memory.stat is read.
func runFlush(b *bench) error {
	defer b.closeTo(b.mark())
	if _, ok := controllerOf("memory"); !ok {
		b.logf("no memory controller: left out")
		return nil
	}
	sizes := pick(b, []int{1, 500, 2000}, []int{1, 4})
	ways, err := b.startWays(own, ownFresh, lxcfs)
	if err != nil {
		return err
	}
	parent, err := b.newGroup(nil)
	if err != nil {
		return err
	}
	var sources []source
	if cgroupLayout() == "v2" {
		b.logf("on cgroup v2 no process can be in a cgroup that hands memory down: only the kernel's file is measured")
	} else {
		c, err := b.startContainer(parent)
		if err != nil {
			return err
		}
		for _, w := range ways {
			dir, err := w.tree(b, c.id, c.pid())
			if err != nil {
				return err
			}
			s, err := bindIn(c, w.variant, w.variant, dir, nil, mainFiles)
			if err != nil {
				return err
			}
			sources = append(sources, s)
		}
	}
	h := &herd{name: "charged", parent: parent, threads: 1}
	for _, n := range sizes {
		if err := h.grow(b, n, (*idler).charge); err != nil {
			return err
		}
		b.logf("%d cgroups", n)
		if err := b.flushes(h); err != nil {
			return err
		}
		stop := h.churn(b)
		err := b.p50Rounds(sources, filesNamed("meminfo")[0], freeCPU, pick(b, 5, 2), pick(b, 500, 10), Params{"cgroups": strconv.Itoa(n)})
		if err := stop(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	return b.checkFallbacks(ways)
}

// What has happened before a read of memory.stat.
const (
	nothingCharged = "memory.stat, nothing charged"
	allCharged     = "memory.stat, all charged"
)

// flushes times single reads of memory.stat: nothing having changed since the last one, and every cgroup's memory.
func (b *bench) flushes(h *herd) error {
	hierarchy, _ := controllerOf("memory")
	fd, err := unix.Open(filepath.Join(hierarchy.dir, h.parent.path, "memory.stat"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, readSize)
	read := func() (float64, error) {
		begun := time.Now()
		_, err := unix.Pread(fd, buf, 0)
		return micros(time.Since(begun)), err
	}
	p := Params{"cgroups": strconv.Itoa(len(h.idlers))}
	for _, name := range []string{nothingCharged, allCharged} {
		var took []float64
		for range pick(b, 15, 2) {
			if name == allCharged {
				if err := inParallel(herdHands, h.idlers, (*idler).charge); err != nil {
					return err
				}
			}
			us, err := read()
			if err != nil {
				return &os.PathError{Op: "read", Path: h.parent.path + "/memory.stat", Err: err}
			}
			took = append(took, us)
		}
		b.record(Measurement{Name: name, Unit: "µs", Params: p, Rounds: took})
	}
	return nil
}

// charge has the container use some memory for a moment.
func (i *idler) charge() error {
	if err := i.tell("(:)"); err != nil {
		return err
	}
	return i.wait()
}

// churnRate is how often in a second one of a herd's containers is charged.
const churnRate = 1000

// churn charges one container after the other until it is stopped.
func (h *herd) churn(b *bench) (stop func() error) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		tick := time.NewTicker(time.Second / churnRate)
		defer tick.Stop()
		for i := 0; err == nil; i++ {
			select {
			case <-over:
				return
			case <-tick.C:
				err = h.idlers[i%len(h.idlers)].charge()
			}
		}
	})
	return func() error {
		close(over)
		wg.Wait()
		return err
	}
}

func reportFlush(r *Result, p *page) {
	sizes := r.values("flush", "cgroups")
	p.text("Time in µs to read the memory of a container with so many cgroups below it, each with a process. memory.stat: one read of the kernel's file, when nothing has changed since "+
		"the last and when each cgroup has just been charged. meminfo: p50 / p99 while %d times a second one of the cgroups is charged.", churnRate)
	t := p.table(append([]string{"read"}, sizes...)...)
	for _, name := range []string{nothingCharged, allCharged} {
		row := []string{name}
		for _, n := range sizes {
			m := r.find("flush", name, Params{"cgroups": n})
			row = append(row, fmt.Sprintf("%s, at most %s", number(m.Value, true), number(most(m.Rounds), true)))
		}
		t.row(row...)
	}
	for _, v := range r.values("flush", "variant") {
		row := []string{"meminfo, " + v}
		for _, n := range sizes {
			q := Params{"cgroups": n, "file": "meminfo", "variant": v, "placement": freeCPU}
			row = append(row, number(r.value("flush", "p50", q))+" / "+number(r.value("flush", "p99", q)))
		}
		t.row(row...)
	}
}
