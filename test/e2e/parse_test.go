package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// meminfo holds the rows of /proc/meminfo in bytes, and HugePages_* as they are.
type meminfo map[string]int64

func parseMeminfo(t testing.TB, text string) meminfo {
	t.Helper()
	m, err := tryMeminfo(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryMeminfo(text string) (meminfo, error) {
	m := meminfo{}
	if !strings.HasPrefix(text, "MemTotal:") || !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("not a whole meminfo: %q", text)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasSuffix(f[0], ":") || len(f) == 3 && f[2] != "kB" || len(f) > 3 {
			return nil, fmt.Errorf("line %q of meminfo", line)
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("line %q of meminfo: %v", line, err)
		}
		if len(f) == 3 {
			n *= kiB
		}
		m[strings.TrimSuffix(f[0], ":")] = n
	}
	return m, nil
}

// used is what free(1) shows as used, with the buffers of the kernel counted too.
func (m meminfo) used() int64 { return m["MemTotal"] - m["MemFree"] - m["Buffers"] - m["Cached"] }

// near says whether a and b are at most tolerance apart.
func near[N ~int | ~int64 | ~float64](a, b, tolerance N) bool {
	return a-b <= tolerance && b-a <= tolerance
}

// procStat holds the rows of /proc/stat: "cpu", "cpu0" …, in ticks.
type procStat map[string]cpuTimes

// cpuTimes are the columns of a row.
type cpuTimes [10]int64

const (
	userTime = iota
	niceTime
	systemTime
	idleTime
	ioTime
	irqTime
	softirqTime
	stealTime
)

func (c cpuTimes) sum() (sum int64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

func (c cpuTimes) minus(o cpuTimes) cpuTimes {
	for i := range c {
		c[i] -= o[i]
	}
	return c
}

// percent is the part of the columns in the whole.
func (c cpuTimes) percent(columns ...int) float64 {
	var n int64
	for _, i := range columns {
		n += c[i]
	}
	return 100 * float64(n) / float64(max(c.sum(), 1))
}

func parseStat(t testing.TB, text string) procStat {
	t.Helper()
	s, err := tryStat(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryStat(text string) (procStat, error) {
	s := procStat{}
	if !strings.HasPrefix(text, "cpu  ") || !strings.HasSuffix(text, "\n") {
		return nil, fmt.Errorf("not a whole stat: %.200q", text)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if len(f) != 11 {
			return nil, fmt.Errorf("line %q of stat", line)
		}
		var row cpuTimes
		for i := range row {
			n, err := strconv.ParseInt(f[i+1], 10, 64)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("line %q of stat: %v", line, err)
			}
			row[i] = n
		}
		s[f[0]] = row
	}
	return s, nil
}

// cpus is the number of rows.
func (s procStat) cpus() int { return len(s) - 1 }

// files are the virtual files and what they look like as a whole.
var files = map[string]*regexp.Regexp{
	"proc/meminfo":                    regexp.MustCompile(`\AMemTotal: +\d+ kB\n(\S+: +\d+( kB)?\n){20,}\z`),
	"proc/stat":                       regexp.MustCompile(`\Acpu  (\d+ ?){10}\n(cpu\d+ (\d+ ?){10}\n)+intr [\d ]+\nctxt \d+\nbtime \d+\nprocesses \d+\nprocs_running \d+\nprocs_blocked \d+\nsoftirq [\d ]+\n\z`),
	"proc/cpuinfo":                    regexp.MustCompile(`\Aprocessor\t: 0\n(.*\n)+\z`),
	"proc/loadavg":                    regexp.MustCompile(`\A\d+\.\d\d \d+\.\d\d \d+\.\d\d \d+/\d+ \d+\n\z`),
	"proc/uptime":                     regexp.MustCompile(`\A\d+\.\d\d \d+\.\d\d\n\z`),
	"proc/swaps":                      regexp.MustCompile(`\AFilename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n(\S+.*\n)*\z`),
	"proc/diskstats":                  regexp.MustCompile(`\A( *\d+ +\d+ \S+( \d+){11,}\n)*\z`),
	"proc/vmstat":                     regexp.MustCompile(`\Anr_free_pages \d+\n([a-z0-9_]+ \d+\n){80,}\z`),
	"proc/slabinfo":                   regexp.MustCompile(`\Aslabinfo - version: 2\.1\n# name .*\n(.+ : slabdata .*\n)*\z`),
	"sys/devices/system/cpu/online":   cpuList,
	"sys/devices/system/cpu/present":  cpuList,
	"sys/devices/system/cpu/possible": cpuList,
	"sys/devices/system/cpu/offline":  regexp.MustCompile(`\A[\d,-]*\n\z`),
}

var cpuList = regexp.MustCompile(`\A\d+(-\d+)?(,\d+(-\d+)?)*\n\z`)

// whole says whether text is a whole snapshot of the file.
func whole(file, text string) error {
	if strings.ContainsRune(text, 0) {
		return fmt.Errorf("%s: NUL bytes at %d of %d", file, strings.IndexByte(text, 0), len(text))
	}
	pattern := files[file]
	if pattern == nil {
		pattern = sysFiles[file]
	}
	if !pattern.MatchString(text) {
		return fmt.Errorf("%s: not whole, %d bytes: %.300q … %q", file, len(text), text, text[max(0, len(text)-60):])
	}
	return nil
}
