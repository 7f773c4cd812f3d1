package main

import (
	"path/filepath"
	"time"
)

// runCold reads meminfo for the first time in new containers, each of which has it one way.
func runCold(b *bench) error {
	defer b.closeTo(b.mark())
	ways, err := b.startWays(floor, own, compat, lxcfs)
	if err != nil {
		return err
	}
	ways = append([]way{{kernel, nil}}, ways...)
	first, announced := map[string][]float64{}, []float64(nil)
	for round := range pick(b, 60, 3) {
		for _, w := range rotated(ways, round) {
			err := b.apart(func() error {
				c, err := b.newContainer()
				if err != nil {
					return err
				}
				dir := "/"
				if w.daemon != nil {
					begun := time.Now()
					if dir, err = w.tree(b, c.id, c.pid()); err != nil {
						return err
					}
					if w.variant == own {
						announced = append(announced, micros(time.Since(begun)))
					}
				}
				from := filepath.Join(dir, "proc/meminfo")
				if w.variant == floor {
					from = filepath.Join(dir, floorName)
				}
				if err := c.bind(bindFile{from, "first"}, bindFile{"/proc/version", "warm"}); err != nil {
					return err
				}
				// The reader's code and the kernel's way to open and read have been used before, the file not.
				o := latencyOrder{Path: view + "/warm", Count: 5, CPUs: allCPUs}
				if _, err := c.latency(o); err != nil {
					return err
				}
				o.Path, o.Count = view+"/first", 1
				l, err := c.latency(o)
				if err != nil {
					return err
				}
				first[w.variant] = append(first[w.variant], l.Mean/1000)
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for _, w := range ways {
		b.record(Measurement{Name: "first read", Unit: "µs", Params: Params{"variant": w.variant}, Rounds: first[w.variant]})
	}
	b.record(Measurement{Name: "announce", Unit: "µs", Params: Params{"variant": own}, Rounds: announced})
	return b.checkFallbacks(ways)
}

func reportCold(r *Result, p *page) {
	p.text("The first open, read to the end and close of meminfo in a container that nobody has read anything in, by a daemon that has been idle: most of it, and of the floor, is the wait for that to be woken up, three times. The own tree's containers were announced before, which is a line of its own.")
	t := p.table("", "p50, µs", "max, µs", "containers", "p50 ÷ LXCFS")
	for _, m := range r.Measurements {
		if m.Section != "cold" {
			continue
		}
		ratio, ok := r.ratio("cold", m.Name, m.Params, Params{"variant": lxcfs})
		t.row(m.Name+", "+m.Params["variant"], number(m.Value, true), number(most(m.Rounds), true), count(float64(len(m.Rounds)), true), times(ratio, ok))
	}
}

func coldBudgets(r *Result) []Budget {
	var list []Budget
	for _, v := range []string{own, compat} {
		if ratio, ok := r.ratio("cold", "first read", Params{"variant": v}, Params{"variant": lxcfs}); ok {
			list = append(list, budget("first read in a new container, "+v+", ÷ LXCFS", ratio, 0.1, "×"))
		}
	}
	return list
}
