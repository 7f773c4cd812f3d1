package main

import (
	"bytes"
	"errors"
	"log"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scopefs/scopefs/fs/policy"
)

// applied is a daemon that remembers what it was told.
type applied struct {
	policies []policy.Policy
	maxAges  []time.Duration
}

func (a *applied) SetPolicy(p policy.Policy)   { a.policies = append(a.policies, p) }
func (a *applied) SetMaxAge(age time.Duration) { a.maxAges = append(a.maxAges, age) }

func TestReload(t *testing.T) {
	var logged bytes.Buffer
	was := log.Writer()
	log.SetOutput(&logged)
	t.Cleanup(func() {
		log.SetOutput(was)
		slog.SetLogLoggerLevel(slog.LevelInfo)
	})
	var d applied
	old := config{Mount: "/m", Socket: "/s"}
	next := config{Mount: "/other", Socket: "/s", LogLevel: slog.LevelDebug, MaxAge: time.Second, Policy: policy.Policy{NoSwap: true}}
	got := reload(&d, old, func() (config, error) { return next, nil })
	if len(d.policies) != 1 || !d.policies[0].NoSwap || !slices.Equal(d.maxAges, []time.Duration{time.Second}) || got.Mount != "/m" || !got.Policy.NoSwap || got.LogLevel != slog.LevelDebug {
		t.Errorf("%+v, applied %+v", got, d)
	}
	if text := logged.String(); !strings.Contains(text, "needs a restart") || !strings.Contains(text, "key=mount") ||
		!strings.Contains(text, "/other") || strings.Contains(text, "key=socket") {
		t.Errorf("logged: %s", text)
	}
	logged.Reset()
	bad := &configError{"/etc/x", []configProblem{{3, "swap is 1"}, {7, "steal is 2"}}}
	for _, err := range []error{bad, errors.New("no such file")} {
		if again := reload(&d, got, func() (config, error) { return config{}, err }); len(d.policies)+len(d.maxAges) != 2 || again.Mount != "/m" || !again.Policy.NoSwap {
			t.Errorf("%+v, applied %+v", again, d)
		}
	}
	for _, want := range []string{"/etc/x, line 3: swap is 1", "/etc/x, line 7: steal is 2", "no such file"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("not logged: %s, but\n%s", want, &logged)
		}
	}
	if !slog.Default().Enabled(t.Context(), slog.LevelDebug) {
		t.Error("the log level went with the file that could not be read")
	}
}

// A flag that is wrong is told before anything is served.
func TestMaxAgeFlag(t *testing.T) {
	for _, value := range []string{"2s", "-1ms", "5", ""} {
		cmd := newServeCommand()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs([]string{"--config", os.DevNull, "--max-age", value})
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "--max-age "+value+": it is a time such as 5ms, from 0 to 1s") {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// Flags win over the file, and say what they take.
func TestPolicyFlags(t *testing.T) {
	cmd := newServeCommand()
	overrides := policy.Overrides{}
	for _, s := range policy.Settings {
		flag := cmd.Flag(strings.ReplaceAll(s.Name, "_", "-"))
		if flag == nil {
			t.Errorf("no flag for %s", s.Name)
			continue
		}
		if flag.Value.Type() != strings.Join(s.Allowed, "|") {
			t.Errorf("the usage of %s names %s", s.Name, flag.Value.Type())
		}
		if err := flag.Value.Set("nonsense"); err == nil || !strings.Contains(err.Error(), strings.Join(s.Allowed, ", ")) {
			t.Errorf("%s: %v, want what it allows", s.Name, err)
		}
		if err := (policyFlag{overrides, s.Name, ""}).Set(s.Allowed[1]); err != nil {
			t.Error(err)
		}
	}
	for _, value := range []string{"-vmstat,-cpu", "+cpu", "-node"} {
		if err := (policyFlag{overrides, policy.FilesSetting, ""}).Set(value); err != nil {
			t.Error(err)
		}
	}
	if err := (policyFlag{overrides, policy.FilesSetting, ""}).Set("vmstat"); err == nil {
		t.Error("a file without a sign was taken")
	}
	file := policy.Policy{CPUSource: policy.Shares, NoSwap: false, Off: []string{"cpu", "stat"}}
	p, err := file.With(overrides)
	if err != nil || p.CPUSource != policy.Cpuset || !p.NoSwap || strings.Join(p.Off, " ") != "node stat vmstat" {
		t.Errorf("%+v, %v", p, err)
	}
}
