package compat

import "math"

// client is a command line that sh runs; /compat holds the files of testdata.
type client struct {
	name    string // on the page; "": the command
	pkg     string // of Debian, or "go"
	in      distribution
	command string
	// numbers are what it prints. Without any it has to run clean: status 0 and nothing on standard error.
	numbers []number
}

func (c client) title() string {
	if c.name != "" {
		return c.name
	}
	return c.command
}

const (
	// Why a number is the machine's.
	affinity   = "sched_getaffinity(2)"
	sysinfo    = "sysinfo(2)"
	getloadavg = "getloadavg(3) calls sysinfo(2)"
	possible   = "`possible` is, on purpose"

	java = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java"
	kB   = 1024

	cpuTree  = "/sys/devices/system/cpu"
	nodeTree = "/sys/devices/system/node"
)

// clients are the rows of the page, in its order. A number is the container's unless its row says otherwise.
var clients = []client{
	{pkg: "procps", in: bookworm, command: "free -m", numbers: []number{
		memory(`^Mem: +(\d+)`, miB), swap(`^Swap: +(\d+)`, miB), free(`^Mem: +\d+ +\d+ +(\d+)`, miB),
	}},
	{pkg: "procps", in: bookworm, command: "top -bn1 -1 -w 200", numbers: []number{
		cpus(`%Cpu\d+ `), memory(`^MiB Mem : +([\d.]+) total`, miB), swap(`MiB Swap: +([\d.]+) total`, miB),
		load(`load average: ([\d.]+)`), uptime(`up +(\d+) min`, 60),
	}},
	{pkg: "procps", in: bookworm, command: "vmstat 1 2", numbers: []number{free(`^ *\d+ +\d+ +\d+ +(\d+)`, kB)}},
	{pkg: "procps", in: bookworm, command: "vmstat -s", numbers: []number{
		memory(`(\d+) K total memory`, kB), swap(`(\d+) K total swap`, kB), boot(`(\d+) boot time`).machines("btime is not shifted"),
	}},
	{pkg: "procps", in: bookworm, command: "vmstat -d", numbers: []number{written(`^\S+ +(?:\d+ +){6}(\d+)`, 512)}},
	{pkg: "procps", in: bookworm, command: "uptime", numbers: []number{load(`load average: ([\d.]+)`), uptime(`up +(\d+) min`, 60)}},
	{pkg: "procps", in: bookworm, command: "w", numbers: []number{load(`load average: ([\d.]+)`), uptime(`up +(\d+) min`, 60)}},
	{pkg: "procps", in: bookworm, command: "ps aux", numbers: []number{
		// sleep(1) has 1.2 to 1.8 MiB in use; of a machine with gigabytes that is 0.0 %.
		{what: "%MEM", pattern: `^root +1 +\S+ +([\d.]+) .*sleep`, unit: 1, want: func(f facts) float64 { return 100 * 1.5 * miB / f.memory }, slack: 0.25, moves: true},
	}},
	{pkg: "procps", in: bookworm, command: "slabtop -o", numbers: []number{slabs()}},

	{pkg: "busybox", in: bookworm, command: "busybox free", numbers: []number{
		memory(`^Mem: +(\d+)`, kB).machines(sysinfo),
		{what: "available", pattern: `^Mem: .* (\d+)$`, unit: kB, want: func(f facts) float64 { return f.available }, slack: 64 * miB, moves: true},
	}},
	{pkg: "busybox", in: bookworm, command: "busybox top -bn1", numbers: []number{
		free(`(\d+)K free`, kB), load(`^Load average: ([\d.]+)`),
	}},
	{pkg: "busybox", in: bookworm, command: "busybox uptime", numbers: []number{load(`load average: ([\d.]+)`).machines(sysinfo)}},
	{pkg: "busybox", in: bookworm, command: "busybox nproc", numbers: []number{cpus(`^(\d+)$`).machines(affinity)}},

	{pkg: "coreutils", in: bookworm, command: "nproc", numbers: []number{cpus(`^(\d+)$`).machines(affinity)}},
	{pkg: "coreutils", in: bookworm, command: "nproc --all", numbers: []number{cpus(`^(\d+)$`).machines(possible)}},
	{pkg: "libc-bin", in: bookworm, command: "getconf _NPROCESSORS_ONLN", numbers: []number{cpus(`^(\d+)$`)}},
	{pkg: "libc-bin", in: bookworm, command: "getconf _NPROCESSORS_CONF", numbers: []number{cpus(`^(\d+)$`).machines(possible)}},
	{pkg: "libc-bin", in: bookworm, command: "getconf _PHYS_PAGES", numbers: []number{memory(`^(\d+)$`, 4096).machines(sysinfo)}},

	{pkg: "util-linux", in: bookworm, command: "lscpu", numbers: []number{
		cpus(`^CPU\(s\): +(\d+)`), cpus(`^Core\(s\) per socket: +(\d+)`).named("cores").served(cpuTree),
		lastCPU(`^NUMA node0 CPU\(s\): +(?:.*[-,])?(\d+)$`).served(nodeTree),
	}},
	{pkg: "util-linux", in: bookworm, command: "lscpu -e", numbers: []number{cpus(`^ *\d+ .* yes`)}},
	{pkg: "mount", in: bookworm, command: "swapon --show --bytes", numbers: []number{
		{what: "swap", pattern: `^\S+ +\S+ +(\d+)`, sum: true, none: true, unit: 1, want: func(f facts) float64 { return f.swap }, slack: kB},
	}},

	{pkg: "htop", in: bookworm, command: "(sleep 1; echo q) | script -qec 'stty cols 160 rows 40; exec htop' /dev/null", name: "htop", numbers: []number{
		cpus(`(?:\b\d+|CPU)\[[| ]*[\d.]+%\]`).named("meters").served(cpuTree), memory(`/(\d+)M\]`, miB),
	}},

	{pkg: "sysstat", in: bookworm, command: "mpstat -P ALL", numbers: []number{
		cpus(`\((\d+) CPU\)`).served(cpuTree), cpus(`^[\d:]+ +\d+ `).named("rows"),
	}},
	{pkg: "sysstat", in: bookworm, command: "iostat -dk", numbers: []number{
		written(`^\w+ +(?:[\d.]+ +){5}(\d+) +\d+$`, kB).machines("`/sys/block` is left to the kernel"),
	}},
	{pkg: "sysstat", in: bookworm, command: "iostat -dk -p ALL", numbers: []number{written(`^\w+ +(?:[\d.]+ +){5}(\d+) +\d+$`, kB)}},
	{pkg: "sysstat", in: bookworm, command: "iostat -x -p ALL"},
	{pkg: "sysstat", in: bookworm, command: "sar.sysstat -u -r -B -q 1 1", name: "sar -u -r -B -q 1 1", numbers: []number{
		free(`kbmemfree.*\n[\d:]+ +(\d+)`, kB), load(`ldavg-1 .*\n[\d:]+ +\d+ +\d+ +([\d.]+)`), cpus(`\((\d+) CPU\)`).served(cpuTree),
	}},

	{pkg: "numactl", in: bookworm, command: "numactl -H", numbers: []number{
		memory(`^node 0 size: (\d+) MB`, miB).served(nodeTree), lastCPU(`^node 0 cpus:.* (\d+) *$`).served(nodeTree),
	}},
	{pkg: "numactl", in: bookworm, command: "numastat -m", numbers: []number{memory(`^MemTotal .* ([\d.]+)\s*$`, miB).served(nodeTree)}},
	{pkg: "hwloc-nox", in: bookworm, command: "lstopo-no-graphics --no-io", numbers: []number{
		cpus(`\bPU L#`), memory(`^Machine \((\d+)MB total\)`, miB).served(nodeTree),
	}},

	{pkg: "glances", in: bookworm, command: "glances --stdout mem.total,load,core -t 1 --stop-after 1 2>&1", name: "glances --stdout mem.total,load,core", numbers: []number{
		memory(`^mem.total: (\d+)`, 1), cpus(`'log': (\d+)`), load(`'min1': ([\d.]+)`).machines(getloadavg),
		cpus(`'phys': (\d+)`).named("cores").served(cpuTree),
	}},
	{pkg: "python3-psutil", in: bookworm, command: "python3 /compat/counts.py", name: "psutil", numbers: []number{
		cpus(`^cpu_count (\d+)`), cpus(`^physical (\d+)`).named("cores").served(cpuTree), cpus(`^cpu_times (\d+)`), memory(`^total (\d+)`, 1), swap(`^swap (\d+)`, 1),
		load(`^getloadavg ([\d.]+)`).machines(getloadavg), boot(`^boot_time ([\d.]+)`).machines("btime is not shifted"),
		written(`^write_bytes (\d+)`, 1),
	}},
	{pkg: "python3.11", in: bookworm, command: "python3 /compat/python.py", name: "python3", numbers: []number{
		cpus(`^cpu_count (\d+)`), cpus(`^multiprocessing (\d+)`), cpus(`^sched_getaffinity (\d+)`).named("affinity").machines(affinity),
		load(`^getloadavg ([\d.]+)`).machines(getloadavg), memory(`^PHYS_PAGES (\d+)`, 1).machines(sysinfo),
	}},

	{pkg: "nodejs", in: bookworm, command: "node /compat/node.js", name: "node", numbers: []number{
		cpus(`^cpus (\d+)`), memory(`^totalmem (\d+)`, 1), load(`^loadavg ([\d.]+)`), uptime(`^uptime ([\d.]+)`, 1),
		memory(`^constrained (\d+)`, 1).named("constrainedMemory").fromCgroup(),
		{what: "heap limit", pattern: `^heap (\d+)`, unit: 1, want: func(f facts) float64 { return max(f.memory/4, 256*miB) }, slack: 16 * miB,
			whose: "a quarter of the cgroup's limit, at least 256 MiB"},
		cpus(`^availableParallelism (\d+)`).named("availableParallelism").machines(affinity),
	}},

	{pkg: "openjdk-17-jre-headless", in: bookworm, command: java + " -XshowSettings:system -version 2>&1", name: "java -XshowSettings:system", numbers: []number{
		cpus(`Effective CPU Count: (\d+)`).fromCgroup(), memory(`Memory Limit: ([\d.]+)M`, miB).fromCgroup(),
	}},
	{pkg: "openjdk-17-jre-headless", in: bookworm, command: java + " -cp /compat Machine", name: "OperatingSystemMXBean", numbers: []number{
		cpus(`^availableProcessors (\d+)`).fromCgroup(), memory(`^totalMemorySize (\d+)`, 1).fromCgroup(),
		load(`^systemLoadAverage ([\d.]+)`).machines(getloadavg),
	}},
	{pkg: "openjdk-17-jre-headless", in: bookworm, command: java + " -XX:-UseContainerSupport -cp /compat Machine", name: "OperatingSystemMXBean, -XX:-UseContainerSupport", numbers: []number{
		cpus(`^availableProcessors (\d+)`).machines(affinity), memory(`^totalMemorySize (\d+)`, 1).machines(sysinfo),
	}},

	{pkg: "nginx", in: bookworm, name: "nginx, worker_processes auto", numbers: []number{cpus(`^workers (\d+)`).named("workers")}, command: `
		echo 'user root; error_log stderr; pid /tmp/nginx.pid; worker_processes auto; daemon off; events {}' >/tmp/nginx.conf
		nginx -c /tmp/nginx.conf &
		until [ -n "$(cat /proc/$!/task/$!/children)" ]; do sleep 0.1; done; sleep 0.5
		echo workers $(cat /proc/$!/task/$!/children | wc -w); kill $!; wait`},

	{pkg: "prometheus-node-exporter", in: bookworm, name: "node_exporter, /metrics", numbers: []number{
		cpus(`^node_cpu_seconds_total\{.*mode="idle"`), memory(`^node_memory_MemTotal_bytes (\S+)`, 1), load(`^node_load1 (\S+)`),
		boot(`^node_boot_time_seconds (\S+)`).machines("btime is not shifted"), written(`^node_disk_written_bytes_total\{.*\} (\S+)`, 1),
		{what: "page faults", pattern: `^node_vmstat_pgfault (\S+)`, unit: 1, want: func(f facts) float64 { return f.faults }, slack: 1000, moves: true, needs: "/proc/vmstat"},
		{what: "pressure", pattern: `^node_pressure_cpu_waiting_seconds_total (\S+)`, unit: 1, want: func(f facts) float64 { return f.pressure }, slack: 0.1, moves: true, needs: "/proc/pressure/cpu",
			whose: "the cgroup's on v2, the machine's on v1"},
	}, command: `
		prometheus-node-exporter --web.listen-address=127.0.0.1:9100 2>/tmp/log &
		for i in 1 2 3 4 5 6 7 8 9; do sleep 0.5; busybox wget -qO- http://127.0.0.1:9100/metrics 2>/dev/null && break; done; kill $!`},

	{pkg: "go", in: bookworm, command: roleEnv + "=go /compat/goclient", name: "package runtime", numbers: []number{
		cpus(`^NumCPU (\d+)`).named("NumCPU").machines(affinity),
		cpus(`^GOMAXPROCS (\d+)`).named("GOMAXPROCS").says("the quota rounded up, at least 2, from the cgroup", func(f facts) float64 { return max(2, math.Ceil(f.quota)) }),
		cpus(`^GOMEMLIMIT (\d+)`).named("memory limit").says("none, whatever the limit", func(facts) float64 { return math.MaxInt64 }),
	}},

	{pkg: "procps", in: bullseye, command: "free -m", numbers: []number{memory(`^Mem: +(\d+)`, miB), swap(`^Swap: +(\d+)`, miB)}},
	{pkg: "procps", in: bullseye, command: "top -bn1 -1 -w 200", numbers: []number{
		cpus(`%Cpu\d+ `), memory(`^MiB Mem : +([\d.]+) total`, miB), load(`load average: ([\d.]+)`), uptime(`up +(\d+) min`, 60),
	}},
	{pkg: "procps", in: bullseye, command: "vmstat 1 2", numbers: []number{free(`^ *\d+ +\d+ +\d+ +(\d+)`, kB)}},
	{pkg: "procps", in: bullseye, command: "uptime", numbers: []number{load(`load average: ([\d.]+)`), uptime(`up +(\d+) min`, 60)}},
	{pkg: "procps", in: bullseye, command: "slabtop -o", numbers: []number{slabs()}},
	{pkg: "util-linux", in: bullseye, command: "lscpu", numbers: []number{
		cpus(`^CPU\(s\): +(\d+)`), cpus(`^Core\(s\) per socket: +(\d+)`).named("cores").served(cpuTree),
		lastCPU(`^NUMA node0 CPU\(s\): +(?:.*[-,])?(\d+)$`).served(nodeTree),
	}},
	{pkg: "libc-bin", in: bullseye, command: "getconf _NPROCESSORS_ONLN", numbers: []number{cpus(`^(\d+)$`)}},
	{pkg: "libc-bin", in: bullseye, command: "getconf _NPROCESSORS_CONF", numbers: []number{cpus(`^(\d+)$`).served(cpuTree)}},
	{pkg: "libc-bin", in: bullseye, command: "getconf _PHYS_PAGES", numbers: []number{memory(`^(\d+)$`, 4096).machines(sysinfo)}},
}

// slabs is the number of objects: no cgroup counts them by cache, a container's caches are empty.
func slabs() number {
	return number{what: "objects", pattern: `Total Objects.*/ (\d+) `, unit: 1, want: func(facts) float64 { return 0 }, needs: "/proc/slabinfo"}
}

// lastCPU is the highest number in a list of CPUs.
func lastCPU(pattern string) number {
	return number{what: "last CPU", pattern: pattern, unit: 1, want: func(f facts) float64 { return f.cpus - 1 }}
}
