package view

import (
	"bytes"
	"math"
	"strconv"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// sectorSize is the unit of /proc/diskstats, whatever that of the device is.
const sectorSize = 512

// diskColumns are the counters that a cgroup has, by their columns of /proc/diskstats behind the device's name
// (Documentation/admin-guide/iostats.rst). Every other one, of merges, times and flushes, is 0.
var diskColumns = [...]struct {
	column int
	key    string // for Explain
	unit   string
	value  func(*cgroup.DeviceIO) uint64
	v2, v1 string
}{
	{0, "reads", "", func(d *cgroup.DeviceIO) uint64 { return d.Reads.Requests },
		"io.stat rios", "blkio.throttle.io_serviced Read"},
	{2, "sectors read", "sectors", func(d *cgroup.DeviceIO) uint64 { return d.Reads.Bytes / sectorSize },
		"io.stat rbytes", "blkio.throttle.io_service_bytes Read"},
	{4, "writes", "", func(d *cgroup.DeviceIO) uint64 { return d.Writes.Requests },
		"io.stat wios", "blkio.throttle.io_serviced Write"},
	{6, "sectors written", "sectors", func(d *cgroup.DeviceIO) uint64 { return d.Writes.Bytes / sectorSize },
		"io.stat wbytes", "blkio.throttle.io_service_bytes Write"},
	{11, "discards", "", func(d *cgroup.DeviceIO) uint64 { return d.Discards.Requests },
		"io.stat dios", "blkio.throttle.io_serviced Discard"},
	{13, "sectors discarded", "sectors", func(d *cgroup.DeviceIO) uint64 { return d.Discards.Bytes / sectorSize },
		"io.stat dbytes", "blkio.throttle.io_service_bytes Discard"},
}

// Diskstats renders /proc/diskstats: the machine's lines of the devices that the container did I/O on, with its counters.
// Partitions are left out, as no cgroup counts them. It needs NeedDiskstats.
func Diskstats(dst []byte, h *host.Snapshot, c *Container) []byte {
	if c == nil || c.IO == nil {
		return append(dst, h.Diskstats...)
	}
	for rest := h.Diskstats; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		d, _, columns := diskLine(line, c.IO)
		if d == nil {
			continue
		}
		dst = append(dst, line[:len(line)-len(columns)]...)
		next := 0
		for i := range countFields(columns) {
			n := uint64(0)
			if next < len(diskColumns) && diskColumns[next].column == i {
				n = diskNumber(next, d)
				next++
			}
			dst = append(dst, ' ')
			dst = strconv.AppendUint(dst, n, 10)
		}
		dst = append(dst, '\n')
	}
	return dst
}

// diskLine is the device that a line of /proc/diskstats is about, nil if the container did no I/O on it, its name, and
// the rest of the line.
func diskLine(line []byte, io *IO) (d *cgroup.DeviceIO, name, columns []byte) {
	major, rest := cutField(line)
	minor, rest := cutField(rest)
	name, columns = cutField(rest)
	a, digits1 := number(major)
	b, digits2 := number(minor)
	if digits1 == 0 || digits1 < len(major) || digits2 == 0 || digits2 < len(minor) || len(name) == 0 ||
		a > math.MaxUint32 || b > math.MaxUint32 {
		return nil, nil, nil
	}
	number := cgroup.Device{Major: uint32(a), Minor: uint32(b)}
	for i := range io.Devices {
		d := &io.Devices[i]
		if d.Device == number && (d.Reads.Requests|d.Writes.Requests|d.Discards.Requests) != 0 {
			return d, name, columns
		}
	}
	return nil, nil, nil
}

// diskNumber is what diskColumns has at a position, at most what a reader's signed type holds.
func diskNumber(i int, d *cgroup.DeviceIO) uint64 { return min(diskColumns[i].value(d), math.MaxInt64) }

func explainDiskstats(h *host.Snapshot, c *Container) (numbers []Number) {
	if c.IO == nil {
		return nil
	}
	for rest := h.Diskstats; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		d, name, columns := diskLine(line, c.IO)
		if d == nil {
			continue
		}
		shown := countFields(columns)
		for i := range diskColumns {
			column := &diskColumns[i]
			if column.column >= shown {
				break
			}
			n := Number{Key: string(bytes.Join([][]byte{name, []byte(column.key)}, []byte(" "))), Value: diskNumber(i, d),
				Unit: column.unit, Source: column.v2, Level: c.IO.Path, Rule: "the container's own counter, as submitted"}
			if c.IO.Version == cgroup.V1 {
				n.Source = column.v1
			}
			numbers = append(numbers, n)
		}
	}
	return numbers
}
