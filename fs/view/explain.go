package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// A Number is one number of a virtual file and where it comes from.
type Number struct {
	Key   string `json:"key"` // as the file names it
	Value uint64 `json:"value"`
	// Unit is "kB", "pages", "huge pages", "sectors" (of 512 bytes), "CPUs", "ticks" (USER_HZ), "hundredths",
	// "hundredths of %", "µs", "ms", "s", "tasks" or "".
	Unit string `json:"unit"`
	// Source is the kernel file, or the part of scopefs, that the number is computed from; "" if it is a constant.
	Source string `json:"source"`
	// Level is the cgroup that decided; "" if it was the machine, or none.
	Level string `json:"level"`
	Rule  string `json:"rule"`
	// Policy names the settings that had a say, such as "cpu_source=quota cpu_identity=count"; "" if none has.
	Policy string `json:"policy,omitempty"`
}

// The parts of scopefs that numbers come from.
const (
	sourceLedger  = "CPU ledger"
	sourceSampler = "load sampler"
)

// sourceProcStat is what Alibaba Cloud Linux has of its own.
const sourceProcStat = "cpuacct.proc_stat"

// source is where the averages and the running and blocked tasks are from.
func (l *Load) source() string {
	if l.Kernel {
		return sourceProcStat
	}
	return sourceSampler
}

// Explain says where the container's numbers in a file come from, in the file's order. file is a path such as
// "proc/meminfo"; the result is nil for a file, or a container, that shows the machine's numbers. It needs what
// rendering the file needs.
func Explain(file string, h *host.Snapshot, c *Container) []Number {
	if c == nil {
		return nil
	}
	switch file {
	case "proc/meminfo":
		return explainMeminfo(h, c)
	case "proc/swaps":
		return explainSwaps(h, c)
	case "proc/stat":
		return slices.Concat(explainCPUs(h, c), explainTimes(c), explainInterrupts(h, c), explainBtime(h), explainTasks(c))
	case "proc/cpuinfo", "sys/devices/system/cpu/online", "sys/devices/system/cpu/present",
		"sys/devices/system/cpu/offline":
		return explainCPUs(h, c)
	case "sys/devices/system/cpu/possible":
		if c.Policy.CPUIdentity != policy.Coherent {
			return nil
		}
		return explainCPUs(h, c)
	case "proc/loadavg":
		return explainLoad(c)
	case "proc/uptime":
		return explainUptime(h, c)
	case "proc/diskstats":
		return explainDiskstats(h, c)
	case "proc/vmstat":
		return explainVMStat(h, c)
	case "proc/slabinfo":
		return explainSlabinfo(c)
	}
	if resource, ok := strings.CutPrefix(file, "proc/pressure/"); ok {
		return explainPressure(c, resource)
	}
	return nil
}

