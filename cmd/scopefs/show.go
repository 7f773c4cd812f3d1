package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs"
	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/control"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
	"github.com/scopefs/scopefs/fs/tree"
	"github.com/scopefs/scopefs/fs/view"
)

type showOptions struct {
	pid            int
	cgroup         string
	mount, socket  string // "": the configuration's
	config         string
	explain, json  bool
	configWasNamed bool
}

func newShowCommand() *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show [--pid N | --cgroup PATH | ID] FILE",
		Short: "Print what a container reads in a file, and why",
		Long: "show prints a virtual file as a container sees it, read straight from the kernel: neither the daemon nor FUSE is in\n" +
			"between. The container is that of process N, the cgroup PATH, or the announced ID. Without any of them it is that of\n" +
			"the caller. The daemon is asked for the announced containers and the policies; without one, the policies are those of\n" +
			"the configuration file.\n\n" +
			"FILE is a file of /proc or a list of CPUs of /sys/devices/system/cpu, by its path or the last part of it:\n" +
			"meminfo, proc/pressure/io, online. A wrong one is answered with the list of all.",
		Example: "  scopefs show --pid 4711 meminfo --explain\n  scopefs show --cgroup /kubepods/pod1/c1 proc/stat\n  scopefs show web /proc/cpuinfo",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var id string
			if len(args) == 2 {
				id = args[0]
			}
			named := 0
			for _, set := range []bool{id != "", o.pid != 0, o.cgroup != ""} {
				if set {
					named++
				}
			}
			if named > 1 {
				return errors.New("name the container once: by ID, by --pid or by --cgroup")
			}
			file, err := tree.Find(args[len(args)-1])
			if err != nil {
				return err
			}
			o.configWasNamed = cmd.Flags().Changed("config")
			return o.show(cmd.Context(), cmd.OutOrStdout(), id, file)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.pid, "pid", 0, "the container that this process is in")
	f.StringVar(&o.cgroup, "cgroup", "", "the container in this cgroup")
	f.StringVar(&o.mount, "mount", "", "mount point of the daemon, whose CPU counters are gone on with (default the configuration's)")
	f.StringVar(&o.socket, "socket", "", "control socket of the daemon (default the configuration's, or control.sock beside the mount)")
	f.StringVar(&o.config, "config", defaultConfig, "configuration file of the daemon")
	f.BoolVar(&o.explain, "explain", false, "print each number with its source, the level that bound it and the rule")
	f.BoolVar(&o.json, "json", false, "with --explain: print JSON")
	return cmd
}

func (o *showOptions) show(ctx context.Context, out io.Writer, id string, file *tree.File) error {
	if o.json && !o.explain {
		return errors.New("--json goes with --explain: a file is printed as it is")
	}
	hostFS, err := host.Open("")
	if err != nil {
		return err
	}
	defer hostFS.Close()
	daemon, err := o.askDaemon(ctx, id != "")
	if err != nil {
		return err
	}
	registry, err := container.Open(hostFS, container.Options{LedgerDir: fs.LedgerDir(daemon.mount), ReadOnly: true, Policy: daemon.policy})
	if err != nil {
		return err
	}
	defer registry.Close()
	for _, c := range daemon.containers {
		if _, err := registry.Announce(c.ID, c.PID, c.Overrides); err != nil && c.ID == id {
			return err
		} // any other has ended meanwhile
	}
	pid := o.pid
	if pid == 0 {
		pid = os.Getpid()
	}
	var c *container.Container
	switch {
	case id != "":
		c, pid, err = announced(registry, daemon.containers, id)
	case o.cgroup != "":
		c, err = registry.AtPath(o.cgroup)
		if errors.Is(err, cgroup.ErrGone) {
			return fmt.Errorf("no cgroup %s in any hierarchy; paths are below the hierarchy's root, such as /kubepods/pod1", o.cgroup)
		}
	default:
		c, err = registry.Resolve(pid)
	}
	if errors.Is(err, container.ErrUnknownCaller) {
		return fmt.Errorf("no process %d can be seen here: %w", pid, err)
	}
	if err != nil {
		return err
	}
	defer c.Release()
	if o.explain {
		numbers, err := file.Explain(hostFS, c, pid)
		if errors.Is(err, cgroup.ErrNoPressure) {
			numbers, err = nil, nil // it is shown the machine's
		}
		if err != nil {
			return err
		}
		if len(numbers) == 0 && !o.json {
			return printMachine(out, c, file)
		}
		return printNumbers(out, numbers, o.json)
	}
	text, err := file.Render(nil, hostFS, c, pid)
	if errors.Is(err, cgroup.ErrNoPressure) {
		text, err = file.Render(nil, hostFS, nil, pid)
	}
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// daemon is what a running one knows, or one would that was started now.
type daemon struct {
	mount      string
	policy     policy.Policy
	containers []control.Container
}

// askDaemon asks the daemon; need says that there must be one.
func (o *showOptions) askDaemon(ctx context.Context, need bool) (daemon, error) {
	c, configErr := readConfig(o.config, o.configWasNamed)
	d := daemon{mount: cmp.Or(o.mount, c.Mount), policy: c.Policy}
	socket := o.socket
	if socket == "" && o.mount == "" {
		socket = c.Socket
	}
	socket = cmp.Or(socket, fs.SocketPath(d.mount))
	ping, err := control.Call(ctx, socket, control.Request{Op: control.OpPing})
	if errors.Is(err, control.ErrNoDaemon) && !need {
		return d, configErr
	}
	if err == nil {
		d.containers, err = control.List(ctx, socket)
	}
	if err != nil {
		return d, fmt.Errorf("asking the daemon for its containers (--pid and --cgroup need none): %w", err)
	}
	// It may have been started with other flags than the file's keys, or not have taken a file that is wrong.
	d.mount = ping.Mount
	d.policy, err = policy.Policy{}.With(ping.Policy)
	return d, err
}

// announced is the container id as its own tree shows it to its init, and that init's pid.
func announced(registry *container.Registry, list []control.Container, id string) (*container.Container, int, error) {
	var known []string
	for _, l := range list {
		if l.ID != id {
			known = append(known, l.ID)
			continue
		}
		c := registry.ByID(id)
		defer c.Release()
		return registry.ResolveIn(c.Slot, l.PID), l.PID, nil
	}
	return nil, 0, fmt.Errorf("no container %s is announced; there are: %s", id, strings.Join(known, " "))
}

func printNumbers(out io.Writer, numbers []view.Number, asJSON bool) error {
	if asJSON {
		if numbers == nil {
			numbers = []view.Number{} // an empty list for machines, not null
		}
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(numbers)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, n := range numbers {
		value := fmt.Sprint(n.Value)
		if n.Unit != "" {
			value += " " + n.Unit
		}
		source := n.Source
		if n.Level != "" {
			source += " of " + n.Level
		}
		rule := n.Rule
		if n.Policy != "" {
			rule += "; " + n.Policy
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t(%s)\n", n.Key, value, source, rule)
	}
	return w.Flush()
}

// printMachine says why there is nothing to explain.
func printMachine(out io.Writer, c *container.Container, file *tree.File) error {
	text := "every number is the machine's own"
	if c != nil && !file.Shown(c.Policy()) {
		text += ": the policy leaves the file to the kernel"
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
