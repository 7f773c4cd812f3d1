package cgroup

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
)

// ReadCPU fills c, whose slice of levels is reused. c.Set is shared and must not be changed.
func (g *Group) ReadCPU(c *CPU) error {
	*c = CPU{Levels: c.Levels[:0], LimitVersion: g.own[cpu].interfaceVersion(), SetVersion: g.own[cpuset].interfaceVersion()}
	if err := g.check(); err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	binding, err := g.readLevels(s, c)
	if err != nil {
		return err
	}
	var usage cpuStat
	if err := g.readUsage(s, c, &usage); err != nil {
		return err
	}
	if binding != nil {
		if binding.version == V1 || binding != g.usage { // else the same file says both
			if _, err := usage.read(binding, cpuStatistics, s); err != nil {
				return err
			}
		}
		c.Levels[BindingQuota(c.Levels)].Throttled = usage.throttled
	}
	c.Set, c.SetPath, err = g.readSet(&g.cpus, g.own[cpuset], cpusEffective, cpusConfigured, s)
	return err
}

// readLevels reads the quotas of the levels where the cpu controller is on, and the shares of the first. binding is the
// directory of the level that BindingQuota names.
func (g *Group) readLevels(s *scratch, c *CPU) (binding *dir, err error) {
	least := -1
	for d := g.own[cpu]; d != nil; d = d.parent {
		var level CPULevel
		var ok bool
		if len(c.Levels) == 0 {
			level, ok, err = d.readQuota(s)
		} else {
			level, ok, err = d.quotaAbove(s)
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if len(c.Levels) == 0 {
			if c.Shares, err = d.readShares(s); err != nil {
				return nil, err
			}
		}
		c.Levels = append(c.Levels, level)
		if at := BindingQuota(c.Levels); at != least {
			least, binding = at, d
		}
	}
	return binding, nil
}

// readShares is cpu.shares, or cpu.weight as shares; 0 without either.
func (d *dir) readShares(s *scratch) (uint64, error) {
	weight, ok, err := d.number(cpuWeight, s, parseNumber)
	if ok && d.version == V2 {
		weight = sharesOf(weight)
	}
	return weight, err
}

// readQuota reads the quota of one level; ok is false where the controller is off.
func (d *dir) readQuota(s *scratch) (level CPULevel, ok bool, err error) {
	level.Path = d.cgroup()
	if d.version == V2 {
		text, err := d.read(cpuQuota, s)
		if err == errMissing {
			return level, false, nil
		}
		if err == nil {
			if level.Quota, level.Period, err = parseCPUMax(text); err != nil {
				err = d.wrap("parse", cpuQuota, err)
			}
			if level.Quota == Unlimited {
				level.Period = 0
			}
		}
		return level, err == nil, err
	}
	if level.Quota, ok, err = d.number(cpuQuota, s, parseQuota); !ok || level.Quota == Unlimited {
		return level, ok, err
	}
	level.Period, ok, err = d.number(cpuPeriod, s, parsePeriod)
	return level, ok, err
}

// BindingQuota is the index of the level with the smallest quota in CPUs (Quota/Period), the lowest of equal ones; -1
// where no level has a quota.
func BindingQuota(levels []CPULevel) int {
	binding := -1
	for i := range levels {
		l := &levels[i]
		if l.Quota == Unlimited || l.Period == 0 {
			continue
		}
		if binding < 0 || lessQuota(l, &levels[binding]) {
			binding = i
		}
	}
	return binding
}

// lessQuota compares a.Quota/a.Period with b's, exactly.
func lessQuota(a, b *CPULevel) bool {
	aHigh, aLow := bits.Mul64(a.Quota, b.Period)
	bHigh, bLow := bits.Mul64(b.Quota, a.Period)
	return aHigh < bHigh || aHigh == bHigh && aLow < bLow
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

// readUsage fills the usage in. On v2, stat is what cpu.stat said.
func (g *Group) readUsage(s *scratch, c *CPU, stat *cpuStat) error {
	d := g.usage
	switch d.interfaceVersion() {
	case V2:
		ok, err := stat.read(d, cpuStatistics, s)
		if !ok || err != nil {
			return err
		}
		c.Usage, c.User, c.System, c.Nice = stat.usage, stat.user, stat.system, stat.nice
	case V1:
		if err := d.readUsageV1(s, c); err != nil {
			return err
		}
		c.Usage = max(c.Usage, c.User+c.System)
	default:
		return nil
	}
	c.Version, c.UsagePath = d.version, d.cgroup()
	return nil
}

// readUsageV1 prefers cpuacct.proc_stat, and then the files in ns; cpuacct.stat, older than Linux 4.7's usage_user, counts
// ticks.
func (d *dir) readUsageV1(s *scratch, c *CPU) (err error) {
	var ok bool
	if c.Usage, err = d.optional(cpuacctUsage, s); err != nil {
		return err
	}
	if ok, err = d.readSplit(s, c); ok || err != nil {
		return err
	}
	if c.User, ok, err = d.number(cpuacctUser, s, parseNumber); err != nil {
		return err
	}
	if ok {
		c.System, err = d.optional(cpuacctSystem, s)
		return err
	}
	var stat cpuStat
	if _, err = stat.read(d, cpuacctTicks, s); err != nil {
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
	switch g.usage.interfaceVersion() {
	case V2:
		var stat cpuStat
		_, err = stat.read(g.usage, cpuStatistics, s)
		return stat.usage, err
	case V1:
		return g.usage.optional(cpuacctUsage, s)
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
func (st *cpuStat) read(d *dir, k kind, s *scratch) (ok bool, err error) {
	text, err := d.read(k, s)
	if err == errMissing {
		return false, nil
	}
	if err == nil {
		if err = st.parse(text); err != nil {
			err = d.wrap("parse", k, err)
		}
	}
	return err == nil, err
}

func (st *cpuStat) parse(text []byte) error {
	for len(text) > 0 {
		key, n, ok, rest := nextNumber(text)
		text = rest
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
		if !ok {
			return errNoNumber(key)
		}
		*dst = mul(n, unit)
	}
	return nil
}

// ReadPerCPU fills dst, reused where it is large enough, with the CPU time that the Group used on each physical CPU,
// indexed by the CPU's number: cpuacct.usage_all of v1. It is nil where there is no such file.
func (g *Group) ReadPerCPU(dst []CPUUsage) ([]CPUUsage, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	d := g.own[cpuacct]
	if d == nil {
		return nil, nil
	}
	s := getScratch()
	defer s.put()
	text, err := d.read(cpuacctAll, s)
	if err == errMissing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if dst, err = parseUsageAll(dst[:0], text); err != nil {
		return nil, d.wrap("parse", cpuacctAll, err)
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
