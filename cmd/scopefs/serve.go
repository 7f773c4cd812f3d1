package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs"
	"github.com/scopefs/scopefs/fs/policy"
)

const defaultMount = "/run/scopefs/fs"

func newServeCommand() *cobra.Command {
	var flags config
	var configPath, logLevel, maxAge string
	overrides := policy.Overrides{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon: mount the file system and serve it",
		Long: "serve mounts the file system and answers readers until it is ended by SIGTERM, SIGINT or SIGQUIT. SIGHUP makes it read\n" +
			"the configuration again: policies, max-age and the log level change at once, for running containers too.\n\n" +
			"MOUNT/c/ID holds the files of the container ID, which is announced on the control socket. MOUNT/proc and MOUNT/sys\n" +
			"hold those of whoever opens them, laid out as LXCFS lays out its mount.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Flags win over the file, whenever it is read.
			return serve(func() (config, error) {
				c, err := readConfig(configPath, cmd.Flags().Changed("config"))
				if err != nil {
					return c, err
				}
				for name, keep := range map[string]func(){
					"mount":        func() { c.Mount = flags.Mount },
					"lxcfs-compat": func() { c.LXCFSCompat = flags.LXCFSCompat },
					"socket":       func() { c.Socket = flags.Socket },
				} {
					if cmd.Flags().Changed(name) {
						keep()
					}
				}
				if cmd.Flags().Changed("log-level") {
					if c.LogLevel, err = parseLogLevel(logLevel); err != nil {
						return c, fmt.Errorf("--log-level %s: %w", logLevel, err)
					}
				}
				if cmd.Flags().Changed("max-age") {
					if c.MaxAge, err = parseMaxAge(maxAge); err != nil {
						return c, fmt.Errorf("--max-age %s: %w", maxAge, err)
					}
				}
				c.Policy, err = c.Policy.With(overrides)
				return c, err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.Mount, "mount", defaultMount, "directory to mount on; made when it is missing")
	f.StringVar(&flags.LXCFSCompat, "lxcfs-compat", "", "show the mount here as well (/var/lib/lxcfs serves what was set up for LXCFS)")
	f.StringVar(&flags.Socket, "socket", "", "control socket (default control.sock beside the mount)")
	f.StringVar(&configPath, "config", defaultConfig, "configuration file; flags win over it")
	f.StringVar(&logLevel, "log-level", "", "`"+strings.Join(logLevels, "|")+"` (default info)")
	f.StringVar(&maxAge, "max-age", "", "how old the numbers may be that readers share, a `time` from 0 to "+longestMaxAge.String()+" (default "+defaultMaxAge.String()+")")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(logLevels, cobra.ShellCompDirectiveNoFileComp))
	addPolicyFlags(cmd, overrides)
	return cmd
}

// addPolicyFlags adds a flag for each policy, which puts its value into overrides.
func addPolicyFlags(cmd *cobra.Command, overrides policy.Overrides) {
	add := func(setting, usage, kind string, completions []string) {
		flag := strings.ReplaceAll(setting, "_", "-")
		cmd.Flags().Var(policyFlag{overrides, setting, kind}, flag, usage)
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(completions, cobra.ShellCompDirectiveNoFileComp))
	}
	defaults := new(policy.Policy).Text()
	for _, s := range policy.Settings {
		add(s.Name, fmt.Sprintf("%s (default %s)", s.Usage, defaults[s.Name]), strings.Join(s.Allowed, "|"), s.Allowed)
	}
	var files []string
	for _, name := range policy.Files {
		files = append(files, "-"+name, "+"+name)
	}
	add(policy.FilesSetting, "files to leave to the kernel (-) or to show (+), such as -diskstats,+slabinfo: "+strings.Join(policy.Files, ", "), "list", files)
}

// policyFlag is the flag of one setting.
type policyFlag struct {
	overrides policy.Overrides
	setting   string
	kind      string // what the usage text calls the value
}

// Set implements pflag.Value.
func (f policyFlag) Set(value string) error { return setOverride(f.overrides, f.setting, value) }

// Type implements pflag.Value.
func (f policyFlag) Type() string { return f.kind }

// String implements pflag.Value; there is no default beside the policy's.
func (f policyFlag) String() string { return "" }

// setOverride makes a choice that is right. Files that are named twice add up.
func setOverride(overrides policy.Overrides, name, value string) error {
	if err := new(policy.Policy).Set(name, value); err != nil {
		return err
	}
	if old := overrides[name]; name == policy.FilesSetting && old != "" {
		value = old + "," + value
	}
	overrides[name] = value
	return nil
}

// serve runs the daemon with the configuration that read returns, and reads it again on SIGHUP.
func serve(read func() (config, error)) error {
	c, err := read()
	if err != nil {
		return err
	}
	slog.SetLogLoggerLevel(c.LogLevel)
	if os.Geteuid() != 0 {
		return errors.New("serve mounts a file system and reads every container's cgroup: run it as root")
	}
	fs.TuneRuntime()
	// Whoever read the log may be gone, as while journald restarts. Go would end the process for that.
	signal.Ignore(unix.SIGPIPE)
	ended, hangup := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	if !signal.Ignored(unix.SIGHUP) { // as under nohup
		signal.Notify(hangup, unix.SIGHUP)
	}
	d, err := fs.Start(fs.Options{Mount: c.Mount, LXCFSCompat: c.LXCFSCompat, Socket: c.Socket, Policy: c.Policy, MaxAge: c.MaxAge})
	if err != nil {
		return err
	}
	slog.Info("serving", "mount", c.Mount, "version", version)
	for {
		select {
		case <-hangup:
			c = reload(d, c, read)
			continue
		case s := <-ended:
			slog.Info("ending", "signal", s.String())
		case <-d.Served():
			slog.Warn("ending: somebody unmounted the file system", "mount", c.Mount)
		}
		return d.Close()
	}
}

// reloadable is a daemon as far as its configuration can change while it runs.
type reloadable interface {
	SetPolicy(policy.Policy)
	SetMaxAge(time.Duration)
}

// reload reads the configuration again and returns the one that holds from now on.
func reload(d reloadable, old config, read func() (config, error)) config {
	c, err := read()
	if err != nil {
		problems := []string{err.Error()}
		if all := (*configError)(nil); errors.As(err, &all) {
			problems = all.lines()
		}
		for _, p := range problems {
			slog.Error("the configuration cannot be read again and stays what it was", "problem", p)
		}
		return old
	}
	for _, fixed := range []struct {
		key  string
		was  string
		want *string
	}{
		{"mount", old.Mount, &c.Mount},
		{"lxcfs_compat", old.LXCFSCompat, &c.LXCFSCompat},
		{"socket", old.Socket, &c.Socket},
	} {
		if *fixed.want != fixed.was {
			slog.Warn("a change of the configuration needs a restart", "key", fixed.key, "is", fixed.was, "wanted", *fixed.want)
			*fixed.want = fixed.was
		}
	}
	slog.SetLogLoggerLevel(c.LogLevel)
	d.SetPolicy(c.Policy)
	d.SetMaxAge(c.MaxAge)
	slog.Info("the configuration was read again", "max_age", c.MaxAge, "policy", c.Policy.Text())
	return c
}
