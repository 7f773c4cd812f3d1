package cgroup

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
)

// safeDigits is how many digits always fit 64 bits.
const safeDigits = 19

// parseUint reads a decimal number that fits 64 bits. strconv.ParseUint would need a string of the bytes.
func parseUint(text []byte) (n uint64, ok bool) {
	safe := text[:min(len(text), safeDigits)]
	for _, c := range safe {
		digit := uint64(c - '0')
		if digit > 9 {
			return 0, false
		}
		n = n*10 + digit
	}
	for _, c := range text[len(safe):] {
		digit := uint64(c - '0')
		if digit > 9 || n > (math.MaxUint64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, len(text) > 0
}

// parseNumber reads a file that holds one number.
func parseNumber(text []byte) (uint64, error) {
	n, ok := parseUint(bytes.TrimSpace(text))
	if !ok {
		return 0, fmt.Errorf("cgroup: no number: %.100q", text)
	}
	return n, nil
}

// v1Unlimited is below v1's PAGE_COUNTER_MAX, which depends on the page size and is 0x7ffffffffffff000 for 4 KiB; no
// machine has as many bytes.
const v1Unlimited = 1 << 60

// parseLimit reads a file that holds one limit in bytes: "max" of v2, or v1's number.
func parseLimit(text []byte) (uint64, error) {
	text = bytes.TrimSpace(text)
	if string(text) == "max" {
		return Unlimited, nil
	}
	n, err := parseNumber(text)
	if n >= v1Unlimited {
		n = Unlimited
	}
	return n, err
}

// parseQuota reads one quota in µs: "max" of v2, -1 of v1. The kernel takes no quota below 1 ms, so 0 is no quota.
func parseQuota(text []byte) (uint64, error) {
	text = bytes.TrimSpace(text)
	if string(text) == "max" || string(text) == "-1" {
		return Unlimited, nil
	}
	n, err := parseNumber(text)
	if err == nil && n == 0 {
		err = fmt.Errorf("cgroup: no quota: %.100q", text)
	}
	return n, err
}

// maxPeriod is the kernel's max_cfs_quota_period, 1 s, in µs.
const maxPeriod = 1_000_000

// parsePeriod reads one period in µs; it is never 0.
func parsePeriod(text []byte) (uint64, error) {
	n, err := parseNumber(text)
	if err == nil && (n == 0 || n > maxPeriod) {
		err = fmt.Errorf("cgroup: no period: %.100q", text)
	}
	return n, err
}

// parseCPUMax reads cpu.max: "max 100000" or "150000 100000".
func parseCPUMax(text []byte) (quota, period uint64, err error) {
	first, second, _ := bytes.Cut(bytes.TrimSpace(text), []byte{' '})
	if quota, err = parseQuota(first); err != nil {
		return 0, 0, err
	}
	if period, err = parsePeriod(second); err != nil {
		return 0, 0, err
	}
	return quota, period, nil
}

// nextField cuts the first "key value" line off a flat-keyed file such as blkio.throttle.io_serviced.
func nextField(text []byte) (key, value, rest []byte) {
	line, rest, _ := bytes.Cut(text, []byte{'\n'})
	key, value, _ = bytes.Cut(line, []byte{' '})
	return key, value, rest
}

// nextNumber is nextField for values that are numbers, in one pass; ok is false for a value that is none.
func nextNumber(text []byte) (key []byte, n uint64, ok bool, rest []byte) {
	blank := 0
	for blank < len(text) && text[blank] != ' ' && text[blank] != '\n' {
		blank++
	}
	key = text[:blank]
	if blank == len(text) || text[blank] == '\n' {
		return key, 0, false, text[min(blank+1, len(text)):]
	}
	end := blank + 1
	for ; end < len(text); end++ {
		digit := uint64(text[end] - '0')
		if digit > 9 {
			break
		}
		n = n*10 + digit
	}
	digits := text[blank+1 : end]
	ok = len(digits) > 0
	if len(digits) > safeDigits {
		n, ok = parseUint(digits)
	}
	if end < len(text) && text[end] != '\n' {
		ok = false
		_, rest, _ = bytes.Cut(text[end:], []byte{'\n'})
		return key, n, ok, rest
	}
	return key, n, ok, text[min(end+1, len(text)):]
}

// errNoNumber says that the value of a key is no number.
func errNoNumber(key []byte) error { return fmt.Errorf("cgroup: no number: %.40q", key) }

// setField stores the value of a key that nextField cut.
func setField(dst *uint64, key, value []byte) error {
	n, ok := parseUint(value)
	if !ok {
		return fmt.Errorf("cgroup: no number: %.40q %.100q", key, value)
	}
	*dst = n
	return nil
}

// add is a + b, or the largest number where that does not fit.
func add(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

// sub is a - b, or 0 where b is the larger.
func sub(a, b uint64) uint64 { return a - min(a, b) }

// mul is a × b, or the largest number where that does not fit.
func mul(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}
