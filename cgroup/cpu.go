package cgroup

import (
	"bytes"
	"fmt"
	"math"
)

// cpuFiles are the files of the cpu and cpuacct controllers along a Group's path.
type cpuFiles struct {
	version    Version
	setVersion Version // of the cpuset controller
	levels     []cpuLevelFiles
	usage      usageFiles
}

type cpuLevelFiles struct {
	path          string
	max           *file // v2: cpu.max
	quota, period *file // v1
	stat          *file
	weight        *file // cpu.weight | cpu.shares
}

// usageFiles say what the Group itself used.
type usageFiles struct {
	version                       Version
	path                          string
	stat                          *file // v2: cpu.stat
	total, user, sys, ticks, each *file // v1, cpuacct.*
	alibaba                       alibabaFiles
}

func newCPUFiles(levels []level, version Version, usage []level, usageVersion Version) cpuFiles {
	c := cpuFiles{version: version, usage: usageFiles{version: usageVersion}}
	for _, l := range levels {
		files := cpuLevelFiles{path: l.path, stat: l.dir.file("cpu.stat")}
		if version == V2 {
			files.max = l.dir.file("cpu.max")
			files.weight = l.dir.file("cpu.weight")
		} else {
			files.quota = l.dir.file("cpu.cfs_quota_us")
			files.period = l.dir.file("cpu.cfs_period_us")
			files.weight = l.dir.file("cpu.shares")
		}
		c.levels = append(c.levels, files)
	}
	u := &c.usage
	switch usageVersion {
	case V2:
		u.path = usage[0].path
		u.stat = usage[0].dir.file("cpu.stat")
	case V1:
		d := usage[0].dir
		u.path = usage[0].path
		u.total = d.file("cpuacct.usage")
		u.user = d.file("cpuacct.usage_user")
		u.sys = d.file("cpuacct.usage_sys")
		u.ticks = d.file("cpuacct.stat")
		u.each = d.file("cpuacct.usage_all")
		u.alibaba = newAlibabaFiles(d)
	}
	return c
}

// ReadCPU fills c, whose slice of levels is reused. c.Set is shared and must not be changed.
func (g *Group) ReadCPU(c *CPU) error {
	*c = CPU{Levels: c.Levels[:0], LimitVersion: g.cpu.version, SetVersion: g.cpu.setVersion}
	if err := g.check(); err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	for i := range g.cpu.levels {
		if err := g.cpu.readLevel(&g.cpu.levels[i], s, c); err != nil {
			return err
		}
	}
	if err := g.cpu.usage.read(s, c); err != nil {
		return err
	}
	set, path, err := g.cpus.read(s)
	c.Set, c.SetPath = set, path
	return err
}

// readLevel appends one level to c, if the cpu controller is on there.
func (f *cpuFiles) readLevel(l *cpuLevelFiles, s *scratch, c *CPU) error {
	level := CPULevel{Path: l.path}
	ok, err := f.readQuota(l, s, &level)
	if !ok || err != nil {
		return err
	}
	if level.Quota != Unlimited {
		var stat cpuStat
		if _, err := stat.read(l.stat, s); err != nil {
			return err
		}
		level.Throttled = stat.throttled
	}
	if c.Shares == 0 {
		weight, ok, err := parse(l.weight, s, parseNumber)
		if err != nil {
			return err
		}
		if ok && f.version == V2 {
			weight = sharesOf(weight)
		}
		c.Shares = weight
	}
	c.Levels = append(c.Levels, level)
	return nil
}

// readQuota reads the quota of one level; ok is false where the controller is off.
func (f *cpuFiles) readQuota(l *cpuLevelFiles, s *scratch, level *CPULevel) (ok bool, err error) {
	if f.version == V2 {
		text, err := l.max.read(s)
		if err == errMissing {
			return false, nil
		}
		if err == nil {
			if level.Quota, level.Period, err = parseCPUMax(text); err != nil {
				err = l.max.wrap("parse", err)
			}
		}
		return err == nil, err
	}
	if level.Quota, ok, err = parse(l.quota, s, parseQuota); !ok {
		return false, err
	}
	level.Period, ok, err = parse(l.period, s, parsePeriod)
	return ok, err
}

// The range of cpu.shares.
const minShares, maxShares = 2, 262144

// weightOf turns cpu.shares into cpu.weight as the OCI runtimes do (runc 1.3, crun 1.23): a curve in logarithms through
// the least (2: 1), the defaults (1024: 100) and the most (262144: 10000) of both, rounded up.
func weightOf(shares uint64) uint64 {
	l := math.Log2(float64(min(max(shares, minShares), maxShares)))
	exact := math.Pow(10, (l*l+125*l)/612-7.0/34)
	return uint64(math.Ceil(exact - 1e-6)) // which is more than the error of these three points
}

// sharesOf turns cpu.weight (1-10000) into cpu.shares, the reverse of weightOf. Of the shares that have the same weight
// it is those of whole CPUs, multiples of 1024, where there are some, and else the most. A weight that an older runtime
// wrote, in a straight line from 2 shares (1) to 262144 (10000), cannot be told from others, and is taken for fewer
// shares than were asked for. A weight of 0 is what an idle cgroup (cpu.idle) shows: the least.
func sharesOf(weight uint64) uint64 {
	weight = min(max(weight, 1), 10000)
	l := (math.Sqrt(125*125+4*612*(math.Log10(float64(weight))+7.0/34)) - 125) / 2
	shares := uint64(math.Exp2(l) + 1e-6)
	if whole := shares &^ 1023; whole > 0 && weightOf(whole) == weight {
		return whole
	}
	return shares
}

