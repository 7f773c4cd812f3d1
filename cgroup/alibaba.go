package cgroup

import "bytes"

// The kernels of Alibaba Cloud Linux (4.19 and later, CONFIG_SCHED_SLI) add two files to the cpuacct controller of cgroup
// v1: cpuacct.proc_stat and cpuacct.enable_sli, which says whether load averages are kept; kernels without the switch
// always do.
//
// Of cpuacct.proc_stat the split of the CPU time is better than what other kernels have, as it knows nice and is scaled to
// the precise run time, and so are the load averages, which need no sampler. Its idle, iowait and steal are not used: they
// are of the whole cpuset, however few CPUs the quota leaves visible, and its steal counts waiting for other containers
// too, so that they do not add up to the time of the visible CPUs. irq and softirq are not a part of the run time.

// Load is the load of a cgroup and those below it, where the kernel keeps one.
type Load struct {
	// Avg are the load averages over 1, 5 and 15 minutes in hundredths, rounded as in /proc/loadavg.
	Avg [3]uint64
	// Running and Blocked count tasks: runnable ones that the quota does not hold back, and those in uninterruptible sleep.
	Running, Blocked uint64
}

// ReadLoad reads the load from cpuacct.proc_stat of Alibaba Cloud Linux; ok is false where the kernel keeps none.
func (g *Group) ReadLoad() (load Load, ok bool, err error) {
	if err := g.check(); err != nil {
		return Load{}, false, err
	}
	d := g.own[cpuacct]
	if d == nil {
		return Load{}, false, nil
	}
	s := getScratch()
	defer s.put()
	stat, ok, err := d.readProcStat(s)
	if !ok || !stat.hasLoad {
		return Load{}, false, err
	}
	// Read behind the other, which is missing on other kernels.
	on, switched, err := d.number(enableSLI, s, parseNumber)
	if err != nil || switched && on == 0 {
		return Load{}, false, err
	}
	return stat.load, true, nil
}

// readSplit takes the split of the CPU time over into c; ok is false without one, and while there is nothing to split.
func (d *dir) readSplit(s *scratch, c *CPU) (ok bool, err error) {
	stat, ok, err := d.readProcStat(s)
	if !ok || stat.user+stat.nice+stat.system == 0 {
		return false, err
	}
	c.User, c.Nice, c.System, c.ProcStat = add(stat.user, stat.nice), stat.nice, stat.system, true
	return true, nil
}

// readProcStat reads cpuacct.proc_stat; ok is false where it is missing. Which files the controller has is up to the
// kernel, so that a cgroup which is there all the while and lacks it speaks for all.
func (d *dir) readProcStat(s *scratch) (stat procStat, ok bool, err error) {
	if d.fs.noSLI.Load() {
		return procStat{}, false, nil
	}
	text, err := d.read(procStatistics, s)
	if err == errMissing {
		if _, ok, err := d.number(cpuacctUsage, s, parseNumber); ok && err == nil {
			// Not missing in an older directory: that would have been noticed just now.
			if _, err := d.read(procStatistics, s); err == errMissing {
				d.fs.noSLI.Store(true)
			}
		}
		return procStat{}, false, nil
	}
	if err == nil {
		if err = stat.parse(text); err != nil {
			err = d.wrap("parse", procStatistics, err)
		}
	}
	return stat, err == nil, err
}

// procStat is what cpuacct.proc_stat says, times in ns.
type procStat struct {
	user, nice, system uint64 // nice is not a part of user
	load               Load
	hasLoad            bool
}

// parse reads lines "key value", times in USER_HZ. The keys of the load averages hold a blank: "load average(1min) 150" is
// 1.50. Not every kernel has them.
func (p *procStat) parse(text []byte) error {
	found := 0
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		blank := bytes.LastIndexByte(line, ' ')
		if blank < 0 {
			continue
		}
		key, value := line[:blank], line[blank+1:]
		var dst *uint64
		unit := uint64(1)
		switch string(key) {
		case "user":
			dst, unit = &p.user, tick
		case "nice":
			dst, unit = &p.nice, tick
		case "system":
			dst, unit = &p.system, tick
		case "load average(1min)":
			dst = &p.load.Avg[0]
		case "load average(5min)":
			dst = &p.load.Avg[1]
		case "load average(15min)":
			dst = &p.load.Avg[2]
		case "nr_running":
			dst = &p.load.Running
		case "nr_uninterruptible", "nr_uninterrupible": // the latter of earlier kernels
			dst = &p.load.Blocked
		default:
			continue
		}
		if err := setField(dst, key, value); err != nil {
			return err
		}
		*dst = mul(*dst, unit)
		if unit == 1 {
			found++
		}
	}
	p.hasLoad = found == len(p.load.Avg)+2
	return nil
}
