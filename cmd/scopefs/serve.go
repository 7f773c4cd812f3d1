package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/fs"
	"github.com/scopefs/scopefs/fs/policy"
)

const defaultMount = "/run/scopefs/fs"

func newServeCommand() *cobra.Command {
	c := config{Mount: defaultMount, Swap: true}
	var configPath, logLevel string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon: mount the file system and serve it",
		Long: "serve mounts the file system and answers readers until it is ended by SIGTERM, SIGINT, SIGHUP or SIGQUIT.\n\n" +
			"MOUNT/c/ID holds the files of the container ID, which is announced on the control socket. MOUNT/proc and MOUNT/sys\n" +
			"hold those of whoever opens them, laid out as LXCFS lays out its mount.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := c // what the command line set, kept over what the file says
			if err := c.readConfig(configPath, cmd.Flags().Changed("config")); err != nil {
				return err
			}
			for name, keep := range map[string]func(){
				"mount":        func() { c.Mount = flags.Mount },
				"lxcfs-compat": func() { c.LXCFSCompat = flags.LXCFSCompat },
				"socket":       func() { c.Socket = flags.Socket },
				"swap":         func() { c.Swap = flags.Swap },
			} {
				if cmd.Flags().Changed(name) {
					keep()
				}
			}
			if logLevel != "" {
				if err := c.LogLevel.UnmarshalText([]byte(logLevel)); err != nil {
					return fmt.Errorf("--log-level %s: it is one of debug, info, warn, error", logLevel)
				}
			}
			slog.SetLogLoggerLevel(c.LogLevel)
			return serve(c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Mount, "mount", c.Mount, "directory to mount on; made when it is missing")
	f.StringVar(&c.LXCFSCompat, "lxcfs-compat", "", "show the mount here as well (/var/lib/lxcfs serves what was set up for LXCFS)")
	f.StringVar(&c.Socket, "socket", "", "control socket (default control.sock beside the mount)")
	f.BoolVar(&c.Swap, "swap", c.Swap, "show swap; --swap=false shows every container without")
	f.StringVar(&configPath, "config", defaultConfig, "configuration file; flags win over it")
	f.StringVar(&logLevel, "log-level", "", "debug, info, warn or error (default info)")
	return cmd
}

func serve(c config) error {
	if os.Geteuid() != 0 {
		return errors.New("serve mounts a file system and reads every container's cgroup: run it as root")
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	if !signal.Ignored(unix.SIGHUP) { // as under nohup
		signal.Notify(ended, unix.SIGHUP)
	}
	d, err := fs.Start(fs.Options{Mount: c.Mount, LXCFSCompat: c.LXCFSCompat, Socket: c.Socket, Policy: policy.Policy{NoSwap: !c.Swap}})
	if err != nil {
		return err
	}
	slog.Info("serving", "mount", c.Mount, "version", version)
	select {
	case s := <-ended:
		slog.Info("ending", "signal", s.String())
	case <-d.Served():
		slog.Warn("ending: somebody unmounted the file system", "mount", c.Mount)
	}
	return d.Close()
}
