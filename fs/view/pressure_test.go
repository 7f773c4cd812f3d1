package view

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

func TestPressure(t *testing.T) {
	const machine = "some avg10=9.00 avg60=9.00 avg300=9.00 total=9\n"
	// What no kernel prints yet passes through, too.
	const own = "some avg10=12.34 avg60=0.05 avg300=100.00 total=18446744073709551615\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\nnew x=1.5 y=2\n"
	h := new(host.Snapshot)
	h.Pressure[cgroup.PressureIO] = []byte(machine)
	c := &Container{Age: -1}
	c.Pressure[cgroup.PressureIO] = &cgroup.PressureText{Path: "/pod1/app", Text: []byte(own)}
	render := Pressure(cgroup.PressureIO)
	if got := string(render([]byte("before"), h, c)); got != "before"+own {
		t.Errorf("the container's: %q", got)
	}
	for _, none := range []*Container{nil, {Age: -1}} {
		if got := string(render(nil, h, none)); got != machine {
			t.Errorf("without a container's: %q", got)
		}
	}
	if got := string(Pressure(cgroup.PressureCPU)(nil, h, c)); got != "" {
		t.Errorf("another resource: %q", got)
	}

	number := func(key string, value uint64, unit string) Number {
		return Number{Key: key, Value: value, Unit: unit, Source: "io.pressure", Level: "/pod1/app", Rule: "the cgroup's own"}
	}
	const percent = "hundredths of %"
	want := []Number{
		number("some avg10", 1234, percent), number("some avg60", 5, percent), number("some avg300", 10000, percent),
		number("some total", 1<<63-1, "µs"), // as everywhere, what a reader's signed type holds
		number("full avg10", 0, percent), number("full avg60", 0, percent), number("full avg300", 0, percent),
		number("full total", 7, "µs"), number("new y", 2, "µs"),
	}
	if diff := cmp.Diff(want, Explain("proc/pressure/io", h, c)); diff != "" {
		t.Errorf("explained (-want +got):\n%s", diff)
	}
	if got := Explain("proc/pressure/cpu", h, c); got != nil {
		t.Errorf("the machine's numbers are explained: %v", got)
	}
}

func FuzzExplainPressure(f *testing.F) {
	f.Add([]byte("some avg10=12.34 avg60=0.05 avg300=100.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"))
	f.Add([]byte("some avg10=. avg60=1. avg300=.5 total=\n=1 ="))
	f.Add([]byte("some total=99999999999999999999 avg10=99999999999999999999.99"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &Container{}
		c.Pressure[cgroup.PressureCPU] = &cgroup.PressureText{Text: text}
		if numbers := Explain("proc/pressure/cpu", new(host.Snapshot), c); len(numbers) > len(text) {
			t.Errorf("%d numbers in %q", len(numbers), text)
		}
		if got := Pressure(cgroup.PressureCPU)(nil, new(host.Snapshot), c); string(got) != string(text) {
			t.Errorf("%q is shown as %q", text, got)
		}
	})
}
