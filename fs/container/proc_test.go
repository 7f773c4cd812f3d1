package container

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	rest := " S 41 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 12345 1000000 100 0\n"
	for _, comm := range []string{"sh", "npm start", "npm start) R 1", "a)(b", ") S 9 9 9", "new\nline", ""} {
		st, err := parseStat([]byte("42 (" + comm + ")" + rest))
		if err != nil {
			t.Errorf("%q: %v", comm, err)
			continue
		}
		if want := (stat{state: 'S', parent: 41, start: 123450 * time.Millisecond}); st != want {
			t.Errorf("%q: %+v, want %+v", comm, st, want)
		}
	}
	for _, text := range []string{"", "42 (sh", "42 (sh)", "42 (sh) S 1", "42 (sh) S x 1 1 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 5 1",
		"42 (sh)" + strings.Replace(rest, "12345", "-5", 1), "42 (sh)" + strings.Replace(rest, "12345", "99999999999999999999", 1)} {
		if st, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v, want an error", text, st)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1 (a) R 1 2) S 0 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 7 1000000 100 0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := parseStat(text)
		if err == nil && st.start < 0 {
			t.Errorf("start %v", st.start)
		}
	})
}

func TestParseNSpid(t *testing.T) {
	for text, want := range map[string]int{
		"Name:\tx\nNSpid:\t7\n":            7,
		"Name:\tx\nNSpid:\t900\t12\t1\nA:": 1,
		"Name:\tNSpid:\nNSpid:\t3\t2":      2,
		"Name:\tx\n":                       0,
		"Name:\tx\nNSpid:\n":               0,
		"Name:\tx\nNSpid:\tone\n":          0,
		"Name:\tx\nNSpid:\t-1\n":           0,
	} {
		got, err := parseNSpid([]byte(text))
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

func FuzzParseNSpid(f *testing.F) {
	f.Add([]byte("Name:\tx\nNSpid:\t900\t12\t1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if pid, err := parseNSpid(text); err == nil && pid <= 0 {
			t.Errorf("pid %d", pid)
		}
	})
}

func TestParseNSLink(t *testing.T) {
	for text, want := range map[string]uint64{
		"pid:[4026531836]": 4026531836, "pid:[1]": 1, "pid:[1]x": 0, "pid:[1": 0, "pid:[]": 0, "pid:[-1]": 0, "pid:[x]": 0, "pid": 0, "": 0,
		"pid:[99999999999999999999]": 0,
	} {
		if got, ok := parseNSLink([]byte(text)); ok != (want != 0) || ok && got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, ok, want)
		}
	}
}

func FuzzParseNSLink(f *testing.F) {
	f.Add([]byte("pid:[4026531836]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if inode, ok := parseNSLink(text); ok && !bytes.Contains(text, strconv.AppendUint([]byte(nil), inode, 10)) {
			t.Errorf("%d of %q", inode, text)
		}
	})
}
