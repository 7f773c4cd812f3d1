package view

import (
	"bytes"
	"math"
	"math/bits"
)

// cutLine cuts the first line, with its newline, off a text.
func cutLine(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i+1], text[i+1:]
	}
	return text, nil
}

// cutField cuts the first run of characters that are not blank off a line.
func cutField(line []byte) (field, rest []byte) {
	start := 0
	for start < len(line) && isBlank(line[start]) {
		start++
	}
	end := start
	for end < len(line) && !isBlank(line[end]) {
		end++
	}
	return line[start:end], line[end:]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// number is the decimal number at the start of a text and how many digits it has. It saturates at MaxInt64, so that a
// broken text cannot bring a number into a view that a reader's signed type does not hold.
func number(text []byte) (n uint64, digits int) {
	for digits < len(text) && isDigit(text[digits]) {
		digit := uint64(text[digits] - '0')
		if n > (math.MaxInt64-digit)/10 {
			n = math.MaxInt64
		} else {
			n = n*10 + digit
		}
		digits++
	}
	return n, digits
}

// sub is a − b, or 0 where b is larger.
func sub(a, b uint64) uint64 { return a - min(a, b) }

// add is a + b, or the largest number where that overflows.
func add(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// mul is a × b, or the largest number where that overflows.
func mul(a, b uint64) uint64 {
	if high, low := bits.Mul64(a, b); high == 0 {
		return low
	}
	return math.MaxUint64
}
