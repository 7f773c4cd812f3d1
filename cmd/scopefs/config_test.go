package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopefs/scopefs/fs/policy"
)

// The file that is shipped says what holds without it, and names every key.
func TestShippedConfig(t *testing.T) {
	if os.Getenv("SCOPEFS_VM") != "" {
		t.Skip("the VMs of test/vm hold the packages' own files alone")
	}
	const path = "../../packaging/config.toml"
	got, err := readConfig(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Clone(policy.Files)
	for _, k := range configKeys {
		names = append(names, k.name)
	}
	lines := strings.NewReplacer("# ", "", `"`, "").Replace("\n" + string(text))
	for _, name := range names {
		if !strings.Contains(lines, "\n"+name+" = ") {
			t.Errorf("it does not name %s", name)
		}
	}
}

func TestReadConfig(t *testing.T) {
	c, problems := parseConfig(`
socket = "/tmp/s"
log_level = "debug"
max_age = "0"
cpu_source = "shares"
reader = "parent"
swap = false
files."pressure/io" = false
files.cpu = false
files.node = true
`)
	want := config{Mount: defaultMount, Socket: "/tmp/s", LogLevel: slog.LevelDebug}
	want.Policy = policy.Policy{CPUSource: policy.Shares, Reader: policy.Parent, NoSwap: true, Off: []string{"cpu", "pressure/io"}}
	if len(problems) > 0 || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v; %v", c, want, problems)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if c, err := readConfig(missing, false); err != nil || !reflect.DeepEqual(c, defaults()) {
		t.Errorf("a default file that is missing: %+v, %v", c, err)
	}
	if _, err := readConfig(missing, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named is missing: %v", err)
	}
}

// Every value of every key, as its own text says it.
func TestConfigTakesWhatItWrites(t *testing.T) {
	want := config{Mount: "/m", LXCFSCompat: "/l", Socket: "/s", LogLevel: slog.LevelError, MaxAge: 1500 * time.Microsecond}
	for i := range 3 {
		for _, s := range policy.Settings {
			if err := want.Policy.Set(s.Name, s.Allowed[i%len(s.Allowed)]); err != nil {
				t.Fatal(err)
			}
		}
		want.Policy.Off = slices.Sorted(slices.Values(policy.Files[i*2:]))
		var text bytes.Buffer
		if err := want.write(&text); err != nil {
			t.Fatal(err)
		}
		if got, problems := parseConfig(text.String()); len(problems) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v; %v; of\n%s", got, want, problems, &text)
		}
	}
}

// All problems at once, each with its file, its line, the key and what is allowed.
func TestConfigProblems(t *testing.T) {
	text := `mount = 5
muont = "/x"
swap = "off"

cpu_source = "fast"
reader = ["container"]
socket = "relative"
log_level = "loud"
cpu_identity = { count = true }
steal = true

[files]
meminfo = 1
"no/such" = true
vmstat = false
pressure.io = false
[nothing]
x = 1
`
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`line 1: mount is 5; it is an absolute path`,
		`line 2: there is no key "muont"; the keys are mount, lxcfs_compat, socket, log_level, max_age, cpu_source,`,
		`line 3: swap is "off"; it is true or false`,
		`line 5: cpu_source is "fast"; it is one of quota, cpuset, shares`,
		`line 6: reader is an array; it is one of container, caller, parent`,
		`line 7: socket is "relative"; it is an absolute path`,
		`line 8: log_level is "loud"; it is one of debug, info, warn, error`,
		`line 9: cpu_identity is a table; it is one of count, ids, coherent`,
		`line 13: files.meminfo is 1; it is true or false`,
		`line 14: there is no file "no/such"; the files are meminfo, stat,`,
		`line 16: there is no file "pressure"; the files are meminfo,`,
		`line 17: there is no key "nothing"; the keys are mount,`,
	}
	_, err := readConfig(path, true)
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(got), len(want), err)
	}
	for i := range min(len(got), len(want)) {
		if !strings.HasPrefix(got[i], path+", "+want[i]) {
			t.Errorf("%q\nwant %q", got[i], path+", "+want[i])
		}
	}
	for text, want := range map[string]string{
		"swap = true\nmount = \"":       "line 2: ",
		"swap = true\nswap = true":      "line 2: ",
		"a.b = 1":                       "line 1: there is no key \"a\"",
		"\nfiles = true":                "line 2: files is true; it is a table [files]",
		"[[files]]\nmeminfo = true":     "line 1: files is a table; it is",
		"max_age = 5":                   "line 1: max_age is 5; it is a time such as 5ms, from 0 to 1s, in quotes",
		"max_age = \"1.1s\"":            "line 1: max_age is \"1.1s\"; it is a time",
		"max_age = \"-1ms\"":            "line 1: max_age is \"-1ms\"; it is a time",
		"\n\nfiles.stat.x = 1":          "line 3: files.stat is a table; it is true or false",
		"swap = true\nmount = 1e999999": "line 2: ",
	} {
		if _, problems := parseConfig(text); len(problems) != 1 || !strings.Contains((&configError{"f", problems}).Error(), want) {
			t.Errorf("%q: %v, want %s", text, problems, want)
		}
	}
}

func TestConfigCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	run := func(text string, args ...string) (string, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		root := &cobra.Command{SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(newConfigCommand())
		root.SetArgs(append([]string{"config"}, args...))
		root.SetOut(&out)
		err := root.Execute()
		return out.String(), err
	}
	if out, err := run("swap = false\n", "check", path); err != nil || out != path+": ok\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := run("swap = 1\n", "check", path); err == nil || exitCode(err) != 1 {
		t.Errorf("a bad file: %v", err)
	}
	if out, err := run("swap = false\n", "show", path); err != nil || !strings.Contains(out, "\nswap = false\n") || !strings.Contains(out, "\nsteal = true\n") ||
		!strings.Contains(out, "\nmax_age = \"5ms\"\n") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run("steal = 0\n", "show", path); err == nil {
		t.Errorf("a bad file is shown as %q", out)
	}
}

// Any text is taken, or refused for a line that it has.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"mount = \"/x\"\nswap = false\n[files]\n\"pressure/io\" = false\n", "a.b.c = 1", "[a.b]\nc = {d = 1}", "[[files]]\n[[files]]\n",
		"files = [1, {x = 2}]", "reader = 2020-01-01", "steal = nan", "\xff", "\x00", "\ufeff#", "mount = \"\"\"\n\n\"\"\"\nx", "'' = 1\n\"\" = 2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := parseConfig(text)
		lines := strings.Count(text, "\n") + 1
		for i, p := range problems {
			if p.line < 1 || p.line > lines+1 || p.text == "" || i > 0 && p.line < problems[i-1].line {
				t.Fatalf("%q: %v", text, problems)
			}
		}
		var written bytes.Buffer
		if err := c.write(&written); err != nil {
			t.Fatal(err)
		}
		if again, problems := parseConfig(written.String()); len(problems) > 0 || !reflect.DeepEqual(c, again) {
			t.Fatalf("%q: %+v becomes %+v; %v", text, c, again, problems)
		}
	})
}
