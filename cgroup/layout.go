package cgroup

// kind names a file that a Group reads, whatever it is called in the cgroup interface at hand. The files of the hugetlb
// controller come behind the last: see hugetlbKind.
type kind uint8

const (
	memoryLimit kind = iota
	memoryUsage
	memoryStat
	swapLimit
	swapUsage
	useHierarchy
	swappiness
	kmemUsage
	slabinfo
	numaStat

	cpuQuota
	cpuPeriod
	cpuWeight
	cpuStatistics
	cpuacctUsage
	cpuacctUser
	cpuacctSystem
	cpuacctTicks
	cpuacctAll
	procStatistics
	enableSLI

	cpusEffective
	cpusConfigured
	memsEffective
	memsConfigured

	pidsCurrent

	ioStat
	ioRequests
	ioRequestsOwn
	ioBytes
	ioBytesOwn

	pressure // one for each of Pressures

	kinds = pressure + kind(Pressures)
)

// controllers is a set of hierarchies.
type controllers uint16

func on(all ...hierarchy) (set controllers) {
	for _, h := range all {
		set |= 1 << h
	}
	return set
}

// fileNames are what each kind is called in both interfaces, "" where it has no such file, and the controllers that
// have it; those of unified are in every cgroup of v2.
var fileNames = [kinds]struct {
	on     controllers
	v1, v2 string
}{
	memoryLimit:  {on(memory), "memory.limit_in_bytes", "memory.max"},
	memoryUsage:  {on(memory), "memory.usage_in_bytes", "memory.current"},
	memoryStat:   {on(memory), "memory.stat", "memory.stat"},
	swapLimit:    {on(memory), "memory.memsw.limit_in_bytes", "memory.swap.max"},
	swapUsage:    {on(memory), "memory.memsw.usage_in_bytes", "memory.swap.current"},
	useHierarchy: {on(memory), "memory.use_hierarchy", ""},
	swappiness:   {on(memory), "memory.swappiness", ""},
	kmemUsage:    {on(memory), "memory.kmem.usage_in_bytes", ""},
	slabinfo:     {on(memory), "memory.kmem.slabinfo", ""},
	numaStat:     {on(memory), "memory.numa_stat", "memory.numa_stat"},

	cpuQuota:      {on(cpu), "cpu.cfs_quota_us", "cpu.max"},
	cpuPeriod:     {on(cpu), "cpu.cfs_period_us", ""},
	cpuWeight:     {on(cpu), "cpu.shares", "cpu.weight"},
	cpuStatistics: {on(cpu, unified), "cpu.stat", "cpu.stat"},

	cpuacctUsage:   {on(cpuacct), "cpuacct.usage", ""},
	cpuacctUser:    {on(cpuacct), "cpuacct.usage_user", ""},
	cpuacctSystem:  {on(cpuacct), "cpuacct.usage_sys", ""},
	cpuacctTicks:   {on(cpuacct), "cpuacct.stat", ""},
	cpuacctAll:     {on(cpuacct), "cpuacct.usage_all", ""},
	procStatistics: {on(cpuacct), "cpuacct.proc_stat", ""},
	enableSLI:      {on(cpuacct), "cpuacct.enable_sli", ""},

	cpusEffective:  {on(cpuset), "cpuset.effective_cpus", "cpuset.cpus.effective"},
	cpusConfigured: {on(cpuset), "cpuset.cpus", ""},
	memsEffective:  {on(cpuset), "cpuset.effective_mems", "cpuset.mems.effective"},
	memsConfigured: {on(cpuset), "cpuset.mems", ""},

	pidsCurrent: {on(pids), "pids.current", "pids.current"},

	ioStat:        {on(blkio), "", "io.stat"},
	ioRequests:    {on(blkio), "blkio.throttle.io_serviced_recursive", ""},
	ioRequestsOwn: {on(blkio), "blkio.throttle.io_serviced", ""},
	ioBytes:       {on(blkio), "blkio.throttle.io_service_bytes_recursive", ""},
	ioBytesOwn:    {on(blkio), "blkio.throttle.io_service_bytes", ""},

	// v2 counts pressure in every hierarchy layout, without any controller; kernels with psi_v1=1 (Alibaba Cloud Linux)
	// do so in v1's cpuacct.
	pressure + kind(PressureCPU):    {on(unified, cpuacct), "cpu.pressure", "cpu.pressure"},
	pressure + kind(PressureMemory): {on(unified, cpuacct), "memory.pressure", "memory.pressure"},
	pressure + kind(PressureIO):     {on(unified, cpuacct), "io.pressure", "io.pressure"},
	pressure + kind(PressureIRQ):    {on(unified, cpuacct), "irq.pressure", "irq.pressure"},
}

// layout is what the directories below one mount have in common: which files may be in them, and the place of each in
// dir.files.
type layout struct {
	version Version
	names   []string // by place
	places  []int8   // by kind; -1 for a file that this mount does not have
	climbs  bool     // what is above a Group's own cgroup is read, too
	shares  bool     // and shared by the Groups below it
}

// newLayout lists the files of the controllers that are at m.
func newLayout(h *Hierarchies, m *mount, pages []hugePage) *layout {
	l := &layout{version: V1}
	if m == h.mounts[unified] {
		l.version = V2
	}
	here := func(set controllers) bool {
		for at := range hierarchies {
			if set&on(at) != 0 && (h.mounts[at] == m || h.mounts[at] == nil && l.version == V2) {
				return true
			}
		}
		return false
	}
	for k := range kinds {
		f := &fileNames[k]
		name := f.v2
		if l.version == V1 {
			name = f.v1
		}
		if !here(f.on) {
			name = ""
		}
		l.add(name)
	}
	l.shares, l.climbs = here(on(memory, cpu)), here(on(memory, cpu, cpuset, blkio, hugetlb))
	for _, page := range pages {
		names := page.names(l.version)
		for _, name := range names {
			if !here(on(hugetlb)) {
				name = ""
			}
			l.add(name)
		}
	}
	return l
}

// add gives the next kind its place.
func (l *layout) add(name string) {
	place := int8(-1)
	if name != "" {
		place = int8(len(l.names))
		l.names = append(l.names, name)
	}
	l.places = append(l.places, place)
}
