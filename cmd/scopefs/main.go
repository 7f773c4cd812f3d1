// Command scopefs shows containers their own resources in /proc and /sys.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/scopefs/scopefs/hooks/run"
)

// version is set by the linker.
var version = "devel"

func main() {
	root := &cobra.Command{
		Use:   "scopefs",
		Short: "Show containers their own resources in /proc and /sys",
		Long: "scopefs serves /proc/meminfo, stat, cpuinfo, loadavg, uptime, swaps, diskstats, vmstat, slabinfo and pressure/*, and the\n" +
			"trees cpu and node of /sys/devices/system, as each container's cgroup limits and usage make them, so that free, top and\n" +
			"lscpu report what the container really has.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServeCommand(), newShowCommand(), newRunCommand(), newConfigCommand(), newInitCommand())
	os.Exit(exitCode(root.Execute()))
}

// exitCode says what went wrong, unless a command that was run has said so itself.
func exitCode(err error) int {
	var status statusError
	if err == nil || errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintln(os.Stderr, "scopefs:", err)
	var failed *run.Error
	if errors.As(err, &failed) {
		return failed.Status
	}
	return 1
}
