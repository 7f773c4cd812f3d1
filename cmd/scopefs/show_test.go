package main

import (
	"os"
	"testing"
)

func TestShowOfNoCgroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, as show does")
	}
	cmd := newShowCommand()
	cmd.SetArgs([]string{"--mount", t.TempDir() + "/fs", "--cgroup", "/nosuch", "meminfo"})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	const want = "no cgroup /nosuch in any hierarchy; paths are below the hierarchy's root, such as /kubepods/pod1"
	if err := cmd.Execute(); err == nil || err.Error() != want {
		t.Errorf("%v, want: %s", err, want)
	}
}