func explainMeminfo(h *host.Snapshot, c *Container) (numbers []Number) {
	m := newMemory(h, c)
	var rows rowCursor
	for rest := h.Meminfo; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		key := meminfoKey(line)
		row := rows.find(key)
		if row == nil || !row.applies(c) {
			continue
		}
		value := line[meminfoStart(line, key):]
		_, digits := number(value)
		if digits == 0 {
			continue
		}
		n := row.explain(m, c)
		n.Key, n.Unit = string(key), "pages"
		if digits < len(value) && value[digits] == ' ' {
			n.Unit = "kB"
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// explain is the row's number for a container, without key and unit.
func (r *meminfoRow) explain(m memory, c *Container) Number {
	n := Number{Value: r.number(m, c), Source: r.v2, Rule: r.rule}
	if r.swap && c.Policy.NoSwap {
		n.Source, n.Rule, n.Policy = "", "swap is turned off", choices(c, "swap")
		return n
	}
	if r.swap && !m.swapAccounted && n.Value == 0 {
		n.Source, n.Rule = "", "the kernel does not account the container's swap"
		return n
	}
	if c.Memory.Version == cgroup.V1 {
		n.Source = r.v1
	}
	if n.Source == "" {
		return n
	}
	level := 0
	if r.level != nil {
		level = r.level(m)
	}
	switch level {
	case machine:
		n.Source, n.Rule = "/proc/meminfo", "the machine's own: no limit of the container is smaller"
	case hugetlb:
		n.Level = m.huge.path
	default:
		n.Level = c.Memory.Levels[level].Path
		if r.level != nil {
			n.Rule = relation(level) + ": " + n.Rule
		}
	}
	return n
}

// relation says what the level at an index of a path is to the container.
func relation(level int) string {
	switch level {
	case 0:
		return "the container's own"
	case 1:
		return "parent of the container"
	default:
		return fmt.Sprintf("%d levels above the container", level)
	}
}

// explainSwaps is what meminfo says of swap, as /proc/swaps words it.
func explainSwaps(h *host.Snapshot, c *Container) []Number {
	if !hasMemory(c) && !c.Policy.NoSwap {
		return nil
	}
	m := newMemory(h, c)
	size := meminfoRows[meminfoIndex["SwapTotal"]].explain(m, c)
	used := meminfoRows[meminfoIndex["SwapFree"]].explain(m, c)
	size.Key, size.Unit = "Size", "kB"
	used.Key, used.Unit = "Used", "kB"
	used.Value = size.Value - used.Value
	if !c.Policy.NoSwap {
		used.Rule = "SwapTotal − SwapFree of meminfo"
	}
	return []Number{size, used}
}

// explainCPUs says how many CPUs there are, and what decided that (see VisibleCPUs).
func explainCPUs(h *host.Snapshot, c *Container) []Number {
	if len(c.CPUs) == 0 {
		return nil
	}
	n := Number{Key: "CPUs", Value: uint64(len(c.CPUs)), Unit: "CPUs", Policy: choices(c, "cpu_source", "cpu_identity")}
	var set int
	var wanted uint64
	var bounded bool
	if c.CPU != nil {
		set = len(appendCommon(nil, c.CPU.Set, h.OnlineCPUs))
		wanted, bounded = wantedCPUs(c.CPU, &c.Policy)
	}
	small := set > 0 && (set < len(h.OnlineCPUs) || len(h.OnlineCPUs) == 0)
	switch {
	case bounded && wanted <= n.Value && !(small && wanted >= uint64(set)):
		n.Policy = choices(c, "cpu_source", "cpu_rounding", "cpu_identity")
		n.Source, n.Level, n.Rule = explainWanted(c)
	case small:
		n.Source, n.Level, n.Rule = "cpuset.cpus.effective", c.CPU.SetPath, "CPUs of the cpuset that are online"
		if c.CPU.SetVersion == cgroup.V1 {
			n.Source = "cpuset.effective_cpus"
		}
	default:
		n.Source = "/sys/devices/system/cpu/online"
		n.Rule = [...]string{
			policy.Quota:  "no quota and no cpuset gives fewer CPUs than the machine has",
			policy.Cpuset: "no cpuset gives fewer CPUs than the machine has",
			policy.Shares: "neither the shares nor a cpuset give fewer CPUs than the machine has",
		}[c.Policy.CPUSource]
	}
	return []Number{n}
}

// explainWanted is about the number of CPUs that the quota or the shares give.
func explainWanted(c *Container) (source, level, rule string) {
	rounding := [...]string{
		policy.Ceil:  "rounded up, at least 1",
		policy.Round: "rounded to the nearest, at least 1",
		policy.Min2:  "rounded up, at least 2",
	}[c.Policy.CPURounding]
	v1 := c.CPU.LimitVersion == cgroup.V1
	if c.Policy.CPUSource == policy.Shares {
		if len(c.CPU.Levels) > 0 {
			level = c.CPU.Levels[0].Path
		}
		if v1 {
			return "cpu.shares", level, "shares, 1024 for each CPU, " + rounding
		}
		return "cpu.weight", level, "the weight as shares, 1024 (a weight of 100) for each CPU, " + rounding
	}
	i := cgroup.BindingQuota(c.CPU.Levels)
	level, rule = c.CPU.Levels[i].Path, relation(i)+": smallest quota/period on the path, "+rounding
	if v1 {
		return "cpu.cfs_quota_us, cpu.cfs_period_us", level, rule
	}
	return "cpu.max", level, rule
}

// choices are settings of the container's policy, as they are written in a configuration.
func choices(c *Container, names ...string) string {
	text := c.Policy.Text()
	for i, name := range names {
		names[i] = name + "=" + text[name]
	}
	return strings.Join(names, " ")
}

func explainTimes(c *Container) []Number {
	if !hasTimes(c) {
		return nil
	}
	t := c.Times.Total
	n := []Number{
		{Key: "user", Value: t.User, Source: "cpu.stat user_usec", Rule: "CPU time used in user space, but nice"},
		{Key: "system", Value: t.System, Source: "cpu.stat system_usec", Rule: "CPU time used in the kernel"},
		{Key: "idle", Value: t.Idle, Source: sourceLedger, Rule: "capacity of the visible CPUs − used − steal"},
		{Key: "steal", Value: t.Steal, Source: "cpu.stat throttled_usec",
			Rule: "time held back by the quota that binds, at most capacity − used", Policy: choices(c, "steal")},
	}
	if c.CPU != nil {
		if c.CPU.Version == cgroup.V1 {
			n[0].Source, n[1].Source = "cpuacct.usage_user", "cpuacct.usage_sys"
		}
		nice := "cpu.stat nice_usec"
		if c.CPU.ProcStat {
			n[0].Source, n[1].Source, nice = sourceProcStat, sourceProcStat, sourceProcStat
		}
		if c.CPU.Version == cgroup.V2 || c.CPU.ProcStat {
			n = append(n, Number{Key: "nice", Value: t.Nice, Source: nice, Level: c.CPU.UsagePath,
				Rule: "CPU time used in user space at a positive nice value; 0 where the kernel does not count it"})
		}
		n[0].Level, n[1].Level = c.CPU.UsagePath, c.CPU.UsagePath
		if c.CPU.LimitVersion == cgroup.V1 {
			n[3].Source = "cpu.stat throttled_time"
		}
		if level := cgroup.BindingQuota(c.CPU.Levels); level >= 0 {
			n[3].Level = c.CPU.Levels[level].Path
		}
	}
	if c.Policy.NoSteal {
		n[3].Source, n[3].Level = sourceLedger, ""
		n[3].Rule = "what it was when steal was turned off; time held back by the quota is idle since"
	}
	for i := range n {
		n[i].Unit = "ticks"
	}
	return n
}

// explainInterrupts is about the lines that show nothing.
func explainInterrupts(h *host.Snapshot, c *Container) (n []Number) {
	if c.Policy.Interrupts != policy.Zero {
		return nil
	}
	for rest := h.Stat; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if key, _ := cutField(line); countsInterrupts(key) {
			n = append(n, Number{Key: string(key), Rule: "every count is 0: no cgroup counts them", Policy: choices(c, "interrupts")})
		}
	}
	return n
}

func explainTasks(c *Container) []Number {
	if c.Load == nil {
		return nil
	}
	return []Number{
		{Key: "procs_running", Value: runningTasks(c.Load), Unit: "tasks", Source: c.Load.source(),
			Rule: "runnable tasks of the cgroup's subtree, at least the reader"},
		{Key: "procs_blocked", Value: uint64(max(c.Load.Blocked, 0)), Unit: "tasks", Source: c.Load.source(),
			Rule: "tasks of the cgroup's subtree in uninterruptible sleep"},
	}
}

// sourceTimeNS is where the offset of a time namespace is from.
const sourceTimeNS = "/proc/PID/timens_offsets"

// explainBtime is about the one number of a time namespace that /proc/stat has.
func explainBtime(h *host.Snapshot) []Number {
	if !shiftsBtime(h) {
		return nil
	}
	return []Number{{Key: "btime", Value: nsBtime(h), Unit: "s", Source: sourceTimeNS,
		Rule: "boot of the reader's time namespace: the machine's boot − the offset of boottime"}}
}

// explainLoad gives the averages in hundredths, which Number has no fraction for.
func explainLoad(c *Container) (n []Number) {
	if c.Load == nil {
		return nil
	}
	for i, key := range [...]string{"load1", "load5", "load15"} {
		n = append(n, Number{Key: key, Value: loadCenti(c.Load.Avg[i]), Unit: "hundredths", Source: c.Load.source(),
			Rule: "the kernel's average over the runnable and uninterruptible tasks of the cgroup's subtree"})
	}
	if c.Load.Total > 0 {
		n = append(n, Number{Key: "running", Value: runningTasks(c.Load), Unit: "tasks", Source: c.Load.source(),
			Rule: "runnable tasks of the cgroup's subtree, at least the reader"},
			Number{Key: "total", Value: totalTasks(c.Load), Unit: "tasks", Source: sourceSampler,
				Rule: "all tasks of the cgroup's subtree"})
	}
	if c.Load.LastPID > 0 {
		n = append(n, Number{Key: "last_pid", Value: uint64(c.Load.LastPID), Source: sourceSampler,
			Rule: "the newest pid in the reader's pid namespace"})
	}
	return n
}

func explainUptime(h *host.Snapshot, c *Container) (n []Number) {
	switch {
	case h.TimeNS.Other:
		n = append(n, Number{Key: "uptime", Value: uint64(nsUptime(h).Milliseconds()), Unit: "ms", Source: sourceTimeNS,
			Rule: "time since the boot of the reader's time namespace: the machine's + the offset of boottime"})
	case c.Age >= 0:
		n = append(n, Number{Key: "uptime", Value: uint64(c.Age.Milliseconds()), Unit: "ms", Source: "/proc/PID/stat starttime",
			Rule: "time since the container's init started"})
	}
	if hasTimes(c) {
		n = append(n, Number{Key: "idle", Value: c.Times.Total.Idle, Unit: "ticks", Source: sourceLedger,
			Rule: "idle total of /proc/stat"})
	}
	return n
}
