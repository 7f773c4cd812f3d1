package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// facts are what a program can say of a container or of the machine. Sizes are bytes, times seconds.
type facts struct {
	cpus         float64 // visible
	quota        float64
	memory, swap float64
	free         float64
	available    float64
	load, age    float64
	boot         float64 // since 1970
	written      float64 // to disks
	faults       float64 // of pages
	pressure     float64 // time in which tasks waited for a CPU
}

// machineFacts are the machine's now.
func machineFacts(t *testing.T) facts {
	t.Helper()
	f := read(t, "/proc", facts{cpus: float64(runtime.NumCPU()), quota: float64(runtime.NumCPU())})
	// Without partitions, which /proc/diskstats counts twice.
	disks, err := filepath.Glob("/sys/block/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	f.written = 0
	for _, path := range disks {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sectors, err := strconv.ParseFloat(strings.Fields(string(text))[6], 64)
		if err != nil {
			t.Fatal(err)
		}
		f.written += 512 * sectors
	}
	return f
}

// facts are the container's now. The limits are what it was given; what moves is what its files say, which test/e2e
// checks.
func (c *container) facts() facts {
	c.t.Helper()
	f := read(c.t, filepath.Join(c.view, "proc"), facts{cpus: min(math.Ceil(c.limits.cpus), float64(runtime.NumCPU())), quota: c.limits.cpus})
	f.memory = float64(c.limits.memory)
	return f
}

func read(t *testing.T, proc string, f facts) facts {
	t.Helper()
	// sum adds up what the pattern's group matches; NaN says that there is no such file.
	sum := func(file, pattern string) (sum float64) {
		text, err := os.ReadFile(filepath.Join(proc, file))
		if errors.Is(err, fs.ErrNotExist) {
			return math.NaN()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(string(text), -1) {
			n, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		return sum
	}
	f.memory = 1024 * sum("meminfo", `^MemTotal: +(\d+)`)
	f.swap = 1024 * sum("meminfo", `^SwapTotal: +(\d+)`)
	f.free = 1024 * sum("meminfo", `^MemFree: +(\d+)`)
	f.available = 1024 * sum("meminfo", `^MemAvailable: +(\d+)`)
	f.load = sum("loadavg", `^(\S+)`)
	f.age = sum("uptime", `^(\S+)`)
	f.boot = sum("stat", `^btime (\d+)`)
	f.written = 512 * sum("diskstats", `^ *\d+ +\d+ \S+ (?:\d+ ){6}(\d+)`)
	f.faults = sum("vmstat", `^pgfault (\d+)`)
	f.pressure = 1e-6 * sum("pressure/cpu", `^some .*total=(\d+)`)
	return f
}

// number is one that a program prints.
type number struct {
	what    string
	pattern string // with one group, the number, or with none: the matches are counted
	unit    float64
	want    func(facts) float64
	slack   float64 // how far it may be off, in the unit of want
	swing   float64 // and as a part of itself, as what rises and falls does so between two looks too
	sum     bool    // of all matches
	none    bool    // no match is 0
	moves   bool    // with time, so that the page does not quote it

	whose string // "": the container's; "machine": the machine's; else who says so
	why   string
	needs string // a path that the view has to have
}

func cpus(pattern string) number {
	return number{what: "CPUs", pattern: pattern, unit: 1, want: func(f facts) float64 { return f.cpus }}
}

// memory is the total; it may be rounded to the unit.
func memory(pattern string, unit float64) number {
	return number{what: "memory", pattern: pattern, unit: unit, want: func(f facts) float64 { return f.memory }, slack: unit - 1}
}

func swap(pattern string, unit float64) number {
	return number{what: "swap", pattern: pattern, unit: unit, want: func(f facts) float64 { return f.swap }, slack: unit - 1}
}

// free memory: programs start and end meanwhile, the one that prints it too.
func free(pattern string, unit float64) number {
	return number{what: "free memory", pattern: pattern, unit: unit, want: func(f facts) float64 { return f.free }, slack: 64 * miB, moves: true}
}

func load(pattern string) number {
	return number{what: "load average", pattern: pattern, unit: 1, want: func(f facts) float64 { return f.load }, slack: 0.1, swing: 0.1, moves: true}
}

func uptime(pattern string, unit float64) number {
	return number{what: "uptime", pattern: pattern, unit: unit, want: func(f facts) float64 { return f.age }, slack: unit + 2, moves: true}
}

func boot(pattern string) number {
	return number{what: "boot time", pattern: pattern, unit: 1, want: func(f facts) float64 { return f.boot }, slack: 2, moves: true}
}

// written is the sum of the matches.
func written(pattern string, unit float64) number {
	return number{what: "written to disks", pattern: pattern, unit: unit, want: func(f facts) float64 { return f.written },
		slack: 4 * miB, sum: true, none: true, moves: true, needs: "/proc/diskstats"}
}

// named is a number under another name.
func (n number) named(what string) number {
	n.what = what
	return n
}

// machines is a number that no file can make the container's.
func (n number) machines(why string) number {
	n.whose, n.why, n.needs = "machine", why, ""
	return n
}

// fromCgroup is the container's number, that the program reads from the cgroup by itself.
func (n number) fromCgroup() number {
	n.whose = "right, from the cgroup"
	return n
}

// says is a number that the program makes in its own way.
func (n number) says(who string, want func(facts) float64) number {
	n.whose, n.want = who, want
	return n
}

// served is a number that is the container's where the view has a path.
func (n number) served(path string) number {
	n.needs = path
	return n
}

func (n number) verdict() string {
	switch n.whose {
	case "":
		return "right"
	case "machine":
		return "the machine's (" + n.why + ")"
	}
	return n.whose
}

var errNothing = errors.New("nothing")

// check looks the number up in a program's output; both are what it may be, from before and after the run. text is what
// the page quotes.
func (n number) check(output string, both [2]facts) (text string, err error) {
	pattern, err := regexp.Compile("(?m)" + n.pattern)
	if err != nil {
		return "", err
	}
	var got float64
	matches := pattern.FindAllStringSubmatch(output, -1)
	switch {
	case pattern.NumSubexp() == 0:
		got = float64(len(matches))
		text = fmt.Sprintf("%g %s", got, n.what)
	case len(matches) == 0 && n.none:
		text = "no " + n.what
	case len(matches) == 0:
		return n.what, fmt.Errorf("%s: %w like %s", n.what, errNothing, n.pattern)
	default:
		if !n.sum {
			matches = matches[:1]
		}
		for _, m := range matches {
			v, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return n.what, fmt.Errorf("%s: %w", n.what, err)
			}
			got += v * n.unit
		}
		text = code(strings.Join(strings.Fields(matches[0][0]), " "))
	}
	if n.moves {
		text = n.what + " …"
	}
	a, b := n.want(both[0]), n.want(both[1])
	slack := n.slack + n.swing*max(a, b)
	// Written so that a want which is not a number fails.
	if !(got >= min(a, b)-slack && got <= max(a, b)+slack) {
		return text, fmt.Errorf("%s: %v, want %v to %v, ± %v", n.what, got, min(a, b), max(a, b), slack)
	}
	return text, nil
}

// tells says whether the number differs between a container and the machine, so that it can be told whose it is.
func (n number) tells(container, machine facts) bool {
	a, b := n.want(container), n.want(machine)
	return max(a, b)-min(a, b) > n.slack+n.swing*max(a, b)
}
