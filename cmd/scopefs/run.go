package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopefs/scopefs/fs"
	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/hooks/run"
)

// privateDaemon serves a run when no daemon answers, as one with the configuration file would.
func privateDaemon(dir string) (*run.Private, error) {
	slog.SetLogLoggerLevel(slog.LevelWarn) // the terminal is the command's
	c, err := readConfig(defaultConfig, false)
	if err != nil {
		return nil, err
	}
	mount := filepath.Join(dir, "fs")
	d, err := fs.Start(fs.Options{Mount: mount, Policy: c.Policy})
	if err != nil {
		return nil, err
	}
	return &run.Private{Socket: fs.SocketPath(mount), Detach: d.Detach, Stop: func() { d.Close() }}, nil
}

func newRunCommand() *cobra.Command {
	o := run.Options{Private: privateDaemon, Policy: policy.Overrides{}}
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARG…]",
		Short: "Run a command in a throw-away container that sees its own limits",
		Long: `Run a command in a throw-away container: a cgroup with the given limits, pid, mount, uts and ipc namespaces of its
own, and /proc and /sys that tell of them. Without --rootfs it sees the host's files.

The running daemon serves the container; if none answers on --socket, a private one does for as long as it runs.

Exit status: the command's; 128+n if signal n ended it; 125 if the container could not be made, 126 if the command
cannot be executed, 127 if it is not found.`,
		Example: `  scopefs run --memory 256M --cpus 1.5 -- free -m
  scopefs run --cpuset 0 -- nproc
  scopefs run --timens -- ps -o lstart,etime,args
  scopefs run --memory 64M --rootfs ./alpine -- /bin/sh`,
		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Args = args
			status, err := run.Run(o)
			if err != nil {
				return err
			}
			return exitStatus(status)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the command is the command's
	f.Func("memory", "memory limit, a `SIZE` such as 256M", func(text string) (err error) {
		if o.Memory, err = run.ParseSize(text); err == nil && o.Memory == 0 {
			err = errors.New("want more than 0; leave it out for no limit")
		}
		return err
	})
	f.Func("swap", "limit of swap alone, a `SIZE` in addition to memory; 0: none", func(text string) error {
		bytes, err := run.ParseSize(text)
		o.Swap = &bytes
		return err
	})
	f.Func("cpus", "CPU time as a `NUMBER` of CPUs, such as 1.5", func(text string) (err error) {
		if o.CPUs, err = strconv.ParseFloat(text, 64); err != nil || o.CPUs <= 0 {
			err = errors.New("want a number of CPUs above 0, such as 1.5")
		}
		return err
	})
	f.Func("pids", "limit of processes and threads, a `NUMBER`", func(text string) (err error) {
		if o.Pids, err = strconv.ParseInt(text, 10, 64); err != nil || o.Pids <= 0 {
			err = errors.New("want a whole number above 0")
		}
		return err
	})
	f.StringVar(&o.Cpuset, "cpuset", "", "`LIST` of the CPUs that it may run on, such as 0-1")
	f.BoolVar(&o.TimeNS, "timens", false, "a time namespace of its own: uptime and the time of boot count from its start (Linux 5.6)")
	f.StringVar(&o.Rootfs, "rootfs", "", "`DIR` to take as the root")
	f.Func("policy", "how it is shown, a `KEY=VALUE` such as cpu_source=cpuset; repeatable.\n"+policyUsage(), func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("want KEY=VALUE, with a key of %s", strings.Join(policy.Names(), ", "))
		}
		return setOverride(o.Policy, name, value)
	})
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(policyCompletions(), cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&o.Socket, "socket", control.DefaultSocket, "control socket of the running daemon, a `PATH`")
	f.StringVar(&o.Parent, "parent", "", "cgroup in which to make the container's")
	f.Lookup("parent").Hidden = true
	// Only a command that ran says less than 125.
	failed := func(err error) error { return &run.Error{Status: run.StatusFailed, Err: err} }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failed(err) })
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return failed(errors.New("name the command to run: scopefs run [flags] -- COMMAND"))
		}
		return nil
	}
	return cmd
}

// policyUsage lists the settings and their values.
func policyUsage() string {
	var list []string
	for _, s := range policy.Settings {
		list = append(list, s.Name+": "+strings.Join(s.Allowed, "|"))
	}
	return strings.Join(append(list, policy.FilesSetting+": a list such as -diskstats,+slabinfo"), "\n")
}

func policyCompletions() (list []string) {
	for _, s := range policy.Settings {
		for _, value := range s.Allowed {
			list = append(list, s.Name+"="+value)
		}
	}
	for _, name := range policy.Files {
		list = append(list, policy.FilesSetting+"=-"+name)
	}
	return list
}

// newInitCommand is what run starts in the container's namespaces.
func newInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:          "init",
		Hidden:       true,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			if err := run.Init(); err != nil {
				return &run.Error{Status: run.StatusFailed, Err: err}
			}
			return exitStatus(run.StatusFailed) // run has been told why
		},
	}
}
