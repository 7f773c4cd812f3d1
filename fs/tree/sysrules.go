package tree

import (
	"path"
	"slices"

	"github.com/scopefs/scopefs/fs/container"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/view"
)

// A sysRule says how files below /sys/devices/system are rewritten for a container.
//
// To add one: a view.Rewriter, pure, of the machine's text; what it needs beyond the CPU lists and the container's CPUs,
// which every one is given; and a pattern for path.Match. The first rule that matches counts, and what none matches passes
// through. The number in a path is written as *: "node/node*/meminfo".
type sysRule struct {
	pattern   string
	rewrite   view.Rewriter
	host      host.Need
	container container.Need
	// hidden says that nobody sees it.
	hidden bool
}

var sysRules = []sysRule{
	{pattern: "cpu/kernel_max", rewrite: view.KernelMax},
	{pattern: "cpu/isolated", rewrite: view.NoCPUs},
	{pattern: "cpu/nohz_full", rewrite: view.NoCPUs},
	{pattern: "cpu/enabled", rewrite: view.CPUList},     // Linux ≥ 6.11
	{pattern: "cpu/aarch32_el0", rewrite: view.CPUList}, // arm64: which can run 32-bit programs
	// Runtimes cover it, as its counters are a side channel; what is bound over their cover would show it again.
	{pattern: "cpu/cpu*/thermal_throttle", hidden: true},
	{pattern: "cpu/cpu*/topology/*_list", rewrite: view.CPUList},
	{pattern: "cpu/cpu*/topology/*_cpus", rewrite: view.CPUMask},
	{pattern: "cpu/cpu*/topology/*_siblings", rewrite: view.CPUMask},
	{pattern: "cpu/cpu*/cache/index*/shared_cpu_list", rewrite: view.CPUList},
	{pattern: "cpu/cpu*/cache/index*/shared_cpu_map", rewrite: view.CPUMask},
	{pattern: "cpu/cpufreq/policy*/*_cpus", rewrite: view.CPUNumbers}, // affected, related, freqdomain

	{pattern: "node/online", rewrite: view.NodesVisible},
	{pattern: "node/possible", rewrite: view.NodesPossible},
	{pattern: "node/has_cpu", rewrite: view.NodesWithCPU},
	{pattern: "node/has_*", rewrite: view.NodesWithMemory},
	{pattern: "node/node*/cpulist", rewrite: view.CPUList},
	{pattern: "node/node*/cpumap", rewrite: view.CPUMask},
	{pattern: "node/node*/distance", rewrite: view.NodeDistance},
	{pattern: "node/node*/meminfo", rewrite: view.NodeMeminfo, host: host.NeedMeminfo, container: container.NeedMemory | container.NeedNUMA},
	{pattern: "node/node*/vmstat", rewrite: view.NodeVmstat, host: host.NeedMeminfo, container: container.NeedMemory | container.NeedNUMA},
}

func ruleFor(sysPath string) *sysRule {
	for i := range sysRules {
		if ok, _ := path.Match(sysRules[i].pattern, sysPath); ok {
			return &sysRules[i]
		}
	}
	return nil
}

// Binds lists what is bound into a container: the virtual files that exist, named by their paths, and in place of those
// below a directory of /sys that is read through, the directory. shows says which of policy.Files are not left to the kernel.
func Binds(exists, shows func(string) bool) []string {
	var list []string
	for i := range files {
		if f := &files[i]; !slices.Contains(host.SysTrees, f.name) && shows(f.name) && exists(f.Path) {
			list = append(list, f.Path)
		}
	}
	for _, name := range host.SysTrees {
		if shows(name) && exists(sysRoot+name) {
			list = append(list, sysRoot+name)
		}
	}
	return list
}
