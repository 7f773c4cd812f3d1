package cgroup

import (
	"bytes"
	"slices"
	"testing"
)

func TestParseCPUList(t *testing.T) {
	for text, want := range map[string][]int{
		"": nil, "\n": nil, "0\n": {0}, "0-3,8\n": {0, 1, 2, 3, 8}, " 1 , 3 \n": {1, 3}, "4,0-1": {0, 1, 4}, "0-2,1-3": {0, 1, 2, 3},
		"8191": {8191},
	} {
		if got, err := ParseCPUList([]int{7}, []byte(text)); err != nil || !slices.Equal(got, append([]int{7}, want...)) {
			t.Errorf("%q: got %v, error %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "-1", "1-", "3-1", ",", "0,,1", "8192", "0-8192", "99999999999999999999", "0-8191,0-8191"} {
		if got, err := ParseCPUList([]int{7}, []byte(text)); err == nil || len(got) != 1 {
			t.Errorf("%q: got %v, no error", text, got)
		}
	}
}

func FuzzParseCPUList(f *testing.F) {
	f.Add([]byte("0-3,8\n"))
	f.Add([]byte("0-8191,0-8191"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cpus, err := ParseCPUList(nil, text)
		if err != nil {
			return
		}
		if !slices.IsSorted(cpus) || len(slices.Compact(slices.Clone(cpus))) != len(cpus) || len(cpus) > maxCPUs {
			t.Fatalf("%q: %v", text, cpus)
		}
		again := AppendCPUList(nil, cpus)
		if back, err := ParseCPUList(nil, again); err != nil || !slices.Equal(back, cpus) {
			t.Fatalf("%q → %q → %v (%v)", text, again, back, err)
		}
		if bytes.ContainsAny(again, " \n") {
			t.Fatalf("%q", again)
		}
	})
}
