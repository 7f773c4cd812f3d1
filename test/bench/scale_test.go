package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// TestChart: a figure is XML with all names and values as text, and nothing is drawn outside.
func TestChart(t *testing.T) {
	bars := chart{title: "Reads <p50>", unit: "µs", labels: []string{"meminfo", "stat"},
		series: []series{{"kernel", []float64{2.5, 3}}, {"LXCFS & co", []float64{166, -1}}}}
	lines := bars
	lines.lines = true
	for name, c := range map[string]chart{"bars": bars, "lines": lines, "nothing": {}} {
		d := xml.NewDecoder(strings.NewReader(c.svg()))
		text := ""
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, c.svg())
			}
			if chars, ok := token.(xml.CharData); ok {
				text += string(chars) + "\n"
			}
		}
		for _, want := range append([]string{c.title}, c.labels...) {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		for i, s := range c.series {
			if !strings.Contains(text, s.name) || !strings.Contains(text, short(s.values[0])) {
				t.Errorf("%s: series %d is not in\n%s", name, i, text)
			}
		}
		if strings.Contains(c.svg(), "-1 µs") || strings.Contains(c.svg(), "NaN") {
			t.Errorf("%s: what was not measured is drawn:\n%s", name, c.svg())
		}
	}
}

func TestChartScale(t *testing.T) {
	for _, c := range []struct{ most, step, top float64 }{
		{0, 1, 1}, {1, .2, 1}, {1.01, .2, 1.2}, {7, 1, 7}, {7.1, 2, 8}, {99, 20, 100}, {166, 50, 200}, {0.3, .05, .3}, {65000, 10000, 70000},
	} {
		step, top := (&chart{series: []series{{"", []float64{-1, c.most, math.NaN()}}}}).scale()
		if math.Abs(step-c.step) > 1e-9 || math.Abs(top-c.top) > 1e-9 {
			t.Errorf("up to %v: lines every %v to %v, want %v to %v", c.most, step, top, c.step, c.top)
		}
	}
}

func TestParseRendering(t *testing.T) {
	const out = "goos: linux\n" +
		"BenchmarkRender/meminfo/2-2         \t     100\t     38525 ns/op\t    5376 B/op\t      10 allocs/op\n" +
		"BenchmarkRender/stat/1024           \t       1\t     140.5 ns/op\t       0 B/op\t       0 allocs/op\nPASS\n"
	got, err := parseRendering(out)
	if err != nil || len(got) != 2 || got[0] != (rendering{"meminfo", "2", 38525, 10}) || got[1] != (rendering{"stat", "1024", 140.5, 0}) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := parseRendering("PASS\n"); err == nil {
		t.Errorf("nothing was taken for %+v", got)
	}
}
