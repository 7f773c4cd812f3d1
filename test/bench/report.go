package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// page collects what is told of a result, for a terminal and for Markdown alike.
type page struct {
	blocks []block
	// plots says where the plots' files will be, as the page names it; "" leaves them out.
	plots string
}

type block struct {
	heading string
	text    string // a paragraph
	table   *table
	plot    *plot
}

// table is one of text cells; the first column is aligned left, the others right.
type table struct {
	columns []string
	rows    [][]string
}

// plot is a picture, an SVG file.
type plot struct {
	file string // its name
	alt  string // what it shows
	svg  string
}

func (p *page) heading(text string) { p.blocks = append(p.blocks, block{heading: text}) }
func (p *page) text(format string, args ...any) {
	p.blocks = append(p.blocks, block{text: fmt.Sprintf(format, args...)})
}
func (p *page) plot(file, alt, svg string) {
	p.blocks = append(p.blocks, block{plot: &plot{file, alt, svg}})
}

// table begins a table whose rows are added to what it returns.
func (p *page) table(columns ...string) *table {
	t := &table{columns: columns}
	p.blocks = append(p.blocks, block{table: t})
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// number is a number with three significant digits, "–" for none.
func number(v float64, ok bool) string {
	if !ok {
		return "–"
	}
	digits := 0
	if v != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	text := strconv.FormatFloat(v, 'f', min(digits, 4), 64)
	if len(text) > 4 && !strings.Contains(text, ".") {
		return text[:len(text)-3] + "," + text[len(text)-3:]
	}
	return text
}

// times is a ratio.
func times(v float64, ok bool) string {
	if !ok {
		return "–"
	}
	return number(v, ok) + "×"
}

// print writes tables for a terminal.
func (r *Result) print(w io.Writer) error {
	p := r.page()
	var err error
	out := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	for _, b := range p.blocks {
		switch {
		case b.heading != "":
			out("\n%s\n", strings.ToUpper(b.heading))
		case b.text != "":
			out("\n%s\n", b.text)
		case b.table != nil:
			out("\n%s", b.table.plain())
		}
	}
	return err
}

func (t *table) plain() string {
	width := make([]int, len(t.columns))
	for _, row := range append([][]string{t.columns}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for _, row := range append([][]string{t.columns}, t.rows...) {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				out.WriteString("  " + cell + pad)
			} else {
				out.WriteString("  " + pad + cell)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

func (t *table) markdown() string {
	var out strings.Builder
	out.WriteString("| " + strings.Join(t.columns, " | ") + " |\n|---|" + strings.Repeat("--:|", len(t.columns)-1) + "\n")
	for _, row := range t.rows {
		out.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return out.String()
}

// page is the result in tables.
func (r *Result) page() *page {
	p := new(page)
	if len(r.Budgets) > 0 {
		p.heading("Budgets")
		t := p.table("what", "budget", "measured", "")
		for _, b := range r.Budgets {
			sign, verdict := "≤ ", "met"
			if b.Least {
				sign = "≥ "
			}
			if !b.Met {
				verdict = "missed"
			}
			t.row(b.What, sign+number(b.Limit, true)+b.Unit, number(b.Value, true)+b.Unit, verdict)
		}
	}
	for _, s := range sections {
		if r.has(s.name) {
			p.heading(s.title)
			s.report(r, p)
		}
	}
	return p
}

// writePage writes docs/performance.md and its plots.
func writePage(r *Result, path, plots string) error {
	p := r.page()
	var out strings.Builder
	out.WriteString(pageHead(r))
	for _, b := range p.blocks {
		switch {
		case b.heading != "":
			out.WriteString("\n## " + b.heading + "\n")
		case b.text != "":
			out.WriteString("\n" + b.text + "\n")
		case b.table != nil:
			out.WriteString("\n" + b.table.markdown())
		case b.plot != nil && plots != "":
			rel, err := filepath.Rel(filepath.Dir(path), filepath.Join(plots, b.plot.file))
			if err != nil {
				return err
			}
			if err := os.MkdirAll(plots, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(plots, b.plot.file), []byte(b.plot.svg), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&out, "\n![%s](%s)\n", b.plot.alt, rel)
		}
	}
	return os.WriteFile(path, []byte(out.String()), 0o644)
}

func pageHead(r *Result) string { return "# Performance\n" }
