// Package policy holds the choices of how containers are shown, where there is more than one right way: their values,
// their names in the configuration and on the command line, and what a single container overrides.
package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Policy is one set of choices. The zero value is the default.
type Policy struct {
	CPUSource   CPUSource
	CPUIdentity CPUIdentity
	CPURounding CPURounding
	Reader      Reader
	NoSwap      bool // swap is shown as absent (all 0), whatever the limits say
	NoSteal     bool // time that a quota held back counts as idle instead of steal
	Interrupts  Interrupts
	// Off holds the names of Files that are left to the kernel, in order.
	Off []string
}

// CPUSource is what the number of visible CPUs comes from. The cpuset bounds it in every case.
type CPUSource uint8

// The sources.
const (
	Quota  CPUSource = iota // the smallest quota/period on the path
	Cpuset                  // the cpuset alone
	Shares                  // cpu.shares, or cpu.weight turned into shares, over 1024 for each CPU
)

// CPUIdentity is how the visible CPUs are numbered.
type CPUIdentity uint8

// The identities.
const (
	// Count numbers them 0…n-1 and leaves possible and kernel_max the machine's: programs size arrays by these and index
	// them with sched_getcpu(3), which nobody can renumber.
	Count CPUIdentity = iota
	// IDs keeps the cpuset's own numbers everywhere.
	IDs
	// Coherent is Count with possible and kernel_max of n CPUs; safe only where the cpuset is 0…n-1.
	Coherent
)

// CPURounding turns a fraction of CPUs into a whole number, at least 1.
type CPURounding uint8

// The roundings.
const (
	Ceil  CPURounding = iota // up
	Round                    // to the nearest, halves up
	Min2                     // up, and to at least 2 where the cpuset has them
)

// Reader is whose cgroup is shown to a reader.
type Reader uint8

// The readers.
const (
	Container Reader = iota // the container's (docs/views.md, "Who is the reader")
	Caller                  // the reading process's own
	Parent                  // the parent of the container's: the pod
)

// Interrupts is what the intr, softirq and ctxt lines of /proc/stat say.
type Interrupts uint8

// The interrupt counters.
const (
	Host Interrupts = iota // the machine's
	Zero                   // 0, in the machine's shape
)

// Files are the names of what can be left to the kernel: files below /proc, and the trees "cpu" and "node" below
// /sys/devices/system.
var Files = []string{
	"meminfo", "stat", "cpuinfo", "loadavg", "uptime", "swaps", "diskstats", "vmstat", "slabinfo",
	"pressure/cpu", "pressure/memory", "pressure/io", "pressure/irq", "cpu", "node",
}

// Shows says whether a file of that name is the container's own.
func (p *Policy) Shows(name string) bool { return !slices.Contains(p.Off, name) }

// Setting is one choice by its name.
type Setting struct {
	Name    string // such as "cpu_source"
	Allowed []string
	Usage   string
	get     func(*Policy) string
	set     func(*Policy, int) // to the value at a position of Allowed
}

// Toggle says whether it is one of on and off.
func (s *Setting) Toggle() bool { return slices.Equal(s.Allowed, onOff) }

var onOff = []string{"on", "off"}

// Settings are all choices but the files, which have a syntax of their own.
var Settings = []Setting{
	choice("cpu_source", "what the number of CPUs comes from", []string{"quota", "cpuset", "shares"},
		func(p *Policy) *CPUSource { return &p.CPUSource }),
	choice("cpu_identity", "how CPUs are numbered", []string{"count", "ids", "coherent"},
		func(p *Policy) *CPUIdentity { return &p.CPUIdentity }),
	choice("cpu_rounding", "how a fraction of a CPU is rounded", []string{"ceil", "round", "min2"},
		func(p *Policy) *CPURounding { return &p.CPURounding }),
	choice("reader", "whose cgroup is shown", []string{"container", "caller", "parent"},
		func(p *Policy) *Reader { return &p.Reader }),
	toggle("swap", "show swap", func(p *Policy) *bool { return &p.NoSwap }),
	toggle("steal", "show the time that a quota held back as steal", func(p *Policy) *bool { return &p.NoSteal }),
	choice("interrupts", "what the interrupt and context switch counters of stat are", []string{"host", "zero"},
		func(p *Policy) *Interrupts { return &p.Interrupts }),
}

// FilesSetting is the name of the setting that turns files on and off, as in "-diskstats,+slabinfo".
const FilesSetting = "files"

func choice[T ~uint8](name, usage string, allowed []string, field func(*Policy) *T) Setting {
	return Setting{
		Name: name, Usage: usage, Allowed: allowed,
		get: func(p *Policy) string { return allowed[*field(p)] },
		set: func(p *Policy, i int) { *field(p) = T(i) },
	}
}

func toggle(name, usage string, off func(*Policy) *bool) Setting {
	return Setting{
		Name: name, Usage: usage, Allowed: onOff,
		get: func(p *Policy) string {
			if *off(p) {
				return "off"
			}
			return "on"
		},
		set: func(p *Policy, i int) { *off(p) = i == 1 },
	}
}

// Names are the names of all settings.
func Names() []string {
	var names []string
	for _, s := range Settings {
		names = append(names, s.Name)
	}
	return append(names, FilesSetting)
}

// Set makes one choice by its name. The value of "files" is a list of names with a sign: "-diskstats,+slabinfo". An error
// names the setting and what it allows.
func (p *Policy) Set(name, value string) error {
	if name == FilesSetting {
		return p.setFiles(value)
	}
	for _, s := range Settings {
		if s.Name != name {
			continue
		}
		i := slices.Index(s.Allowed, value)
		if i < 0 {
			return fmt.Errorf("%s is %q; it is one of %s", name, value, strings.Join(s.Allowed, ", "))
		}
		s.set(p, i)
		return nil
	}
	return fmt.Errorf("no setting %q; there are %s", name, strings.Join(Names(), ", "))
}

func (p *Policy) setFiles(value string) error {
	off := slices.Clone(p.Off) // other copies of the policy share it
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name := entry[1:]
		if sign := entry[0]; sign != '-' && sign != '+' {
			return fmt.Errorf("%s has %q; write -%s to leave it to the kernel, +%s to show it", FilesSetting, entry, entry, entry)
		}
		if !slices.Contains(Files, name) {
			return fmt.Errorf("%s has %q; the names are %s", FilesSetting, entry, strings.Join(Files, ", "))
		}
		off = slices.DeleteFunc(off, func(n string) bool { return n == name })
		if entry[0] == '-' {
			off = append(off, name)
		}
	}
	slices.Sort(off)
	p.Off = off
	return nil
}

// Overrides are the choices of a single container, by name.
type Overrides map[string]string

// With is the policy with a container's own choices. After an error it is the policy itself.
func (p Policy) With(o Overrides) (Policy, error) {
	with := p
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if err := with.Set(name, o[name]); err != nil {
			return p, err
		}
	}
	return with, nil
}

// Text is every choice by its name, as Set takes it.
func (p *Policy) Text() Overrides {
	text := Overrides{FilesSetting: ""}
	for _, s := range Settings {
		text[s.Name] = s.get(p)
	}
	if len(p.Off) > 0 {
		text[FilesSetting] = "-" + strings.Join(p.Off, ",-")
	}
	return text
}
