// Command bench measures what a read of a virtual file costs: of the kernel's own, of a constant one served by the same
// loop (the floor), of scopefs and of LXCFS, side by side in one container. `make bench` runs it and writes
// docs/performance.md; `make bench-smoke` runs as little of everything as shows that it works.
//
// It is root's. It runs in a mount namespace of its own, plays every part of the measurement itself (roles), and
// removes the cgroups and directories that it makes, on SIGINT and SIGTERM too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// section is a part of the benchmark that can be run alone.
type section struct {
	name  string
	title string
	// run measures and records into b.result.
	run func(b *bench) error
	// report writes what was recorded of the section; it is not called when nothing was.
	report func(r *Result, p *page)
	// budgets compares what was recorded with the budgets; nil for none.
	budgets func(r *Result) []Budget
}

// sections in the order in which they run and are reported.
var sections = []section{
	{"latency", "Latency of one read", runLatency, reportLatency, latencyBudgets},
	{"throughput", "Throughput", runThroughput, reportThroughput, throughputBudgets},
	{"syscalls", "System calls of the daemon", runSyscalls, reportSyscalls, syscallBudgets},
}

// options are the command line's.
type options struct {
	smoke    bool
	scopefs  string // the program under test
	only     []string
	from     string
	json     string
	markdown string
	plots    string
}

func main() { os.Exit(command(os.Args[1:])) }

// command is the program; args are its arguments. It returns the exit status.
func command(args []string) int {
	if role := os.Getenv(roleEnv); role != "" && role != roleMain {
		return play(role)
	}
	var o options
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.smoke, "smoke", false, "run as little of everything as shows that it works")
	f.StringVar(&o.scopefs, "scopefs", "bin/scopefs", "`PROGRAM` to measure")
	f.StringVar(&only, "only", "", "`SECTIONS` to run, separated by commas, of "+strings.Join(sectionNames(), ",")+"; none: write what -from has")
	f.StringVar(&o.from, "from", "", "begin with the results in `FILE`; sections that run replace theirs")
	f.StringVar(&o.json, "json", "", "write the results to `FILE`")
	f.StringVar(&o.markdown, "markdown", "", "write the page docs/performance.md to `FILE`")
	f.StringVar(&o.plots, "plots", "", "write the plots of the page (SVG) into `DIR` (default: named like the page, beside it)")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if f.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: what is %q?\n", f.Args())
		return 2
	}
	var err error
	if o.only, err = parseOnly(only); err == nil {
		err = run(o)
	}
	if skipped := (cannotRun{}); o.smoke && os.Getenv("CI") == "" && errors.As(err, &skipped) {
		fmt.Println("SKIP: the benchmark cannot run here:", err)
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// cannotRun says that this machine or user is not one to measure with.
type cannotRun struct{ error }

func sectionNames() []string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return names
}

func parseOnly(list string) ([]string, error) {
	switch list {
	case "":
		return sectionNames(), nil
	case "none":
		return nil, nil
	}
	only := strings.Split(list, ",")
	for _, name := range only {
		if !slices.Contains(sectionNames(), name) {
			return nil, fmt.Errorf("-only %s: no such section; there are %s", name, strings.Join(sectionNames(), ", "))
		}
	}
	return only, nil
}

func run(o options) error {
	result := newResult()
	if o.from != "" {
		var err error
		if result, err = readResult(o.from); err != nil {
			return err
		}
	}
	if len(o.only) > 0 {
		if err := measure(o, result); err != nil {
			return err
		}
	}
	result.Budgets = nil
	for _, s := range sections {
		if s.budgets != nil && result.has(s.name) {
			result.Budgets = append(result.Budgets, s.budgets(result)...)
		}
	}
	if err := result.print(os.Stdout); err != nil {
		return err
	}
	if o.json != "" {
		if err := result.write(o.json); err != nil {
			return err
		}
	}
	if o.markdown != "" {
		if o.plots == "" {
			o.plots = strings.TrimSuffix(o.markdown, filepath.Ext(o.markdown))
		}
		return writePage(result, o.markdown, o.plots)
	}
	return nil
}

// measure runs the sections.
func measure(o options, result *Result) error {
	if os.Geteuid() != 0 {
		return cannotRun{errors.New("it makes containers and mounts, so it needs root")}
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return cannotRun{err}
	}
	if os.Getenv(roleEnv) != roleMain {
		return ownMounts()
	}
	var err error
	if o.scopefs, err = filepath.Abs(o.scopefs); err != nil {
		return err
	}
	if _, err := os.Stat(o.scopefs); err != nil {
		return fmt.Errorf("the program to measure: %w (make build, or -scopefs)", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	b, err := newBench(ctx, o, result)
	if err != nil {
		return err
	}
	defer b.close()
	begun := time.Now()
	for _, s := range sections {
		if !slices.Contains(o.only, s.name) {
			continue
		}
		result.forget(s.name)
		b.logf("%s", s.name)
		b.section = s.name
		if err := s.run(b); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	result.Date = begun.UTC().Truncate(time.Second)
	result.Seconds += time.Since(begun).Round(time.Second).Seconds()
	result.Smoke = result.Smoke || o.smoke
	return nil
}

// ownMounts begins again in a mount namespace of its own: whatever is mounted goes with the last process in it, however
// that ends.
func ownMounts() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	return syscall.Exec(selfExe, os.Args, append(os.Environ(), roleEnv+"="+roleMain))
}
