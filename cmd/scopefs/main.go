// Command scopefs shows containers their own resources in /proc and /sys.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "devel"

func main() {
	root := &cobra.Command{
		Use:   "scopefs",
		Short: "Show containers their own resources in /proc and /sys",
		Long: "scopefs serves /proc/meminfo, stat, cpuinfo, loadavg, uptime, swaps and the CPU lists of /sys as each container's\n" +
			"cgroup limits and usage make them, so that free, top and lscpu report what the container really has.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServeCommand(), newShowCommand())
	err := root.Execute()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "scopefs:", err)
	os.Exit(1)
}
