package container

import (
	"iter"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/view"
)

// counts makes counters of the kernel only grow. Some fall: those of v1 sum up the cgroups below as they are now, and lose
// what one had counted that is removed; and where a controller is turned on or off, another cgroup's begin to stand for the
// container. The number shown stays where it was then, and grows on from there. It is part of a ledger, so fixed-size
// numbers only.
type counts struct {
	// Of which cgroup the last ones were, see levelID; 0: there were none.
	IOLevel, EventLevel uint64
	Devices             [64]deviceCounts // from the first on; those of a machine with more devices are shown as they are
	Events              [128]count       // by cgroup.Event
}

// A cgroup.Event is a position in counts.Events.
var _ [len(counts{}.Events) - cgroup.EventCount]struct{}

// deviceCounts are the counters of one device. They are kept when it goes away.
type deviceCounts struct {
	Device uint64 // see deviceID; 0: the place is free
	Counts [6]count
}

// count is one counter: what the kernel said last, and what has to be added to it, modulo 2^64.
type count struct{ Last, Add uint64 }

// grow is what to show for what the kernel counts now. moved says that it is of another cgroup than the last.
func (c *count) grow(now uint64, moved bool) uint64 {
	if now < c.Last || moved {
		c.Add += c.Last - now
	}
	c.Last = now
	return now + c.Add
}

func (c *count) shown() uint64 { return c.Last + c.Add }

// move remembers a level, and says whether it is another one than before.
func move(level *uint64, path string) (moved bool) {
	id := levelID(path)
	moved = *level != 0 && *level != id
	*level = id
	return moved
}

// io makes the counters of a reading the ones to show.
func (c *counts) io(r *view.IO) {
	moved := move(&c.IOLevel, r.Path)
	if moved { // devices that the other cgroup did nothing on yet are not in the reading
		for kept := range c.devices() {
			for j := range kept.Counts {
				kept.Counts[j].grow(0, true)
			}
		}
	}
	r.Read, r.Written = 0, 0
	for i := range r.Devices {
		d := &r.Devices[i]
		kept := c.device(d.Device)
		if kept == nil {
			r.Read, r.Written = r.Read+d.Reads.Bytes, r.Written+d.Writes.Bytes
			continue
		}
		for i, n := range fields(d) {
			*n = kept.Counts[i].grow(*n, moved)
		}
	}
	for kept := range c.devices() {
		r.Read += kept.Counts[readBytes].shown()
		r.Written += kept.Counts[writeBytes].shown()
	}
}

// devices yields the places that are taken. What lies behind them is not touched, so that its page need not exist.
func (c *counts) devices() iter.Seq[*deviceCounts] {
	return func(yield func(*deviceCounts) bool) {
		for i := range c.Devices {
			if kept := &c.Devices[i]; kept.Device == 0 || !yield(kept) {
				return
			}
		}
	}
}

// fields are a device's counters in the order of deviceCounts.
func fields(d *cgroup.DeviceIO) [6]*uint64 {
	return [...]*uint64{
		&d.Reads.Requests, readBytes: &d.Reads.Bytes, &d.Writes.Requests, writeBytes: &d.Writes.Bytes,
		&d.Discards.Requests, &d.Discards.Bytes,
	}
}

const (
	readBytes  = 1
	writeBytes = 3
)

// device is the place of a device, nil if there is none left.
func (c *counts) device(d cgroup.Device) *deviceCounts {
	id := 1<<63 | uint64(d.Major)<<32 | uint64(d.Minor)
	for i := range c.Devices {
		switch kept := &c.Devices[i]; kept.Device {
		case 0:
			kept.Device = id
			return kept
		case id:
			return kept
		}
	}
	return nil
}

// events makes the counters of a reading the ones to show.
func (c *counts) events(e *cgroup.MemoryEvents) {
	moved := move(&c.EventLevel, e.Path)
	for i := range e.Count {
		if e.Known[i] {
			e.Count[i] = c.Events[i].grow(e.Count[i], moved)
		}
	}
}
