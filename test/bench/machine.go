package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what was measured on.
type Machine struct {
	Kernel  string
	Arch    string
	CPU     string // its model
	CPUs    int    // that the benchmark may use
	Memory  int64  // bytes
	Virtual bool   // the CPU is a hypervisor's
	Cgroups string // v1, v2 or hybrid
	Scopefs string // its version
	LXCFS   string // its version, "" without
	Go      string
}

// look fills it in.
func (m *Machine) look(b *bench) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return err
	}
	*m = Machine{
		Kernel:  unix.ByteSliceToString(u.Release[:]),
		Arch:    runtime.GOARCH,
		CPUs:    allCPUs.Count(),
		Memory:  int64(si.Totalram) * int64(si.Unit),
		Cgroups: cgroupLayout(),
		Go:      runtime.Version(),
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "model name":
			m.CPU = value
		case "flags":
			m.Virtual = strings.Contains(" "+value+" ", " hypervisor ")
		}
	}
	out, err := exec.Command(b.options.scopefs, "--version").Output()
	if err != nil {
		return err
	}
	m.Scopefs = strings.TrimPrefix(strings.TrimSpace(string(out)), "scopefs version ")
	// It says it in quotes on standard error.
	if out, err := exec.Command("lxcfs", "--version").CombinedOutput(); err == nil {
		m.LXCFS = strings.Trim(strings.TrimSpace(string(out)), `"`)
	}
	return nil
}
