package view

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/fs/host"
)

// The rows have as many columns as the running kernel's: Linux 2.6.18 (4 and steal), 2.6.24 (guest), 6.x, and one more.
func TestStatColumns(t *testing.T) {
	c := &Container{CPUs: []int{1}, Times: &CPUTimes{Rows: []CPURow{{User: 1, System: 2, Idle: 3, Steal: 4}}, Total: CPURow{User: 5, Nice: 9, System: 6, Idle: 7, Steal: 8}}}
	for columns, want := range map[int]string{
		4:  "cpu  5 9 6 7\ncpu0 1 0 2 3\n",
		8:  "cpu  5 9 6 7 0 0 0 8\ncpu0 1 0 2 3 0 0 0 4\n",
		10: "cpu  5 9 6 7 0 0 0 8 0 0\ncpu0 1 0 2 3 0 0 0 4 0 0\n",
		11: "cpu  5 9 6 7 0 0 0 8 0 0 0\ncpu0 1 0 2 3 0 0 0 4 0 0 0\n",
	} {
		row := strings.Repeat(" 9", columns) + "\n"
		h := &host.Snapshot{Stat: []byte("cpu " + row + "cpu0" + row + "cpu1" + row + "btime 7\ncpufreq 3\n")}
		if got := string(Stat(nil, h, c)); got != want+"btime 7\ncpufreq 3\n" {
			t.Errorf("%d columns: got\n%s", columns, got)
		}
	}
}

func TestStatHostRows(t *testing.T) {
	const text = "cpu  9 9 9 9\ncpu0 1 2 3 4\ncpu2 10 20 30 40\ncpu11 100 200 300 9223372036854775807\nbtime 7\n"
	h := &host.Snapshot{Stat: []byte(text)}
	for _, test := range []struct {
		cpus []int
		want string
	}{
		{nil, text},
		{[]int{2}, "cpu  10 20 30 40\ncpu0 10 20 30 40\nbtime 7\n"},
		{[]int{0, 11}, "cpu  101 202 303 9223372036854775807\ncpu0 1 2 3 4\ncpu1 100 200 300 9223372036854775807\nbtime 7\n"},
		{[]int{11, 1, 0}, "cpu  101 202 303 9223372036854775807\ncpu0 100 200 300 9223372036854775807\ncpu1 0 0 0 0\ncpu2 1 2 3 4\nbtime 7\n"},
	} {
		if got := string(Stat(nil, h, &Container{CPUs: test.cpus})); got != test.want {
			t.Errorf("CPUs %v: got\n%swant\n%s", test.cpus, got, test.want)
		}
	}
}

func TestStatTasks(t *testing.T) {
	h := &host.Snapshot{Stat: []byte("cpu  1 2 3 4\ncpu0 1 2 3 4\nprocs_running 9\nprocs_blocked 8\n")}
	for _, test := range []struct {
		load *Load
		want string
	}{
		{nil, "procs_running 9\nprocs_blocked 8\n"},
		{&Load{Running: 3, Blocked: 2}, "procs_running 3\nprocs_blocked 2\n"},
		{&Load{}, "procs_running 1\nprocs_blocked 0\n"}, // the reader runs
		{&Load{Running: -1, Blocked: -1}, "procs_running 1\nprocs_blocked 0\n"},
	} {
		got := string(Stat(nil, h, &Container{Load: test.load}))
		if got != "cpu  1 2 3 4\ncpu0 1 2 3 4\n"+test.want {
			t.Errorf("%+v: got\n%s", test.load, got)
		}
	}
}

// What only grows in the ledger only grows in the file, and the rows make up the sum.
func TestStatMonotonic(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	h := readFixture(t, "testdata/linux-6.1-x86_64.txtar").host
	times := &CPUTimes{Rows: make([]CPURow, 4)}
	c := &Container{CPUs: []int{0, 1, 2, 3}, Times: times}
	var before [5]cpuColumns
	for range 1000 {
		for i := range times.Rows {
			for _, n := range []*[2]*uint64{{&times.Rows[i].User, &times.Total.User}, {&times.Rows[i].System, &times.Total.System},
				{&times.Rows[i].Idle, &times.Total.Idle}, {&times.Rows[i].Steal, &times.Total.Steal}} {
				d := r.Uint64N(1 << r.IntN(40))
				*n[0], *n[1] = *n[0]+d, *n[1]+d
			}
		}
		text := Stat(nil, h, c)
		var sum cpuColumns
		for i := range before {
			var line []byte
			line, text = cutLine(text)
			key, values := cutField(line)
			if want := fmt.Sprint("cpu", i-1); i > 0 && string(key) != want {
				t.Fatalf("row %q, want %s", line, want)
			}
			now := parseColumns(values)
			for col := range now {
				if now[col] < before[i][col] {
					t.Fatalf("row %d, column %d: %d after %d", i, col, now[col], before[i][col])
				}
				if i > 0 {
					sum[col] += now[col]
				}
			}
			before[i] = now
		}
		if sum != before[0] {
			t.Fatalf("rows make up %v, cpu row %v", sum, before[0])
		}
	}
}
