package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"
)

// page collects what is told of a result, for a terminal and for Markdown alike.
type page struct {
	blocks []block
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

// page is the result in tables, as a terminal shows it.
func (r *Result) page() *page {
	p := new(page)
	if len(r.Budgets) > 0 {
		p.heading("Budgets")
		r.reportBudgets(p)
	}
	for _, s := range sections {
		if r.has(s.name) {
			p.heading(s.title)
			s.report(r, p)
		}
	}
	return p
}

func (r *Result) reportBudgets(p *page) {
	if r.Smoke {
		p.text("This was a smoke test: the numbers mean nothing.")
	}
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

// pageTemplate is docs/performance.md without its numbers.
//
//go:embed performance.md.tmpl
var pageTemplate string

// writePage writes docs/performance.md and its plots.
func writePage(r *Result, path, plots string) error {
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	base, err := filepath.Rel(filepath.Dir(path), plots)
	if err != nil {
		return err
	}
	text, err := r.markdown(base, func(p *plot) error {
		return os.WriteFile(filepath.Join(plots, p.file), []byte(p.svg), 0o644)
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// markdown fills pageTemplate in. base is the directory of the plots as the page names it; save is called for each.
func (r *Result) markdown(base string, save func(p *plot) error) (string, error) {
	var err error
	render := func(p *page) string {
		var out strings.Builder
		for _, b := range p.blocks {
			switch {
			case b.heading != "":
				out.WriteString("\n### " + b.heading + "\n")
			case b.text != "":
				out.WriteString("\n" + b.text + "\n")
			case b.table != nil:
				out.WriteString("\n" + b.table.markdown())
			case b.plot != nil:
				err = errors.Join(err, save(b.plot))
				fmt.Fprintf(&out, "\n![%s](%s/%s)\n", b.plot.alt, base, b.plot.file)
			}
		}
		return strings.TrimSpace(out.String())
	}
	functions := template.FuncMap{
		"budgets": func() string {
			p := new(page)
			r.reportBudgets(p)
			return render(p)
		},
		"section": func(name string) (string, error) {
			for _, s := range sections {
				if s.name == name {
					if !r.has(name) {
						return "(Not measured in this run.)", nil
					}
					p := new(page)
					s.report(r, p)
					return render(p), nil
				}
			}
			return "", fmt.Errorf("there is no section %s", name)
		},
		"gib":     func(bytes int64) string { return fmt.Sprintf("%.0f GiB", float64(bytes)/(1<<30)) },
		"minutes": func(s float64) string { return fmt.Sprintf("%.0f minutes", math.Ceil(s/60)) },
	}
	t, terr := template.New("page").Option("missingkey=error").Funcs(functions).Parse(pageTemplate)
	if terr != nil {
		return "", terr
	}
	var out strings.Builder
	if terr := t.Execute(&out, r); terr != nil {
		return "", terr
	}
	return out.String(), err
}
