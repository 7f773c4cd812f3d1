package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.list); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.list, got, c.want)
		}
	}
}

func TestRatio(t *testing.T) {
	r := newResult()
	r.Measurements = []Measurement{
		// The machine was ten times slower in the last round: the ratios do not show it, the quotient of medians would.
		{Section: "s", Name: "p50", Params: Params{"variant": "a"}, Rounds: []float64{2, 20, 200}, Value: 20},
		{Section: "s", Name: "p50", Params: Params{"variant": "b"}, Rounds: []float64{1, 10, 50}, Value: 10},
	}
	a, b := Params{"variant": "a"}, Params{"variant": "b"}
	if v, ok := r.ratio("s", "p50", a, b); v != 2 || !ok {
		t.Errorf("ratio %v, %v, want 2", v, ok)
	}
	if v, ok := r.ratio("s", "p50", a, Params{"variant": "c"}); ok {
		t.Errorf("ratio to what was not measured: %v", v)
	}
	if _, ok := r.ratio("other", "p50", a, b); ok {
		t.Error("ratio in a section that did not run")
	}
	if _, ok := medianRatio([]float64{1}, []float64{0}); ok {
		t.Error("ratio to zero")
	}
}

func TestSummarize(t *testing.T) {
	var took []time.Duration
	for i := range 101 {
		took = append(took, time.Duration(100-i)*time.Microsecond)
	}
	l := summarize(took)
	want := Latency{Mean: 50e3, P50: 50e3, P99: 99e3, Max: 100e3}
	if *l != want {
		t.Errorf("got %+v, want %+v", *l, want)
	}
	if l := summarize(nil); *l != (Latency{}) {
		t.Errorf("nothing gives %+v", *l)
	}
}

func TestRotated(t *testing.T) {
	list := []string{"a", "b", "c"}
	first := map[string]int{}
	for round := range 6 {
		r := rotated(list, round)
		first[r[0]]++
		if !slices.Equal(slices.Sorted(slices.Values(r)), list) {
			t.Errorf("round %d: %v", round, r)
		}
	}
	if first["a"] != 2 || first["b"] != 2 || first["c"] != 2 {
		t.Errorf("who began how often: %v", first)
	}
	if len(rotated([]string{}, 1)) != 0 {
		t.Error("something of nothing")
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {0.01234, "0.0123"}, {0.5, "0.500"}, {1.6, "1.60"}, {16, "16.0"}, {123.4, "123"}, {1234, "1234"},
		{12345, "12,345"}, {-2.5, "-2.50"},
	} {
		if got := number(c.v, true); got != c.want {
			t.Errorf("number(%v) = %q, want %q", c.v, got, c.want)
		}
	}
	if got := number(1, false); got != "–" {
		t.Errorf("no number is %q", got)
	}
}

func TestBudgets(t *testing.T) {
	if b := budget("", 2, 1.6, ""); b.Met {
		t.Error("2 is not within 1.6")
	}
	if b := budget("", 1.6, 1.6, ""); !b.Met {
		t.Error("1.6 is within 1.6")
	}
	if b := budgetLeast("", 4, 5, ""); b.Met {
		t.Error("4 is not at least 5")
	}
	if b := budgetLeast("", 5, 5, ""); !b.Met {
		t.Error("5 is at least 5")
	}
}

