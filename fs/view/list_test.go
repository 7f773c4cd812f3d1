package view

import (
	"slices"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
)

// What is read as a list is what package cgroup reads, as long as it ascends, and what is written is the kernel's form.
func FuzzList(f *testing.F) {
	for _, text := range []string{"", "\n", "0\n", "0-3,8\n", "0,1,2,3", "1-1", "5,3", "0-3,2", "0-", "-1", ",", "0,", "8191", "8192", "0-8191",
		"99999999999999999999", "1,,2", "(null)"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var numbers []int
		list, out := readList(text), listWriter{dst: []byte("before")}
		for r, ok := list.next(); ok; r, ok = list.next() {
			for n := r.first; n <= r.last; n++ {
				numbers = append(numbers, n)
				out.add(n)
			}
		}
		if list.bad {
			return
		}
		want, err := cgroup.ParseCPUList(nil, text)
		if err != nil || !slices.Equal(numbers, want) {
			t.Fatalf("%q: %v, want %v, %v", text, numbers, want, err)
		}
		if got := out.end(); string(got) != "before"+string(cgroup.AppendCPUList(nil, numbers)) {
			t.Fatalf("%q: written as %q", text, got)
		}
	})
}

func TestNoList(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "\n": false, "0": false, "0-3,8\n": false, "8191\n": false,
		"5,3": true, "0-3,2": true, "3-0": true, "0-": true, "0,": true, ",0": true, "8192": true, " (null)\n": true, "1;2": true, "1-2-3": true,
	} {
		list := readList([]byte(text))
		for _, ok := list.next(); ok; _, ok = list.next() {
		}
		if list.bad != want {
			t.Errorf("%q: %v", text, list.bad)
		}
	}
}
