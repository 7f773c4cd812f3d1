package cgroup

import (
	"bytes"
	"fmt"
)

// IO is what the block I/O controller says about one container.
type IO struct {
	// Version is V0 where no controller counts the container's I/O.
	Version Version
	Path    string // of the cgroup that Devices are from
	Devices []DeviceIO
}

// DeviceIO is the I/O that a cgroup and those below it did on one whole block device, as it was submitted: before requests
// were merged, and also where it has not ended yet. The kernel does not count by partition.
type DeviceIO struct {
	Device   Device
	Reads    IOCount // rios, rbytes of io.stat | Read of blkio.throttle.io_serviced, io_service_bytes
	Writes   IOCount // wios, wbytes | Write
	Discards IOCount // dios, dbytes | Discard
}

// Device is the number of a block device.
type Device struct{ Major, Minor uint32 }

// IOCount is a number of requests and the bytes in them.
type IOCount struct{ Requests, Bytes uint64 }

// ReadIO fills io, whose slice is reused, with the I/O of the Group's own cgroup or, where the controller is off there, of
// the nearest ancestor that has it. On v1 a counter falls when a cgroup below is removed, Linux 6.1 counts only
// what a cgroup did that has a limit, 6.10 and newer only on devices that have one in any cgroup.
func (g *Group) ReadIO(io *IO) error {
	*io = IO{Devices: io.Devices[:0]}
	if err := g.check(); err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	for d := g.own[blkio]; d != nil; d = d.parent {
		ok, err := d.readIO(s, io)
		if err != nil {
			return err
		}
		if ok {
			io.Version, io.Path = d.version, d.cgroup()
			break
		}
		io.Devices = io.Devices[:0] // of the one file that v1 had
	}
	return nil
}

// readIO reads one level; ok is false where the controller is off. Old kernels of v1 only count without what is below the
// cgroup.
func (d *dir) readIO(s *scratch, io *IO) (ok bool, err error) {
	if d.version == V2 {
		return d.readFirst(s, io, (*IO).parseStat, ioStat)
	}
	if ok, err = d.readFirst(s, io, (*IO).parseRequests, ioRequests, ioRequestsOwn); !ok {
		return false, err
	}
	return d.readFirst(s, io, (*IO).parseBytes, ioBytes, ioBytesOwn)
}

// readFirst parses the first of the files that there is.
func (d *dir) readFirst(s *scratch, io *IO, parse func(*IO, []byte) error, files ...kind) (ok bool, err error) {
	for _, k := range files {
		text, err := d.read(k, s)
		if err == errMissing {
			continue
		}
		if err == nil {
			if err = parse(io, text); err != nil {
				err = d.wrap("parse", k, err)
			}
		}
		return err == nil, err
	}
	return false, nil
}

// parseStat reads io.stat of v2: "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0", and more fields of some
// policies. A device without a number is one that is not shown anywhere. Linux 5.14 to 5.16 lack the newline behind a
// device without counters, so that the next one is on the same line.
func (io *IO) parseStat(text []byte) error {
	for line := range bytes.Lines(text) {
		var d *DeviceIO
		for field := range bytes.FieldsSeq(line) {
			key, value, isCount := bytes.Cut(field, []byte{'='})
			if !isCount {
				d = nil
				if number, ok := parseDevice(field); ok {
					d = io.device(number)
				}
				continue
			}
			if d == nil {
				continue
			}
			var dst *uint64
			switch string(key) {
			case "rbytes":
				dst = &d.Reads.Bytes
			case "wbytes":
				dst = &d.Writes.Bytes
			case "dbytes":
				dst = &d.Discards.Bytes
			case "rios":
				dst = &d.Reads.Requests
			case "wios":
				dst = &d.Writes.Requests
			case "dios":
				dst = &d.Discards.Requests
			default:
				continue
			}
			if err := setField(dst, key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (io *IO) parseRequests(text []byte) error {
	return io.parseV1(text, func(c *IOCount) *uint64 { return &c.Requests })
}

func (io *IO) parseBytes(text []byte) error {
	return io.parseV1(text, func(c *IOCount) *uint64 { return &c.Bytes })
}

// parseV1 reads a file of v1: "8:0 Read 4096", the same for other operations, and "Total 4096" at the end.
func (io *IO) parseV1(text []byte, field func(*IOCount) *uint64) error {
	for len(text) > 0 {
		var name, rest []byte
		name, rest, text = nextField(text)
		number, ok := parseDevice(name)
		if !ok {
			continue
		}
		operation, value, _ := bytes.Cut(rest, []byte{' '})
		d := io.device(number)
		var count *IOCount
		switch string(operation) {
		case "Read":
			count = &d.Reads
		case "Write":
			count = &d.Writes
		case "Discard":
			count = &d.Discards
		default:
			continue // Sync, Async and Total count the same again
		}
		if err := setField(field(count), operation, value); err != nil {
			return err
		}
	}
	return nil
}

// device finds a device, or adds it. Lines of one device follow one another.
func (io *IO) device(number Device) *DeviceIO {
	for i := len(io.Devices) - 1; i >= 0; i-- {
		if io.Devices[i].Device == number {
			return &io.Devices[i]
		}
	}
	io.Devices = append(io.Devices, DeviceIO{Device: number})
	return &io.Devices[len(io.Devices)-1]
}

// parseDevice reads "8:0". Linux has 12 bits for the major number and 20 for the minor one.
func parseDevice(text []byte) (d Device, ok bool) {
	first, second, _ := bytes.Cut(text, []byte{':'})
	major, ok1 := parseUint(first)
	minor, ok2 := parseUint(second)
	if !ok1 || !ok2 || major >= 1<<12 || minor >= 1<<20 {
		return Device{}, false
	}
	return Device{uint32(major), uint32(minor)}, true
}

// String is the number as the kernel writes it.
func (d Device) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }
