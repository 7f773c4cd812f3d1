package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// resultVersion changes when an old reader would misunderstand a new result.
const resultVersion = 1

// Result is all that a run has found. Tables, plots and the verdict on budgets are made of it alone.
type Result struct {
	Version int
	Date    time.Time
	Seconds float64 // that it took
	Smoke   bool    // the numbers mean nothing
	Machine Machine
	// Measurements in the order in which they were recorded.
	Measurements []Measurement
	Budgets      []Budget
}

// Params say what was measured, such as file=meminfo variant=own placement=same.
type Params map[string]string

// with is p and more.
func (p Params) with(more Params) Params {
	q := maps.Clone(p)
	maps.Copy(q, more)
	return q
}

// Measurement is one number.
type Measurement struct {
	Section string
	Name    string // such as "p50"
	Unit    string // such as "µs"
	Params  Params
	Value   float64 // the median of Rounds
	// Rounds holds the number of each round. Round i of one measurement and round i of another of the same section and name
	// are of the same time.
	Rounds []float64
}

// Budget is what a number has to be.
type Budget struct {
	What  string
	Limit float64
	Least bool // the number has to be the limit or more, else the limit or less
	Unit  string
	Value float64
	Met   bool
}

func budget(what string, value float64, limit float64, unit string) Budget {
	return Budget{What: what, Limit: limit, Unit: unit, Value: value, Met: value <= limit}
}

func budgetLeast(what string, value float64, limit float64, unit string) Budget {
	return Budget{What: what, Limit: limit, Least: true, Unit: unit, Value: value, Met: value >= limit}
}

func newResult() *Result { return &Result{Version: resultVersion} }

func readResult(path string) (*Result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Result)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != resultVersion {
		return nil, fmt.Errorf("%s: version %d of results, this program knows %d", path, r.Version, resultVersion)
	}
	return r, nil
}

func (r *Result) write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// has says whether anything was recorded of a section.
func (r *Result) has(section string) bool {
	return slices.ContainsFunc(r.Measurements, func(m Measurement) bool { return m.Section == section })
}

// forget drops what was recorded of a section.
func (r *Result) forget(section string) {
	r.Measurements = slices.DeleteFunc(r.Measurements, func(m Measurement) bool { return m.Section == section })
}

// find is the measurement of that name with exactly these parameters, nil if there is none.
func (r *Result) find(section, name string, p Params) *Measurement {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Section == section && m.Name == name && maps.Equal(m.Params, p) {
			return m
		}
	}
	return nil
}

// value is its value; ok says whether there is one.
func (r *Result) value(section, name string, p Params) (v float64, ok bool) {
	if m := r.find(section, name, p); m != nil {
		return m.Value, true
	}
	return 0, false
}

// ratio is the median of the rounds' ratios of a measurement to another.
func (r *Result) ratio(section, name string, p, to Params) (v float64, ok bool) {
	a, b := r.find(section, name, p), r.find(section, name, to)
	if a == nil || b == nil {
		return 0, false
	}
	return medianRatio(a.Rounds, b.Rounds)
}

func medianRatio(a, b []float64) (v float64, ok bool) {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return median(ratios), len(ratios) > 0
}

// values are the values that the measurements of a section have for a parameter, in the order in which they were
// recorded.
func (r *Result) values(section, param string) []string {
	var list []string
	for _, m := range r.Measurements {
		if v, ok := m.Params[param]; ok && m.Section == section && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// median is 0 for nothing.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
