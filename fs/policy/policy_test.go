package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestSet(t *testing.T) {
	var p Policy
	for _, s := range Settings {
		for i, value := range s.Allowed {
			if err := p.Set(s.Name, value); err != nil {
				t.Errorf("%s = %s: %v", s.Name, value, err)
			}
			if got := p.Text()[s.Name]; got != value {
				t.Errorf("%s is %s after it was set to %s (%d)", s.Name, got, value, i)
			}
		}
		err := p.Set(s.Name, "nonsense")
		if err == nil || !strings.Contains(err.Error(), s.Name) || !strings.Contains(err.Error(), s.Allowed[1]) {
			t.Errorf("%s: %v, want an error that names the setting and what it allows", s.Name, err)
		}
	}
	if err := p.Set("cpus", "quota"); err == nil || !strings.Contains(err.Error(), "cpu_source") {
		t.Errorf("%v, want an error that lists the settings", err)
	}
}

func TestFiles(t *testing.T) {
	var p Policy
	for _, step := range []struct{ value, off string }{
		{"-diskstats, -slabinfo", "-diskstats,-slabinfo"},
		{"+diskstats", "-slabinfo"},
		{"-pressure/io,-cpu", "-cpu,-pressure/io,-slabinfo"},
		{"", "-cpu,-pressure/io,-slabinfo"},
		{"+cpu,+pressure/io,+slabinfo", ""},
	} {
		if err := p.Set(FilesSetting, step.value); err != nil {
			t.Fatal(err)
		}
		if got := p.Text()[FilesSetting]; got != step.off {
			t.Errorf("after %q: %q, want %q", step.value, got, step.off)
		}
	}
	for _, bad := range []string{"diskstats", "-nonsense", "-", "*meminfo"} {
		if err := p.Set(FilesSetting, bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A container's own choices never reach another one.
func TestWith(t *testing.T) {
	base := Policy{Off: []string{"vmstat"}}
	with, err := base.With(Overrides{"files": "-diskstats,+vmstat", "reader": "parent", "swap": "off"})
	if err != nil {
		t.Fatal(err)
	}
	if !with.Shows("vmstat") || with.Shows("diskstats") || with.Reader != Parent || !with.NoSwap {
		t.Errorf("%+v", with)
	}
	if base.Shows("vmstat") || !base.Shows("diskstats") || base.Reader != Container || base.NoSwap {
		t.Errorf("the base became %+v", base)
	}
	if got, err := base.With(Overrides{"reader": "parent", "steal": "maybe"}); err == nil || got.Reader != Container {
		t.Errorf("%+v, %v: want an error and the base", got, err)
	}
	again, err := Policy{}.With(with.Text())
	if err != nil || !maps.Equal(again.Text(), with.Text()) {
		t.Errorf("%v, %v: the text of %+v does not make it again", again, err, with)
	}
}

func TestZeroIsTheDefault(t *testing.T) {
	var p Policy
	for _, s := range Settings {
		if got := p.Text()[s.Name]; got != s.Allowed[0] {
			t.Errorf("%s is %s, want the first of %v", s.Name, got, s.Allowed)
		}
	}
	if !slices.Equal(Names()[len(Names())-1:], []string{FilesSetting}) {
		t.Error(Names())
	}
}
