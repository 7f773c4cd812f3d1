package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The file that is shipped says what holds without it.
func TestShippedConfig(t *testing.T) {
	if os.Getenv("SCOPEFS_VM") != "" {
		t.Skip("the VMs of test/vm hold the packages' own files alone")
	}
	want := config{Mount: defaultMount, Swap: true, LogLevel: slog.LevelInfo}
	var got config
	if err := got.readConfig("../../packaging/config.toml", true); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "config.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := config{Mount: defaultMount, Swap: true}
	if err := c.readConfig(write("swap = false\nlog_level = \"debug\"\n"), true); err != nil {
		t.Fatal(err)
	}
	if c.Mount != defaultMount || c.Swap || c.LogLevel != slog.LevelDebug {
		t.Errorf("%+v", c)
	}
	for text, says := range map[string]string{
		"mount = 5\n":             "mount",
		"swap = true\nmuont = 1":  "muont",
		"swap = true\nmount = \"": "line 2",
		"log_level = \"loud\"":    "loud",
	} {
		path := write(text)
		if err := new(config).readConfig(path, true); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want an error that names %s and the file", text, err, says)
		}
	}
	if err := new(config).readConfig(filepath.Join(dir, "missing"), false); err != nil {
		t.Errorf("a default file that is missing: %v", err)
	}
	if err := new(config).readConfig(filepath.Join(dir, "missing"), true); err == nil {
		t.Error("a file that was named is missing, and that is no error")
	}
}
