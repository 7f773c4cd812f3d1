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

// pressureFile is one place where a pressure file may be.
type pressureFile struct {
	path string // of the cgroup
	file *file
}

// newPressureFiles lists where a Group's pressure may be found, the best first. cgroup v2 counts it in every hierarchy
// layout, without any controller; kernels with psi_v1=1 (Alibaba Cloud Linux) do so in v1's cpuacct.
func newPressureFiles(own ...level) (list [Pressures][]pressureFile) {
	for r := range Pressures {
		for _, l := range own {
			list[r] = append(list[r], pressureFile{l.path, l.dir.file(r.String() + ".pressure")})
		}
	}
	return list
}

// ReadPressure fills dst from <resource>.pressure of the Group, reusing its text. It fails with [ErrNoPressure] where
// there is none.
func (g *Group) ReadPressure(r Pressure, dst *PressureText) error {
	s := getScratch()
	defer s.put()
	f, text, err := g.readPressure(r, s)
	if err != nil {
		return err
	}
	dst.Path, dst.Text = f.path, append(dst.Text[:0], text...)
	return nil
}

// readPressure finds the file that can be read. The text is good until s is used again.
func (g *Group) readPressure(r Pressure, s *scratch) (*pressureFile, []byte, error) {
	if err := g.check(); err != nil {
		return nil, nil, err
	}
	for i := range g.pressure[r] {
		f := &g.pressure[r][i]
		text, err := f.file.read(s)
		if err == errMissing {
			continue
		}
		return f, text, err
	}
	return nil, nil, fmt.Errorf("%w: %s of %s", ErrNoPressure, r, g.paths)
}

// PressureFile is the path of the file that ReadPressure reads, below the mount point of its hierarchy; "" where there
// is none.
func (g *Group) PressureFile(r Pressure) string {
	s := getScratch()
	defer s.put()
	f, _, err := g.readPressure(r, s)
	if err != nil {
		return ""
	}
	return f.file.dir.path + "/" + f.file.name
}

// OpenPressure opens the file that ReadPressure reads for a trigger, to be written and polled. The descriptor is the
// caller's, and the trigger lives as long as it does. What the kernel allows it depends on the capabilities of the
// calling thread.
func (g *Group) OpenPressure(r Pressure) (fd int, err error) {
	s := getScratch()
	defer s.put()
	f, _, err := g.readPressure(r, s)
	if err != nil {
		return -1, err
	}
	d := f.file.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	fd, err = d.open(f.file.name, unix.O_RDWR|unix.O_NONBLOCK)
	if isAbsent(err) {
		err = ErrNoPressure // switched off since
	}
	if err != nil {
		return -1, f.file.wrap("open", err)
	}
	return fd, nil
}