// read fills the usage in.
func (u *usageFiles) read(s *scratch, c *CPU) error {
	switch u.version {
	case V2:
		var stat cpuStat
		ok, err := stat.read(u.stat, s)
		if !ok || err != nil {
			return err
		}
		c.Usage, c.User, c.System, c.Nice = stat.usage, stat.user, stat.system, stat.nice
	case V1:
		if err := u.readV1(s, c); err != nil {
			return err
		}
		c.Usage = max(c.Usage, c.User+c.System)
	default:
		return nil
	}
	c.Version, c.UsagePath = u.version, u.path
	return nil
}

// readV1 prefers cpuacct.proc_stat, and then the files in ns; cpuacct.stat, older than Linux 4.7's usage_user, counts ticks.
func (u *usageFiles) readV1(s *scratch, c *CPU) (err error) {
	var ok bool
	if c.Usage, err = optional(u.total, s, parseNumber); err != nil {
		return err
	}
	if ok, err = u.alibaba.readUsage(s, c); ok || err != nil {
		return err
	}
	if c.User, ok, err = parse(u.user, s, parseNumber); err != nil {
		return err
	}
	if ok {
		c.System, err = optional(u.sys, s, parseNumber)
		return err
	}
	var stat cpuStat
	if _, err = stat.read(u.ticks, s); err != nil {
		return err
	}
	c.User, c.System = stat.userTicks, stat.systemTicks
	return nil
}

// ReadUsage is the CPU time that the Group used, in ns, with a single pread: cpu.stat's usage_usec | cpuacct.usage. It
// serves to see whether anything ran. For the root it is 0.
func (g *Group) ReadUsage() (ns uint64, err error) {
	if err := g.check(); err != nil {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	switch g.cpu.usage.version {
	case V2:
		var stat cpuStat
		_, err = stat.read(g.cpu.usage.stat, s)
		return stat.usage, err
	case V1:
		return optional(g.cpu.usage.total, s, parseNumber)
	}
	return 0, nil
}

// cpuStat is what cpu.stat (v1 or v2) and v1's cpuacct.stat say, in ns.
type cpuStat struct {
	usage, user, system, nice uint64
	throttled                 uint64
	userTicks, systemTicks    uint64
}

// tick is one of USER_HZ, 10 ms on every architecture, in ns.
const tick = 10_000_000

// read reads the file; ok is false where it is missing.
func (st *cpuStat) read(f *file, s *scratch) (ok bool, err error) {
	text, err := f.read(s)
	if err == errMissing {
		return false, nil
	}
	if err == nil {
		if err = st.parse(text); err != nil {
			err = f.wrap("parse", err)
		}
	}
	return err == nil, err
}

func (st *cpuStat) parse(text []byte) error {
	for len(text) > 0 {
		var key, value []byte
		key, value, text = nextField(text)
		var dst *uint64
		unit := uint64(1000) // µs
		switch string(key) {
		case "usage_usec":
			dst = &st.usage
		case "user_usec":
			dst = &st.user
		case "system_usec":
			dst = &st.system
		case "nice_usec":
			dst = &st.nice
		case "throttled_usec":
			dst = &st.throttled
		case "throttled_time":
			dst, unit = &st.throttled, 1
		case "user":
			dst, unit = &st.userTicks, tick
		case "system":
			dst, unit = &st.systemTicks, tick
		default:
			continue
		}
		if err := setField(dst, key, value); err != nil {
			return err
		}
		*dst = mul(*dst, unit)
	}
	return nil
}

// ReadPerCPU fills dst, reused where it is large enough, with the CPU time that the Group used on each physical CPU,
// indexed by the CPU's number: cpuacct.usage_all of v1. It is nil where there is no such file.
func (g *Group) ReadPerCPU(dst []CPUUsage) ([]CPUUsage, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	f := g.cpu.usage.each
	if f == nil {
		return nil, nil
	}
	s := getScratch()
	defer s.put()
	text, err := f.read(s)
	if err == errMissing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if dst, err = parseUsageAll(dst[:0], text); err != nil {
		return nil, f.wrap("parse", err)
	}
	return dst, nil
}

// parseUsageAll reads cpuacct.usage_all: a line "cpu user system", then one of numbers for each possible CPU.
func parseUsageAll(dst []CPUUsage, text []byte) ([]CPUUsage, error) {
	_, _, text = nextField(text)
	for len(text) > 0 {
		var key, times []byte
		key, times, text = nextField(text)
		user, system, _ := bytes.Cut(times, []byte{' '})
		n, ok1 := parseUint(key)
		u, ok2 := parseUint(user)
		sys, ok3 := parseUint(system)
		if !ok1 || !ok2 || !ok3 || n >= maxCPUs {
			return dst, fmt.Errorf("cgroup: no line of cpuacct.usage_all: %.40q %.100q", key, times)
		}
		for uint64(len(dst)) <= n {
			dst = append(dst, CPUUsage{})
		}
		dst[n] = CPUUsage{User: u, System: sys}
	}
	return dst, nil
}
