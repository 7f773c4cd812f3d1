package run

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits are what the container's cgroup gets. A zero value is no limit.
type Limits struct {
	Memory int64  // bytes
	Swap   *int64 // bytes of swap alone, in addition to Memory; nil: not set
	CPUs   float64
	Cpuset string // list format of the kernel, such as "0-2,4"
	Pids   int64
}

// period of the CPU quota, in µs, and the smallest quota that the kernel takes.
const (
	period   = 100_000
	minQuota = 1_000
)

// quota returns the µs of CPU time per period.
func (l Limits) quota() int64 { return int64(math.Round(l.CPUs * period)) }

// check says what is wrong with the limits, naming the flag.
func (l Limits) check() error {
	switch {
	case l.Memory < 0:
		return fmt.Errorf("--memory %d: want 0 or more bytes", l.Memory)
	case l.Swap != nil && *l.Swap < 0:
		return fmt.Errorf("--swap %d: want 0 or more bytes", *l.Swap)
	case l.CPUs != 0 && (!(l.CPUs*period >= minQuota) || l.CPUs > 1<<20):
		return fmt.Errorf("--cpus %v: want a number of CPUs of at least %v, such as 1.5", l.CPUs, float64(minQuota)/period)
	case l.Pids < 0:
		return fmt.Errorf("--pids %d: want a number of processes above 0", l.Pids)
	}
	if l.Cpuset != "" {
		if err := checkList(l.Cpuset); err != nil {
			return fmt.Errorf("--cpuset %s: %w", l.Cpuset, err)
		}
	}
	return nil
}

// ParseSize reads a number of bytes with an optional binary suffix, as docker does: "256M", "1.5g", "64MiB", "4096".
func ParseSize(s string) (int64, error) {
	wrong := fmt.Errorf("%q is not a size: want bytes with an optional suffix k, m, g or t, such as 256M", s)
	num := strings.ToLower(strings.TrimSpace(s))
	shift := 0
	num, hasI := strings.CutSuffix(num, "ib")
	if !hasI {
		num = strings.TrimSuffix(num, "b")
	}
	if i := strings.IndexAny(num, "kmgt"); i >= 0 {
		if i != len(num)-1 {
			return 0, wrong
		}
		shift = 10 * (1 + strings.IndexByte("kmgt", num[i]))
		num = num[:i]
	} else if hasI {
		return 0, wrong
	}
	if n, err := strconv.ParseInt(num, 10, 64); err == nil && n >= 0 && n <= math.MaxInt64>>shift {
		return n << shift, nil
	}
	// Digits and one point only: ParseFloat would take "inf" and "0x1p3" as well.
	if strings.Trim(num, "0123456789.") != "" {
		return 0, wrong
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return 0, wrong
	}
	if f *= float64(int64(1) << shift); f >= 1<<63 {
		return 0, fmt.Errorf("%q is more than %d bytes", s, int64(math.MaxInt64))
	}
	return int64(f), nil
}

// checkList checks the kernel's list format: N, N-M and N-M:used/group, separated by commas.
func checkList(s string) error {
	for item := range strings.SplitSeq(s, ",") {
		span, group, grouped := strings.Cut(item, ":")
		first, last, isRange := strings.Cut(span, "-")
		a, err := strconv.ParseUint(first, 10, 31)
		if err != nil {
			return wrongList(item)
		}
		if isRange {
			if b, err := strconv.ParseUint(last, 10, 31); err != nil || b < a {
				return wrongList(item)
			}
		}
		if grouped {
			used, size, ok := strings.Cut(group, "/")
			u, uerr := strconv.ParseUint(used, 10, 31)
			g, gerr := strconv.ParseUint(size, 10, 31)
			if !ok || !isRange || errors.Join(uerr, gerr) != nil || u == 0 || u > g {
				return wrongList(item)
			}
		}
	}
	return nil
}

func wrongList(item string) error {
	return fmt.Errorf("%q is not in the kernel's list format: want CPUs and ascending ranges, such as 0-2,4", item)
}
