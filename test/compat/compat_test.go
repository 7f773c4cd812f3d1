package compat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const page = "../../docs/compat.md"

// sizes are the containers that each program runs in. What the first has in common with a machine of two CPUs is told
// from the second.
var sizes = []limits{{256 * miB, 1.5}, {192 * miB, 0.5}}

// pending is the verdict on a number from a file that is the kernel's own here.
const pending = "not served: "

// result is what one client did in one container.
type result struct {
	prints []string // of each number
	whose  string   // they are
	told   []bool   // whether it could have been told from the machine's
	served []string // what it read of scopefs
	others []string // of the kernel
	calls  []string // system calls
}

func TestClients(t *testing.T) {
	d := startDaemon(t)
	shared := sharedFiles(t)
	results := make([][]result, len(sizes))
	t.Run("in", func(t *testing.T) {
		for i, size := range sizes {
			results[i] = make([]result, len(clients))
			t.Run(size.String(), func(t *testing.T) {
				containers := map[string]*container{}
				for _, dist := range []distribution{bookworm, bullseye} {
					containers[dist.suite] = startContainer(t, d, dist.root(t), shared, size)
				}
				containers[bookworm.suite].write()
				if i == 0 {
					prepare(containers[bookworm.suite])
				}
				t.Parallel()
				for k, cl := range clients {
					c := *containers[cl.in.suite]
					t.Run(cl.title(), func(t *testing.T) {
						c.t = t
						results[i][k] = measure(&c, cl)
					})
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	for k, cl := range clients {
		for n, told := range results[0][k].told {
			if !told && !results[1][k].told[n] {
				t.Logf("%s, %s: the same in both containers and on this machine: nobody can tell whose", cl.title(), cl.numbers[n].what)
			}
		}
	}
	now := render(t, results)
	if *update {
		if err := os.WriteFile(page, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	before, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want, got := verdicts(string(before)), verdicts(now)
	for row, whose := range got {
		// Not every kernel has every file.
		if strings.Contains(whose, pending) {
			t.Logf("%s: %s", row, whose)
			delete(want, row)
			delete(got, row)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/compat.md says otherwise (-page +now); make compat writes it:\n%s", diff)
	}
}

// sharedFiles is a directory with what the clients run.
func sharedFiles(t *testing.T) string {
	t.Helper()
	// Not on a tmpfs, for the clients that show a disk.
	dir, err := os.MkdirTemp("/var/tmp", "scopefs-compat-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(files, self) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if path == self {
			name = "goclient"
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// write gives the container a disk that it wrote to.
func (c *container) write() {
	c.t.Helper()
	c.run("exec", c.id, "dd", "if=/dev/zero", "of=/compat/"+c.id, "bs=1M", "count=16", "conv=fsync", "oflag=direct", "status=none")
}

// prepare compiles the Java program: there is no JDK in the root, which would be 70 MB more to fetch.
func prepare(c *container) {
	c.t.Helper()
	c.run("exec", c.id, java, "-cp", "/usr/share/java/eclipse-jdt-core.jar", "org.eclipse.jdt.internal.compiler.batch.Main",
		"-17", "-proc:none", "-d", "/compat", "/compat/Machine.java")
}

// measure runs the client and checks what it prints.
func measure(c *container, cl client) (r result) {
	t := c.t
	t.Helper()
	machine, ours := machineFacts(t), c.facts()
	output, reads, err := c.trace(cl.command)
	both := [2]facts{ours, c.facts()}
	machineBoth := [2]facts{machine, machineFacts(t)}
	for _, what := range reads {
		switch {
		case !strings.HasPrefix(what, "/"):
			r.calls = append(r.calls, what)
		case c.served(what):
			r.served = append(r.served, what)
		default:
			r.others = append(r.others, what)
		}
	}
	t.Logf("%s\nreads %s", output, readsOf(r))
	if err != nil {
		t.Errorf("it does not run clean: %v", err)
	}
	output = escapes.ReplaceAllString(output, "")
	var verdicts []string
	for _, n := range cl.numbers {
		if n.needs != "" && !c.served(n.needs) {
			if _, err := n.check(output, both); errors.Is(err, errNothing) {
				t.Error(err)
			}
			r.prints, r.told = append(r.prints, n.what), append(r.told, false)
			verdicts = append(verdicts, pending+code(n.needs))
			continue
		}
		want := both
		if n.whose == "machine" {
			want = machineBoth
		}
		text, err := n.check(output, want)
		if err != nil {
			t.Error(err)
		}
		r.told = append(r.told, n.tells(ours, machine))
		r.prints = append(r.prints, text)
		verdicts = append(verdicts, n.verdict())
	}
	if r.whose = verdict(cl.numbers, verdicts); len(cl.numbers) == 0 {
		r.whose = "runs clean"
	}
	return r
}

// escapes move the cursor and set colours.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|[()][A-B0]|[=>])`)

// render writes the page.
func render(t *testing.T, results [][]result) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(introduction)
	machine := machineFacts(t)
	fmt.Fprintf(&b, "The machine of this run: %s, %s, %g CPUs, %.0f MiB of memory, %.0f MiB of swap.\n", kernel(t), cgroups(), machine.cpus, machine.memory/miB, machine.swap/miB)
	for i, cl := range clients {
		if i == 0 || cl.in.suite != clients[i-1].in.suite {
			fmt.Fprintf(&b, "\n## %s\n\n| program | command | %s | %s | whose | reads |\n|---|---|---|---|---|---|\n", cl.in.title, sizes[0], sizes[1])
		}
		program := "Go " + strings.TrimPrefix(runtime.Version(), "go")
		if cl.pkg != "go" {
			program = cl.pkg + " " + version(t, cl.in.root(t), cl.pkg)
		}
		first, second := results[0][i], results[1][i]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", program, code(cl.title()), prints(first), prints(second), first.whose, readsOf(first))
	}
	b.WriteString(limitsOfFiles)
	return b.String()
}

// prints are the numbers of a row.
func prints(r result) string { return strings.Join(r.prints, "; ") }

// code quotes what may hold a | for a table.
func code(s string) string { return "`" + strings.ReplaceAll(s, "|", `\|`) + "`" }

// verdict sums up those of the numbers.
func verdict(numbers []number, verdicts []string) string {
	var kinds []string
	of := map[string][]string{}
	for i, v := range verdicts {
		if !slices.Contains(kinds, v) {
			kinds = append(kinds, v)
		}
		if what := numbers[i].what; !slices.Contains(of[v], what) {
			of[v] = append(of[v], what)
		}
	}
	if len(kinds) == 1 {
		return kinds[0]
	}
	var parts []string
	for _, v := range kinds {
		parts = append(parts, strings.Join(of[v], ", ")+": "+v)
	}
	return strings.Join(parts, "; ")
}

func readsOf(r result) string {
	quote := func(list []string) string {
		var parts []string
		for _, path := range list {
			if strings.HasPrefix(path, "/") {
				path = code(path)
			}
			parts = append(parts, path)
		}
		return strings.Join(parts, ", ")
	}
	var parts []string
	for _, kind := range []struct {
		words string
		list  []string
	}{{"", r.served}, {"the kernel's ", r.others}, {"calls ", r.calls}} {
		if len(kind.list) > 0 {
			parts = append(parts, kind.words+quote(kind.list))
		}
	}
	return strings.Join(parts, "; ")
}

// verdicts are those of a page, by section and command.
func verdicts(page string) map[string]string {
	of := map[string]string{}
	var section string
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
		} else if cells := strings.Split(line, " | "); len(cells) == 6 {
			of[section+" "+cells[1]] = cells[4]
		}
	}
	return of
}

func kernel(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release, _, _ := bytes.Cut(u.Release[:], []byte{0})
	return "Linux " + regexp.MustCompile(`^\d+\.\d+`).FindString(string(release))
}

func cgroups() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "cgroup v2"
	}
	if out, err := exec.Command("findmnt", "-t", "cgroup2").Output(); err == nil && len(out) > 0 {
		return "cgroup v1, hybrid"
	}
	return "cgroup v1"
}
