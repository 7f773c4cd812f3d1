package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rendering is what it costs to make the text of a file of what was read, on a machine of so many CPUs.
type rendering struct {
	file, cpus string
	ns, allocs float64
}

var renderLine = regexp.MustCompile(`(?m)^BenchmarkRender/(\w+)/(\d+)\S*\s+\d+\s+([\d.]+) ns/op\s.*?(\d+) allocs/op$`)

// runRender runs the renderers' own benchmark, whose machines are made up: of 2 CPUs and of 1,024.
func runRender(b *bench) error {
	if mod, err := exec.Command("go", "env", "GOMOD").Output(); err != nil || strings.TrimSpace(string(mod)) == os.DevNull {
		b.logf("no Go, or not in scopefs' sources: left out")
		return nil
	}
	cmd := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkRender$", "-benchmem",
		"-benchtime", pick(b, "200ms", "20x"), "-count", pick(b, "3", "1"), "github.com/scopefs/scopefs/fs/view")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	list, err := parseRendering(string(out))
	if err != nil {
		return err
	}
	rounds := map[[2]string][]rendering{}
	var order [][2]string
	for _, r := range list {
		if !slices.ContainsFunc(slices.Concat(mainFiles, moreFiles), func(f file) bool { return f.name == r.file }) {
			continue
		}
		key := [2]string{r.file, r.cpus}
		if rounds[key] == nil {
			order = append(order, key)
		}
		rounds[key] = append(rounds[key], r)
	}
	for _, key := range order {
		var us, allocs []float64
		for _, r := range rounds[key] {
			us, allocs = append(us, r.ns/1000), append(allocs, r.allocs)
		}
		p := Params{"file": key[0], "CPUs": key[1]}
		b.record(Measurement{Name: "time", Unit: "µs", Params: p, Rounds: us})
		b.record(Measurement{Name: "allocations", Params: p, Rounds: allocs})
	}
	return nil
}

func parseRendering(out string) ([]rendering, error) {
	var all []rendering
	for _, m := range renderLine.FindAllStringSubmatch(out, -1) {
		r := rendering{file: m[1], cpus: m[2]}
		var err error
		if r.ns, err = strconv.ParseFloat(m[3], 64); err != nil {
			return nil, err
		}
		if r.allocs, err = strconv.ParseFloat(m[4], 64); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the renderers' benchmark printed no result:\n%s", out)
	}
	return all, nil
}

func reportRender(r *Result, p *page) {
	p.text("Time in µs to make the text of a file of what was read, for a container that may use all CPUs of a machine that is made up; no file is read in it.")
	sizes := r.values("render", "CPUs")
	columns := []string{"file"}
	for _, n := range sizes {
		columns = append(columns, n+" CPUs")
	}
	t := p.table(append(columns, "allocations")...)
	for _, f := range r.values("render", "file") {
		row := []string{f}
		var most float64
		for _, n := range sizes {
			row = append(row, number(r.value("render", "time", Params{"file": f, "CPUs": n})))
			allocs, _ := r.value("render", "allocations", Params{"file": f, "CPUs": n})
			most = max(most, allocs)
		}
		t.row(append(row, count(most, true))...)
	}
}

func renderBudgets(r *Result) []Budget {
	var most float64
	for _, m := range r.Measurements {
		if m.Section == "render" && m.Name == "allocations" {
			most = max(most, m.Value)
		}
	}
	return []Budget{budget("allocations per render, at most", most, 0, "")}
}