func TestParseStrace(t *testing.T) {
	const summary = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.54    0.000016           0        40         2 read
 38.46    0.000010           0        20           writev
------ ----------- ----------- --------- --------- ----------------
100.00    0.000026           0        60         2 total
`
	for name, text := range map[string]string{
		"with errors":    summary,
		"without errors": strings.Replace(summary, "60         2 total", "60           total", 1),
	} {
		if n, err := parseStrace(text); n != 60 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	for _, text := range []string{"", "strace: attach: Operation not permitted\n", "calls total\n"} {
		if n, err := parseStrace(text); err == nil {
			t.Errorf("%q gives %d", text, n)
		}
	}
}

func TestParseOnly(t *testing.T) {
	if got, err := parseOnly(""); err != nil || !slices.Equal(got, sectionNames()) {
		t.Errorf("all: %v, %v", got, err)
	}
	if got, err := parseOnly("none"); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	if got, err := parseOnly("latency,syscalls"); err != nil || !slices.Equal(got, []string{"latency", "syscalls"}) {
		t.Errorf("two: %v, %v", got, err)
	}
	if _, err := parseOnly("latency,nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("nonsense: %v", err)
	}
}

func TestResultFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	r := newResult()
	r.Measurements = []Measurement{
		{Section: "latency", Name: "p50", Params: Params{"file": "meminfo"}, Value: 1.5, Rounds: []float64{1, 2}},
		{Section: "other", Name: "p50", Value: 1},
	}
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readResult(path)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := got.value("latency", "p50", Params{"file": "meminfo"}); v != 1.5 || !ok {
		t.Errorf("read again: %v, %v", v, ok)
	}
	got.forget("latency")
	if got.has("latency") || !got.has("other") {
		t.Errorf("after forgetting a section: %+v", got.Measurements)
	}
	if err := os.WriteFile(path, []byte(`{"Version": 1000}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readResult(path); err == nil || !strings.Contains(err.Error(), "1000") {
		t.Errorf("a version of the future: %v", err)
	}
}

// TestPage fills the page in with a result that has one number of every section, and looks for all of them.
func TestPage(t *testing.T) {
	r := newResult()
	for i, v := range []string{own, floor, lxcfs} {
		for _, placement := range placements {
			p := Params{"file": "meminfo", "variant": v, "placement": placement}
			for _, name := range []string{"mean", "p50", "p99", "daemon CPU"} {
				r.Measurements = append(r.Measurements, Measurement{Section: "latency", Name: name, Params: p,
					Value: float64(111 * (i + 1)), Rounds: []float64{float64(111 * (i + 1))}})
			}
		}
	}
	r.Budgets = latencyBudgets(r)
	if len(r.Budgets) != 6 {
		t.Errorf("%d budgets of meminfo, want 3 for each placement", len(r.Budgets))
	}
	for _, b := range r.Budgets {
		if b.Met != (b.Value == 0.5 && b.Limit == 1.6) {
			t.Errorf("wrong verdict: %+v", b)
		}
	}
	text, err := r.markdown("plots", func(*plot) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| meminfo | 111 / 111 / 111 | 222 / 222 / 222 | 333 / 333 / 333 |",
		"| file | own ÷ floor | lxcfs ÷ floor | lxcfs ÷ own |",
		"| meminfo | 0.500× | 1.50× | 3.00× |",
		"(Not measured in this run.)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, s := range sections {
		if !strings.Contains(pageTemplate, `{{section "`+s.name+`"}}`) {
			t.Errorf("the page leaves section %s out", s.name)
		}
	}
	var out strings.Builder
	if err := r.print(&out); err != nil || !strings.Contains(out.String(), "111 / 111 / 111") {
		t.Errorf("printed: %v\n%s", err, out.String())
	}
	// A page whose plot cannot be saved is not written in silence.
	old := sections[0].report
	defer func() { sections[0].report = old }()
	sections[0].report = func(_ *Result, p *page) { p.plot("a.svg", "a", "<svg/>") }
	if _, err := r.markdown("plots", func(*plot) error { return errors.New("disk full") }); err == nil {
		t.Error("a plot that was not saved")
	}
	if text, err := r.markdown("plots", func(*plot) error { return nil }); err != nil || !strings.Contains(text, "![a](plots/a.svg)") {
		t.Errorf("with a plot: %v", err)
	}
}

// TestReader reads a file of the kernel's as the benchmark does.
func TestReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, readSize+10), 0o644); err != nil {
		t.Fatal(err)
	}
	o := latencyOrder{Path: path, Count: 3, Warm: 1, CPUs: allCPUs}
	l, err := o.measure()
	if err != nil {
		t.Fatal(err)
	}
	if l.Size != readSize+10 || l.Mean <= 0 || l.Max < l.P50 {
		t.Errorf("got %+v", l)
	}
	r, err := newReader(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { r.once() }); n != 0 {
		t.Errorf("%v allocations per read", n)
	}
	o.Path += ".missing"
	if _, err := o.measure(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
