package main

import (
	"strconv"
	"time"
)

// readerCounts are how many processes read at the same time.
var readerCounts = []int{1, 8}

// runThroughput has processes read as often as they can, wherever the scheduler puts them.
func runThroughput(b *bench) error {
	st, err := b.stand()
	if err != nil {
		return err
	}
	for _, f := range pick(b, mainFiles, mainFiles[:1]) {
		for _, readers := range readerCounts {
			if err := throughputRounds(b, st, f, readers); err != nil {
				return err
			}
		}
	}
	return nil
}

func throughputRounds(b *bench, st *stand, f file, readers int) error {
	rounds, duration := pick(b, 5, 1), pick(b, 400*time.Millisecond, 30*time.Millisecond)
	b.logf("%s, readers: %d", f.name, readers)
	reads, cpu := map[string][]float64{}, map[string][]float64{}
	for round := range rounds {
		for _, v := range rotated(st.variants, round) {
			if !v.has(f) {
				continue
			}
			before, err := v.cpuTime()
			if err != nil {
				return err
			}
			t, err := st.throughput(throughputOrder{Path: v.path(f), Readers: readers, For: duration})
			if err != nil {
				return err
			}
			after, err := v.cpuTime()
			if err != nil {
				return err
			}
			reads[v.name] = append(reads[v.name], float64(t.Reads)/t.Seconds)
			// Each reader has read once before they began.
			cpu[v.name] = append(cpu[v.name], float64(after-before)/float64(t.Reads+readers)/1000)
		}
	}
	for _, v := range st.variants {
		if !v.has(f) {
			continue
		}
		p := Params{"file": f.name, "variant": v.name, "readers": strconv.Itoa(readers)}
		b.record(Measurement{Name: "reads", Unit: "1/s", Params: p, Rounds: reads[v.name]})
		if v.daemon != nil {
			b.record(Measurement{Name: "daemon CPU", Unit: "µs", Params: p, Rounds: cpu[v.name]})
		}
	}
	return nil
}

func reportThroughput(r *Result, p *page) {
	const section = "throughput"
	variants := r.values(section, "variant")
	p.text("Thousand reads per second, of all reader processes together, and the ratio to those of LXCFS in the same round:")
	t := p.table(append(append([]string{"file", "readers"}, variants...), own+" ÷ "+lxcfs)...)
	for _, f := range r.values(section, "file") {
		for _, readers := range r.values(section, "readers") {
			row := []string{f, readers}
			q := Params{"file": f, "readers": readers}
			for _, v := range variants {
				reads, ok := r.value(section, "reads", q.with(Params{"variant": v}))
				row = append(row, number(reads/1000, ok))
			}
			t.row(append(row, times(r.ratio(section, "reads", q.with(Params{"variant": own}), q.with(Params{"variant": lxcfs}))))...)
		}
	}
}

func throughputBudgets(r *Result) []Budget {
	var list []Budget
	for _, f := range r.values("throughput", "file") {
		for _, readers := range r.values("throughput", "readers") {
			q := Params{"file": f, "readers": readers, "variant": own}
			if v, ok := r.ratio("throughput", "reads", q, q.with(Params{"variant": lxcfs})); ok {
				list = append(list, budgetLeast("reads of "+f+", readers: "+readers+", ÷ LXCFS", v, 5, "×"))
			}
		}
	}
	return list
}
