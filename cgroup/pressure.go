package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Pressure names a resource that tasks may wait for, and its pressure file (Documentation/accounting/psi).
type Pressure uint8

// The resources.
const (
	PressureCPU Pressure = iota
	PressureMemory
	PressureIO
	PressureIRQ // Linux 6.1 and later, where interrupt time is accounted
	Pressures   // how many there are
)

// String is the resource as file names have it.
func (p Pressure) String() string { return [Pressures]string{"cpu", "memory", "io", "irq"}[p] }

// ErrNoPressure says that no pressure of its own is counted for a cgroup: it is in the root of cgroup v2, or its counting
// is off (cgroup.pressure), or the kernel's is (psi=0).
var ErrNoPressure = errors.New("cgroup: no pressure is counted for the cgroup")

// PressureText is what a pressure file says.
type PressureText struct {
	Path string // of the cgroup
	Text []byte // as the kernel prints it: averages in percent, totals in µs
}

// ReadPressure fills dst from <resource>.pressure of the Group, reusing its text. It fails with [ErrNoPressure] where
// there is none.
func (g *Group) ReadPressure(r Pressure, dst *PressureText) error {
	s := getScratch()
	defer s.put()
	d, text, err := g.readPressure(r, s)
	if err != nil {
		return err
	}
	dst.Path, dst.Text = d.cgroup(), append(dst.Text[:0], text...)
	return nil
}

// readPressure finds the directory whose file can be read: v2's, else that of v1's cpuacct. The text is good until s is used
// again.
func (g *Group) readPressure(r Pressure, s *scratch) (*dir, []byte, error) {
	if err := g.check(); err != nil {
		return nil, nil, err
	}
	for _, h := range [...]hierarchy{unified, cpuacct} {
		d := g.own[h]
		if d == nil {
			continue
		}
		text, err := d.read(pressure+kind(r), s)
		if err == errMissing {
			continue
		}
		return d, text, err
	}
	return nil, nil, fmt.Errorf("%w: %s of %s", ErrNoPressure, r, g.paths)
}

// PressureFile is the path of the file that ReadPressure reads, below the mount point of its hierarchy; "" where there
// is none.
func (g *Group) PressureFile(r Pressure) string {
	s := getScratch()
	defer s.put()
	d, _, err := g.readPressure(r, s)
	if err != nil {
		return ""
	}
	return d.path + "/" + d.name(pressure+kind(r))
}

// OpenPressure opens the file that ReadPressure reads for a trigger, to be written and polled. The descriptor is the
// caller's, and the trigger lives as long as it does. What the kernel allows it depends on the capabilities of the
// calling thread.
func (g *Group) OpenPressure(r Pressure) (fd int, err error) {
	s := getScratch()
	defer s.put()
	d, _, err := g.readPressure(r, s)
	if err != nil {
		return -1, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := pressure + kind(r)
	fd, err = d.open(k, unix.O_RDWR|unix.O_NONBLOCK)
	if isAbsent(err) {
		err = ErrNoPressure // switched off since
	}
	if err != nil {
		return -1, d.wrap("open", k, err)
	}
	return fd, nil
}
