package main

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The placements: the reader and the daemon on one CPU, or wherever the scheduler puts them.
const (
	sameCPU = "same CPU"
	freeCPU = "free"
)

var placements = []string{sameCPU, freeCPU}

// cpusOf are the CPUs of a placement.
func cpusOf(placement string) unix.CPUSet {
	if placement == sameCPU {
		return oneCPU()
	}
	return allCPUs
}

// pin places all daemons.
func (st *stand) pin(placement string) error {
	for _, v := range st.variants {
		if v.daemon == nil {
			continue
		}
		if err := v.daemon.pin(cpusOf(placement)); err != nil {
			return err
		}
	}
	return nil
}

// runLatency reads each file many times, one read after the other.
func runLatency(b *bench) error {
	st, err := b.stand()
	if err != nil {
		return err
	}
	for _, placement := range placements {
		if err := st.pin(placement); err != nil {
			return err
		}
		for _, f := range slices.Concat(mainFiles, moreFiles) {
			if err := latencyRounds(b, st, placement, f); err != nil {
				return err
			}
		}
	}
	return st.pin(freeCPU)
}

func latencyRounds(b *bench, st *stand, placement string, f file) error {
	rounds, count := pick(b, 15, 2), pick(b, 2000, 20)
	if slices.Contains(moreFiles, f) {
		rounds = pick(b, 7, 2)
	}
	b.logf("%s, %s", f.name, placement)
	metrics := []string{"mean", "p50", "p99", "daemon CPU"}
	measured := map[string]map[string][]float64{} // by variant and metric
	for round := range rounds {
		for _, v := range rotated(st.variants, round) {
			if !v.has(f) {
				continue
			}
			// Warm reads use the daemon's CPU too: they come in a question of their own.
			o := latencyOrder{Path: v.path(f), Count: count / 10, CPUs: cpusOf(placement)}
			if _, err := st.latency(o); err != nil {
				return err
			}
			before, err := v.cpuTime()
			if err != nil {
				return err
			}
			o.Count = count
			l, err := st.latency(o)
			if err != nil {
				return err
			}
			after, err := v.cpuTime()
			if err != nil {
				return err
			}
			if measured[v.name] == nil {
				measured[v.name] = map[string][]float64{}
			}
			for i, ns := range []float64{l.Mean, l.P50, l.P99, float64(after-before) / float64(count)} {
				measured[v.name][metrics[i]] = append(measured[v.name][metrics[i]], ns/1000)
			}
		}
	}
	for _, v := range st.variants {
		for _, metric := range metrics {
			if v.daemon == nil && metric == "daemon CPU" || !v.has(f) {
				continue
			}
			p := Params{"file": f.name, "variant": v.name, "placement": placement}
			b.record(Measurement{Name: metric, Unit: "µs", Params: p, Rounds: measured[v.name][metric]})
		}
	}
	return nil
}

func reportLatency(r *Result, p *page) {
	const section = "latency"
	variants := r.values(section, "variant")
	for _, placement := range r.values(section, "placement") {
		p.heading(map[string]string{sameCPU: "Reader and daemon on one CPU", freeCPU: "Reader and daemon where the scheduler puts them"}[placement])
		p.text("Mean / p50 / p99, in µs.")
		t := p.table(append([]string{"file"}, variants...)...)
		for _, f := range r.values(section, "file") {
			row := []string{f}
			for _, v := range variants {
				q := Params{"file": f, "variant": v, "placement": placement}
				if r.find(section, "p50", q) == nil {
					row = append(row, "–")
					continue
				}
				var cell [3]string
				for i, name := range []string{"mean", "p50", "p99"} {
					cell[i] = number(r.value(section, name, q))
				}
				row = append(row, strings.Join(cell[:], " / "))
			}
			t.row(row...)
		}

		p.text("p50 as a multiple of another variant's in the same round, the median of the rounds:")
		against := [][2]string{{floor, kernel}, {own, floor}, {ownFresh, floor}, {compat, floor}, {lxcfs, floor}, {lxcfs, own}, {lxcfs, compat}}
		against = slices.DeleteFunc(against, func(a [2]string) bool {
			return !slices.Contains(variants, a[0]) || !slices.Contains(variants, a[1])
		})
		columns := []string{"file"}
		for _, a := range against {
			columns = append(columns, a[0]+" ÷ "+a[1])
		}
		t = p.table(columns...)
		for _, f := range r.values(section, "file") {
			row := []string{f}
			for _, a := range against {
				q := Params{"file": f, "placement": placement}
				row = append(row, times(r.ratio(section, "p50", q.with(Params{"variant": a[0]}), q.with(Params{"variant": a[1]}))))
			}
			t.row(row...)
		}

		p.text("CPU time of the daemon, in µs for each read:")
		variants := slices.DeleteFunc(slices.Clone(variants), func(v string) bool { return v == kernel })
		t = p.table(append([]string{"file"}, variants...)...)
		for _, f := range r.values(section, "file") {
			row := []string{f}
			for _, v := range variants {
				row = append(row, number(r.value(section, "daemon CPU", Params{"file": f, "variant": v, "placement": placement})))
			}
			t.row(row...)
		}
	}
}

func latencyBudgets(r *Result) []Budget {
	var list []Budget
	for _, placement := range r.values("latency", "placement") {
		for _, f := range mainFiles {
			q := Params{"file": f.name, "variant": own, "placement": placement}
			if v, ok := r.ratio("latency", "p50", q, q.with(Params{"variant": floor})); ok {
				list = append(list, budget("p50 of "+f.name+", "+placement+", ÷ the floor", v, 1.6, "×"))
			}
			if v, ok := r.ratio("latency", "p50", q, q.with(Params{"variant": lxcfs})); ok {
				list = append(list, budget("p50 of "+f.name+", "+placement+", ÷ LXCFS", v, 0.2, "×"))
			}
		}
		q := Params{"file": "meminfo", "variant": own, "placement": placement}
		if v, ok := r.ratio("latency", "daemon CPU", q, q.with(Params{"variant": lxcfs})); ok {
			list = append(list, budget("daemon CPU per read of meminfo, "+placement+", ÷ LXCFS", v, 1./6, "×"))
		}
	}
	return list
}
