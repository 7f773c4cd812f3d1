package main

import (
	"errors"

	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/hooks/run"
	"github.com/spf13/cobra"
)

// privateDaemon serves a run when no daemon answers.
var privateDaemon run.PrivateDaemon

func newRunCommand() *cobra.Command {
	o := run.Options{Private: privateDaemon}
	var memory, swap size
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
  scopefs run --memory 64M --rootfs ./alpine -- /bin/sh`,
		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		Args:                  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Args = args
			o.Memory = memory.bytes
			if cmd.Flags().Changed("swap") {
				o.Swap = &swap.bytes
			}
			for flag, zero := range map[string]bool{"memory": o.Memory == 0, "cpus": o.CPUs == 0, "pids": o.Pids == 0} {
				if cmd.Flags().Changed(flag) && zero {
					return &run.Error{Status: run.StatusFailed, Err: errors.New("--" + flag + " 0: want more than 0; leave it out for no limit")}
				}
			}
			status, err := run.Run(o)
			if err != nil {
				return err
			}
			return exitStatus(status)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the command is the command's
	f.Var(&memory, "memory", "memory limit, such as 256M")
	f.Var(&swap, "swap", "limit of swap alone, in addition to memory; 0: none")
	f.Float64Var(&o.CPUs, "cpus", 0, "CPU time as a number of CPUs, such as 1.5")
	f.StringVar(&o.Cpuset, "cpuset", "", "CPUs that it may run on, such as 0-1")
	f.Int64Var(&o.Pids, "pids", 0, "limit of processes and threads")
	f.StringVar(&o.Rootfs, "rootfs", "", "directory to take as the root")
	f.StringVar(&o.Socket, "socket", control.DefaultSocket, "control socket of the running daemon")
	f.StringVar(&o.Parent, "parent", "", "cgroup in which to make the container's")
	f.MarkHidden("parent")
	return cmd
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

// size is a flag of bytes.
type size struct {
	bytes int64
	text  string
}

func (s *size) String() string { return s.text }
func (s *size) Type() string   { return "SIZE" }

func (s *size) Set(text string) (err error) {
	s.text = text
	s.bytes, err = run.ParseSize(text)
	return err
}
