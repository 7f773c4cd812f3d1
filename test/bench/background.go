package main

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// runBackground watches daemons whose containers do nothing, each having read loadavg once, which makes its load average
// be kept from then on.
func runBackground(b *bench) error {
	defer b.closeTo(b.mark())
	containers := pick(b, 500, 4)
	type watched struct {
		*daemon
		params Params
		before time.Duration
	}
	var list []*watched
	threads := pick(b, 20, 8)
	for _, of := range []struct {
		containers, threads int
		wakes               string
	}{{0, 0, never}, {containers, 1, never}, {containers, threads, never}, {containers, threads, onceAMinute}} {
		ways, err := b.startWays(own, lxcfs)
		if err != nil {
			return err
		}
		for _, w := range ways {
			p := Params{"variant": w.variant, "containers": strconv.Itoa(of.containers), "threads": strconv.Itoa(of.threads), "wakes": of.wakes}
			list = append(list, &watched{daemon: w.daemon, params: p})
		}
		if of.containers == 0 {
			continue
		}
		h, err := b.startHerd(b.unique("idle"), of.threads)
		if err != nil {
			return err
		}
		b.logf("%d containers of %d threads", of.containers, of.threads)
		err = h.grow(b, of.containers, func(i *idler) error {
			var paths []string
			for _, w := range ways {
				dir, err := w.tree(b, i.id, i.pid())
				if err != nil {
					return err
				}
				paths = append(paths, dir+"/proc/loadavg")
			}
			if err := i.read(paths...); err != nil || of.threads == 1 || of.wakes != never {
				return err
			}
			return i.cmd.Process.Signal(syscall.SIGSTOP)
		})
		if err != nil {
			return err
		}
		if err := b.checkFallbacks(ways); err != nil {
			return err
		}
	}
	// What daemons keep for a while after a read is over by then.
	quiet, window := pick(b, 65*time.Second, 100*time.Millisecond), pick(b, 40*time.Second, 500*time.Millisecond)
	if err := b.sleep(quiet); err != nil {
		return err
	}
	var err error
	for _, w := range list {
		if w.before, err = w.cpuTime(); err != nil {
			return err
		}
	}
	begun := time.Now()
	if err := b.sleep(window); err != nil {
		return err
	}
	for _, w := range list {
		after, err := w.cpuTime()
		if err != nil {
			return err
		}
		// The clocks are read one after the other, in microseconds.
		percent := 100 * float64(after-w.before) / float64(time.Since(begun))
		b.record(Measurement{Name: "CPU", Unit: "%", Params: w.params, Rounds: []float64{percent}})
	}
	for _, w := range list {
		if err := b.recordFootprint(w.daemon, w.params); err != nil {
			return err
		}
	}
	return nil
}

// How often a process does something. That of many threads is Go's, whose runtime looks after itself once a minute for
// some microseconds unless it is stopped.
const (
	never       = "never"
	onceAMinute = "once a minute"
)

// sleep waits for a while or until the benchmark is interrupted.
func (b *bench) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

func reportBackground(r *Result, p *page) {
	p.text("CPU of the daemon, in %% of one CPU, while nobody reads: 0 containers, and many with one idle process of so many threads, in each of which loadavg was read once, a minute before. " +
		"Processes that wake up do so for some microseconds.")
	t := p.table(append([]string{"containers × threads", "wake up", "daemon", "CPU, %"}, footprintColumns...)...)
	for _, m := range r.Measurements {
		if m.Section != "background" || m.Name != "CPU" {
			continue
		}
		row := []string{m.Params["containers"] + " × " + m.Params["threads"], m.Params["wakes"], m.Params["variant"], number(m.Value, true)}
		t.row(append(row, footprintCells(r, "background", m.Params)...)...)
	}
}

func backgroundBudgets(r *Result) []Budget {
	var list []Budget
	for _, m := range r.Measurements {
		if m.Section == "background" && m.Name == "CPU" && m.Params["variant"] == own && m.Params["wakes"] == never && !slices.Contains([]string{"0", "1"}, m.Params["threads"]) {
			list = append(list, budget(fmt.Sprintf("idle CPU, %s containers of %s threads", m.Params["containers"], m.Params["threads"]), m.Value, 0.1, " %"))
		}
	}
	return list
}
