package compat

const introduction = `# What programs print

Written by a test run, ` + "`make compat`" + `: each program runs in a container of runc with the view bound over the kernel's files, and the
test fails when it prints another's numbers than this page says. Each runs in two containers, so that a number is not the container's by chance.

- **256 MiB…**, **192 MiB…**: what it prints in a container of these limits; numbers that move are only named
- **whose**: *right* is the container's; else the machine's and the way that it gets there
- **reads**: files of scopefs, then files of the kernel and system calls that tell of the machine's size, as strace saw them. ` + "`cpuN/…`" + ` stands for the directory of any CPU

`

const limitsOfFiles = `
## What files cannot reach

A program that asks the kernel by a system call gets the machine's answer, whatever is mounted:

- **sysinfo(2)**: total and free memory, swap, uptime, load. ` + "`busybox free` and `busybox uptime`" + `; getloadavg(3) of glibc 2.36, and through it Python, psutil, glances and the JVM's
  ` + "`getSystemLoadAverage`" + `; ` + "`_SC_PHYS_PAGES`" + ` of glibc, and through it a JVM without container support.
- **sched_getaffinity(2)**: ` + "`nproc`" + `, Go's ` + "`NumCPU`" + `, Node's ` + "`availableParallelism`" + `, Python's ` + "`sched_getaffinity`" + `. It follows a cpuset and not a quota: with a cpuset of as many CPUs they are right.
- **Files of sysfs that scopefs does not show**: ` + "`/sys/block`" + `, where ` + "`iostat`" + ` without ` + "`-p`" + ` looks, and ` + "`/sys/devices/system/memory`" + `, where ` + "`lsmem`" + ` does, are the machine's.
- **Process start times** in ` + "`/proc/PID/stat`" + `: ` + "`ps -o etime`" + ` subtracts them from an uptime that is the container's. [views.md](views.md#procuptime) has what is printed.

The JVM, Node and Go read cgroup files by themselves; what they get from there is right with or without scopefs.
`
