package main

// plotLatency draws the p50 of each file and variant, reader and daemon on one CPU.
func plotLatency(r *Result, p *page) {
	const section = "latency"
	c := chart{title: "p50 of one read, reader and daemon on one CPU", unit: "µs"}
	for _, f := range mainFiles {
		c.labels = append(c.labels, f.name)
	}
	for _, v := range r.values(section, "variant") {
		s := series{name: v}
		for _, f := range c.labels {
			s.values = append(s.values, orNone(r.value(section, "p50", Params{"file": f, "variant": v, "placement": sameCPU})))
		}
		c.series = append(c.series, s)
	}
	p.plot("latency.svg", c.title, c.svg())
}

// plotScale draws the p50 of meminfo over the number of containers.
func plotScale(r *Result, p *page) {
	c := chart{title: "p50 of one read of meminfo with many containers, reader and daemon on one CPU", unit: "µs", x: "containers", lines: true}
	for _, n := range r.values("scale", "containers") {
		if _, ok := r.value("scale", "p50", scaleParams(n, "meminfo", own, sameCPU, crowded)); ok {
			c.labels = append(c.labels, n)
		}
	}
	for _, v := range r.values("scale", "variant") {
		s := series{name: v}
		for _, n := range c.labels {
			s.values = append(s.values, orNone(r.value("scale", "p50", scaleParams(n, "meminfo", v, sameCPU, crowded))))
		}
		c.series = append(c.series, s)
	}
	p.plot("scale.svg", c.title, c.svg())
}

// orNone is a chart's value.
func orNone(v float64, ok bool) float64 {
	if !ok {
		return -1
	}
	return v
}
