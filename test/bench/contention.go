package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// floodThreads is how many threads of one container read as fast as they can.
const floodThreads = 64

// runContention reads meminfo in one container while it is alone and while another floods the same daemon.
func runContention(b *bench) error {
	defer b.closeTo(b.mark())
	ways, err := b.startWays(own, ownFresh, lxcfs)
	if err != nil {
		return err
	}
	c, err := b.newContainer()
	if err != nil {
		return err
	}
	g, err := b.newGroup(nil)
	if err != nil {
		return err
	}
	flooder, err := b.startFlooder(g)
	if err != nil {
		return err
	}
	meminfo := filesNamed("meminfo")
	machine, err := bindIn(c, kernel, kernel, "/", nil, meminfo)
	if err != nil {
		return err
	}
	type measured struct{ p50, p99, longest, rate []float64 }
	results := map[[3]string]*measured{} // by reader, flood and its state
	var order [][3]string
	read := func(s source, flood, state string, count int) (*measured, error) {
		l, err := c.latency(latencyOrder{Path: filepath.Join(s.dir, "meminfo"), Count: count, Warm: 10, CPUs: allCPUs})
		if err != nil {
			return nil, err
		}
		key := [3]string{s.variant, flood, state}
		m := results[key]
		if m == nil {
			m = new(measured)
			results[key], order = m, append(order, key)
		}
		m.p50, m.p99, m.longest = append(m.p50, l.P50/1000), append(m.p99, l.P99/1000), append(m.longest, l.Max/1000)
		return m, nil
	}
	sources, floods := map[string]source{}, map[string]string{}
	for _, w := range ways {
		dir, err := w.tree(b, c.id, c.pid())
		if err != nil {
			return err
		}
		flooded, err := w.tree(b, flooder.id, flooder.pid())
		if err != nil {
			return err
		}
		if sources[w.variant], err = bindIn(c, w.variant, w.variant, dir, nil, meminfo); err != nil {
			return err
		}
		floods[w.variant] = flooded + "/proc/meminfo"
	}
	for round := range pick(b, 7, 2) {
		for _, w := range rotated(ways, round) {
			for _, s := range []source{machine, sources[w.variant]} {
				if _, err := read(s, w.variant, "quiet", pick(b, 2000, 20)); err != nil {
					return err
				}
			}
			if err := flooder.begin(floods[w.variant]); err != nil {
				return err
			}
			if err := b.sleep(pick(b, 300*time.Millisecond, 10*time.Millisecond)); err != nil {
				return err
			}
			for _, s := range []source{machine, sources[w.variant]} {
				if _, err := read(s, w.variant, "flood", pick(b, 300, 5)); err != nil {
					return err
				}
			}
			rate, err := flooder.end()
			if err != nil {
				return err
			}
			m := results[[3]string{w.variant, w.variant, "flood"}]
			m.rate = append(m.rate, rate)
		}
	}
	for _, key := range order {
		m, p := results[key], Params{"reads": key[0], "flood": key[1], "state": key[2]}
		b.record(Measurement{Name: "p50", Unit: "µs", Params: p, Rounds: m.p50})
		b.record(Measurement{Name: "p99", Unit: "µs", Params: p, Rounds: m.p99})
		b.record(Measurement{Name: "max", Unit: "µs", Params: p, Rounds: m.longest})
		if m.rate != nil {
			b.record(Measurement{Name: "flood", Unit: "reads/s", Params: p, Rounds: m.rate})
		}
	}
	return b.checkFallbacks(ways)
}

// flooder is a container that reads one file with many threads, now and then.
type flooder struct{ idler }

func (b *bench) startFlooder(g *group) (*flooder, error) {
	f := &flooder{idler{id: b.unique("flood"), group: g}}
	cmd := roleCommand(roleFlood, strconv.Itoa(floodThreads))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	var err error
	if f.process, err = start(b.ctx, f.id, false, cmd); err != nil {
		return nil, err
	}
	b.onClose(func() { f.process.end(syscall.SIGKILL) })
	if err := f.wait(); err != nil {
		return nil, err
	}
	return f, g.add(f.pid())
}

// begin begins a flood, end ends it and says how many reads a second there were.
func (f *flooder) begin(path string) error {
	_, err := fmt.Fprintln(f.in, path)
	return err
}

func (f *flooder) end() (rate float64, err error) {
	if _, err := fmt.Fprintln(f.in); err != nil {
		return 0, err
	}
	return rate, f.receive(&rate)
}

// playFlood has as many threads as its argument says read the file that a line of its input names, until the next line,
// and prints how often they did in a second.
func playFlood() error {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	// A thread for each and for this one, so that none waits for another but in the kernel.
	runtime.GOMAXPROCS(n + 1)
	debug.SetGCPercent(-1)
	fmt.Println(0)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		path := in.Text()
		var over atomic.Bool
		var reads atomic.Int64
		var failed atomic.Uint64
		var wg sync.WaitGroup
		begun := time.Now()
		for range n {
			r, err := newReader(path)
			if err != nil {
				return err
			}
			wg.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				for { // once at least, however short the flood is
					if errno := r.once(); errno != 0 {
						failed.Store(uint64(errno))
						return
					}
					if reads.Add(1); over.Load() {
						return
					}
				}
			})
		}
		in.Scan()
		over.Store(true)
		wg.Wait()
		if errno := failed.Load(); errno != 0 {
			return &os.PathError{Op: "read", Path: path, Err: syscall.Errno(errno)}
		}
		fmt.Println(float64(reads.Load()) / time.Since(begun).Seconds())
	}
	return in.Err()
}

func reportContention(r *Result, p *page) {
	p.text("Reads of meminfo in one container, in µs, alone and while another container of the same daemon reads meminfo with %d threads as fast as it can. "+
		"Nothing is pinned. The kernel's file, which no daemon serves, shows how much of it is the wait for a CPU.", floodThreads)
	t := p.table("file", "flooded", "quiet p50", "p99", "max", "flood p50", "p99", "max", "p99 ÷ quiet", "flood, reads/s")
	for _, flood := range r.values("contention", "flood") {
		for _, v := range []string{flood, kernel} {
			quiet := Params{"reads": v, "flood": flood, "state": "quiet"}
			busy := quiet.with(Params{"state": "flood"})
			row := []string{v, flood}
			for _, q := range []Params{quiet, busy} {
				for _, name := range []string{"p50", "p99"} {
					row = append(row, number(r.value("contention", name, q)))
				}
				longest := 0.
				if m := r.find("contention", "max", q); m != nil {
					longest = most(m.Rounds)
				}
				row = append(row, number(longest, true))
			}
			row = append(row, times(r.ratio("contention", "p99", busy, quiet)))
			t.row(append(row, number(r.value("contention", "flood", busy)))...)
		}
	}
}

func contentionBudgets(r *Result) []Budget {
	var list []Budget
	for _, v := range []string{own, ownFresh} {
		quiet := Params{"reads": v, "flood": v, "state": "quiet"}
		if ratio, ok := r.ratio("contention", "p99", quiet.with(Params{"state": "flood"}), quiet); ok {
			list = append(list, budget("a neighbour's p99, "+v+", under a flood ÷ quiet", ratio, 5, "×"))
		}
	}
	return list
}
