package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// chart is a figure with a linear y axis from 0: for each label a value of every series.
type chart struct {
	title  string
	unit   string   // of the values
	x      string   // what the labels count, "" for names
	labels []string // along the x axis
	series []series
	// lines joins a series' values by a line, where they are otherwise bars side by side.
	lines bool
}

// series is one row of a chart. A value below 0 was not measured and is left out.
type series struct {
	name   string
	values []float64
}

// The chart's measures, in user units; text is 12 high.
const (
	chartWidth  = 820
	chartHeight = 360
	plotLeft    = 56
	plotRight   = chartWidth - 12
	plotTop     = 76
	plotBottom  = chartHeight - 48
)

// The variants' colours differ for all kinds of colour vision and stand out from a white and from a black page.
var chartColours = map[string]string{
	kernel: "#8a8a8a", floor: "#b8860b", own: "#1f77c9", ownFresh: "#6fb1e8", compat: "#2a9d6f", lxcfs: "#c94f1f",
}

const chartStyle = `text{font:12px system-ui,sans-serif;fill:#222}.t{font-size:15px;font-weight:600}.v{font-size:10px}` +
	`.m{text-anchor:middle}.e{text-anchor:end}.g{stroke:#8886;stroke-width:1}.l{fill:none;stroke-width:2}.b{fill:#fff}` +
	`@media(prefers-color-scheme:dark){text{fill:#ddd}.b{fill:#0d1117}}`

// svg draws the chart. Text stays text, in the reader's font, and its colours follow the page's scheme.
func (c *chart) svg() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", chartWidth, chartHeight,
		html.EscapeString(c.title))
	fmt.Fprintf(&b, "<style>%s</style>\n<rect class=\"b\" width=\"100%%\" height=\"100%%\"/>\n", chartStyle)
	text := func(class string, x, y float64, s string) {
		fmt.Fprintf(&b, `<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, html.EscapeString(s))
	}
	text("t", 12, 24, c.title+", "+c.unit)
	at := 12.0
	for _, s := range c.series {
		fmt.Fprintf(&b, `<rect x="%.1f" y="39" width="11" height="11" rx="2" fill="%s"/>`+"\n", at, colour(s.name))
		text("", at+16, 49, s.name)
		at += 34 + 7*float64(len(s.name))
	}

	step, top := c.scale()
	y := func(v float64) float64 { return plotBottom - (plotBottom-plotTop)*v/top }
	for v := 0.0; v <= top*1.0001; v += step {
		fmt.Fprintf(&b, `<path class="g" d="M%d %.1fH%d"/>`+"\n", plotLeft, y(v), plotRight)
		text("e", plotLeft-6, y(v)+4, short(v))
	}
	slot := (plotRight - plotLeft) / float64(max(1, len(c.labels)))
	for i, l := range c.labels {
		text("m", plotLeft+slot*(float64(i)+.5), plotBottom+18, l)
	}
	text("m", (plotLeft+plotRight)/2, plotBottom+38, c.x)

	width := slot * .86 / float64(max(1, len(c.series)))
	for i, s := range c.series {
		var path strings.Builder
		for j, v := range s.values {
			if v < 0 || math.IsNaN(v) {
				continue
			}
			x := plotLeft + slot*(float64(j)+.5)
			if c.lines {
				fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[path.Len() == 0], x, y(v))
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s, %s: %s %s</title></circle>`+"\n", x, y(v), colour(s.name),
					html.EscapeString(s.name), html.EscapeString(c.labels[j]), short(v), html.EscapeString(c.unit))
				text("v m", x, y(v)-8, short(v))
				continue
			}
			x += width * (float64(i) - float64(len(c.series))/2)
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s, %s: %s %s</title></rect>`+"\n", x, y(v), width*.92,
				plotBottom-y(v), colour(s.name), html.EscapeString(s.name), html.EscapeString(c.labels[j]), short(v), html.EscapeString(c.unit))
			text("v m", x+width*.46, y(v)-3, short(v))
		}
		if path.Len() > 0 {
			fmt.Fprintf(&b, `<path class="l" stroke="%s" d="%s"/>`+"\n", colour(s.name), path.String())
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// scale returns the distance of the lines of the y axis, a round number, and the last of them, which no value is above.
func (c *chart) scale() (step, top float64) {
	for _, s := range c.series {
		for _, v := range s.values {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				top = max(top, v)
			}
		}
	}
	if top == 0 {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(top)))
	for _, f := range []float64{.1, .2, .5, 1} {
		if top/(step*f) <= 7 {
			step *= f
			break
		}
	}
	if top/step > 7 {
		step *= 2
	}
	return step, step * math.Ceil(top/step-1e-9)
}

func colour(variant string) string { return cmp.Or(chartColours[variant], "#9a5fc0") }

// short is v with three digits that matter, or all before the point.
func short(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
