package cgroup

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestParseCPUList(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []int
		bad  bool
	}{
		{"", nil, false},
		{"\n", nil, false},
		{"0\n", []int{0}, false},
		{"0-3,8\n", []int{0, 1, 2, 3, 8}, false},
		{"8,0-2, 1", []int{0, 1, 2, 8}, false}, // neither sorted nor without doubles
		{"8191", []int{8191}, false},
		{"8192", nil, true},
		{"0-99999999999", nil, true},
		{"3-1", nil, true},
		{"-1", nil, true},
		{"1-", nil, true},
		{"1,,2", nil, true},
		{"18446744073709551616", nil, true}, // 2^64 must not wrap to 0
		{"0-3:1/2", nil, true},
	} {
		got, err := ParseCPUList(nil, []byte(tt.text))
		if (err != nil) != tt.bad || !slices.Equal(got, tt.want) {
			t.Errorf("ParseCPUList(%q) = %v, %v; want %v, error %v", tt.text, got, err, tt.want, tt.bad)
		}
		if err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("ParseCPUList(%q): the error does not name the text: %v", tt.text, err)
		}
	}
}

// Every set must come back from its own text, and what is in dst already must stay.
func TestCPUListRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		want := []int{-7}
		for cpu := range 1 + rnd.IntN(300) {
			if rnd.IntN(4) > 0 {
				want = append(want, cpu)
			}
		}
		text := AppendCPUList(nil, want[1:])
		got, err := ParseCPUList([]int{-7}, text)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	if got := string(AppendCPUList([]byte("cpus "), []int{0, 1, 2, 5, 7, 8})); got != "cpus 0-2,5,7-8" {
		t.Errorf("AppendCPUList = %q", got)
	}
}

func FuzzParseCPUList(f *testing.F) {
	for _, seed := range []string{"", "0", "0-3,8\n", "1-,2", "8191", "0-8191,5", "4294967296-4294967297"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cpus, err := ParseCPUList(nil, text)
		if err != nil {
			return
		}
		if !slices.IsSorted(cpus) || len(slices.Compact(slices.Clone(cpus))) != len(cpus) {
			t.Fatalf("%q: %v is not ascending without doubles", text, cpus)
		}
		if len(cpus) > 0 && (cpus[0] < 0 || cpus[len(cpus)-1] >= maxCPUs) {
			t.Fatalf("%q: %v is out of bounds", text, cpus)
		}
		again, err := ParseCPUList(nil, AppendCPUList(nil, cpus))
		if err != nil || !slices.Equal(again, cpus) {
			t.Fatalf("%q: %v became %v, %v", text, cpus, again, err)
		}
	})
}
