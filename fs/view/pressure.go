package view

import (
	"bytes"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// Pressure returns the renderer of /proc/pressure/<resource>: the cgroup's own file, as the kernel prints it. It needs
// NeedPressure(r).
func Pressure(r cgroup.Pressure) func(dst []byte, h *host.Snapshot, c *Container) []byte {
	return func(dst []byte, h *host.Snapshot, c *Container) []byte {
		if c == nil || c.Pressure[r] == nil {
			return append(dst, h.Pressure[r]...)
		}
		return append(dst, c.Pressure[r].Text...)
	}
}

// explainPressure names every number of a pressure file by its line and its key.
func explainPressure(c *Container, resource string) (numbers []Number) {
	for r := range cgroup.Pressures {
		p := c.Pressure[r]
		if r.String() != resource || p == nil {
			continue
		}
		for line := range bytes.Lines(p.Text) {
			kind, rest := cutField(line)
			for {
				var field []byte
				if field, rest = cutField(rest); len(field) == 0 {
					break
				}
				key, text, _ := bytes.Cut(field, []byte("="))
				if value, unit, ok := parsePressure(text); ok {
					numbers = append(numbers, Number{
						Key: string(kind) + " " + string(key), Value: value, Unit: unit,
						Source: resource + ".pressure", Level: p.Path, Rule: "the cgroup's own",
					})
				}
			}
		}
	}
	return numbers
}

// parsePressure reads an average, percent with two digits of fraction, or a total in µs.
func parsePressure(text []byte) (value uint64, unit string, ok bool) {
	value, digits := number(text)
	rest := text[digits:]
	if digits == 0 || len(rest) == 0 {
		return value, "µs", digits > 0
	}
	hundredths, digits := number(rest[1:])
	if rest[0] != '.' || digits != 2 || len(rest) != 3 {
		return 0, "", false
	}
	return add(mul(value, 100), hundredths), "hundredths of %", true
}
