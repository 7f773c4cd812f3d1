package main

import (
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
	"github.com/scopefs/scopefs/fs/tree"
	"github.com/scopefs/scopefs/fs/view"
)

type showOptions struct {
	pid           int
	cgroup, mount string
	explain, json bool
}

func newShowCommand() *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show [--pid N | --cgroup PATH | ID] FILE",
		Short: "Print what a container reads in a file, and why",
		Long: "show prints a virtual file as a container sees it, read straight from the kernel: neither the daemon nor FUSE is in\n" +
			"between. The container is that of process N, the cgroup PATH, or the announced ID (which asks the daemon where it is).\n" +
			"Without any of them it is that of the caller.",
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
			return o.show(cmd.Context(), cmd.OutOrStdout(), id, file)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.pid, "pid", 0, "the container that this process is in")
	f.StringVar(&o.cgroup, "cgroup", "", "the container in this cgroup")
	f.StringVar(&o.mount, "mount", defaultMount, "mount point of the daemon, whose CPU counters are gone on with")
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
	registry, err := container.Open(hostFS, container.Options{LedgerDir: fs.LedgerDir(o.mount), ReadOnly: true})
	if err != nil {
		return err
	}
	defer registry.Close()
	pid := o.pid
	if id != "" {
		if pid, err = announcedPID(ctx, fs.SocketPath(o.mount), id); err != nil {
			return err
		}
	}
	if pid == 0 {
		pid = os.Getpid()
	}
	var c *container.Container
	if o.cgroup != "" {
		c, err = registry.AtPath(o.cgroup)
		if errors.Is(err, cgroup.ErrGone) {
			return fmt.Errorf("no cgroup %s in any hierarchy; paths are below the hierarchy's root, such as /kubepods/pod1", o.cgroup)
		}
	} else {
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

// announcedPID asks the daemon for the init of a container.
func announcedPID(ctx context.Context, socket, id string) (int, error) {
	list, err := control.List(ctx, socket)
	if err != nil {
		return 0, fmt.Errorf("asking the daemon for container %s (--pid and --cgroup need none): %w", id, err)
	}
	var known []string
	for _, c := range list {
		if c.ID == id {
			return c.PID, nil
		}
		known = append(known, c.ID)
	}
	return 0, fmt.Errorf("no container %s is announced; there are: %s", id, strings.Join(known, " "))
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
	if len(numbers) == 0 {
		_, err := fmt.Fprintln(out, "every number is the machine's own")
		return err
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
		fmt.Fprintf(w, "%s\t%s\t%s\t(%s)\n", n.Key, value, source, n.Rule)
	}
	return w.Flush()
}
