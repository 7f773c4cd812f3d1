package view

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
)

// A machine with a disk of two partitions, one on LVM, RAM disks and a loop device.
const smallDiskstats = `   7       0 loop0 310 0 270376 35 390 0 399360 77 0 60 113 4 0 8192 0 0 0
   8       0 sda 1200852 223290 32607786 955593 245913 616154 58815344 362373 0 111016 1348921 279790 33 48719408 29583 19963 1371
   8       1 sda1 1100852 223290 31607786 955593 245913 616154 58815344 362373 0 111016 1348921 279790 33 48719408 29583 0 0
   8       2 sda2 100000 0 1000000 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 dm-0 5 0 40 1 5 0 40 1 0 2 2 0 0 0 0 0 0
 259       7 nvme0n1 5 0 40 1 5 0 40 1 0 2 2 0 0 0 0 0 0
`

func disk(major, minor uint32, counts ...uint64) cgroup.DeviceIO {
	d := cgroup.DeviceIO{Device: cgroup.Device{Major: major, Minor: minor}}
	for i, field := range []*uint64{&d.Reads.Requests, &d.Reads.Bytes, &d.Writes.Requests, &d.Writes.Bytes, &d.Discards.Requests, &d.Discards.Bytes} {
		if i < len(counts) {
			*field = counts[i]
		}
	}
	return d
}

func ioOf(devices ...cgroup.DeviceIO) *IO {
	io := &IO{IO: cgroup.IO{Version: cgroup.V2, Path: "/c", Devices: devices}}
	for _, d := range devices {
		io.Read, io.Written = io.Read+d.Reads.Bytes, io.Written+d.Writes.Bytes
	}
	return io
}

func TestDiskstats(t *testing.T) {
	for _, test := range []struct {
		name, machine string
		io            *IO
		want          string
	}{
		{"no controller", smallDiskstats, nil, smallDiskstats},
		{"no I/O", smallDiskstats, ioOf(), ""},
		{"the machine's order, whatever the cgroup's, and no partitions", smallDiskstats,
			ioOf(disk(254, 0, 1, 4096), disk(8, 0, 2, 8192, 128, 67108864, 3, 1048576), disk(7, 0)),
			"   8       0 sda 2 0 16 0 128 0 131072 0 0 0 0 3 0 2048 0 0 0\n" +
				" 254       0 dm-0 1 0 8 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"},
		{"a device that the machine does not have any more", smallDiskstats, ioOf(disk(8, 16, 5, 5120)), ""},
		{"a request without data", smallDiskstats, ioOf(disk(7, 0, 0, 0, 1, 0)), "   7       0 loop0 0 0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0\n"},
		{"before Linux 5.5", " 259       7 nvme0n1 5 0 40 1 5 0 40 1 0 2 2 9 8 7 6\n", ioOf(disk(259, 7, 1, 512, 0, 0, 1, 512)),
			" 259       7 nvme0n1 1 0 1 0 0 0 0 0 0 0 0 1 0 1 0\n"},
		{"before Linux 4.18", " 259       7 nvme0n1 5 0 40 1 5 0 40 1 0 2 2\n", ioOf(disk(259, 7, 1, 512, 0, 0, 1, 512)),
			" 259       7 nvme0n1 1 0 1 0 0 0 0 0 0 0 0\n"},
		{"columns of a newer kernel", " 8 0 sda 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 77 78\n", ioOf(disk(8, 0, 1, 1024)),
			" 8 0 sda 1 0 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"},
		{"no disk line", "8 sda 1 2\nx 0 sda 1\n8 0\n\n8 0 sda", ioOf(disk(8, 0, 1, 1024)), "8 0 sda\n"},
		{"the largest numbers", smallDiskstats, ioOf(disk(7, 0, math.MaxUint64, math.MaxUint64)),
			"   7       0 loop0 9223372036854775807 0 36028797018963967 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"},
	} {
		h := &host.Snapshot{Diskstats: []byte(test.machine)}
		if got := string(Diskstats(nil, h, &Container{IO: test.io})); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}
	}
}

// randomIO is any state of a block I/O controller, on devices of smallDiskstats and others.
func randomIO(r *rand.Rand) *IO {
	if r.IntN(6) == 0 {
		return nil
	}
	io := ioOf()
	io.Version = cgroup.Version(1 + r.IntN(2))
	for _, n := range [][2]uint32{{7, 0}, {8, 0}, {8, 1}, {8, 16}, {254, 0}, {259, 7}} {
		if r.IntN(3) == 0 {
			continue
		}
		count := func() uint64 {
			if r.IntN(3) == 0 {
				return 0
			}
			return r.Uint64() >> r.IntN(60)
		}
		io.Devices = append(io.Devices, disk(n[0], n[1], count(), count(), count(), count(), count(), count()))
	}
	io.Read, io.Written = r.Uint64(), r.Uint64()>>20
	return io
}

// Every line has the machine's device and number of columns, Explain says the same numbers, and a counter that grows shows
// no smaller number.
func TestDiskstatsProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	h := &host.Snapshot{Diskstats: []byte(smallDiskstats)}
	for range 3000 {
		c := &Container{IO: randomIO(r)}
		if c.IO == nil {
			continue
		}
		before := diskNumbers(t, Diskstats(nil, h, c))
		for _, n := range Explain("proc/diskstats", h, c) {
			name, key, _ := strings.Cut(n.Key, " ")
			column := map[string]int{"reads": 0, "sectors read": 2, "writes": 4, "sectors written": 6, "discards": 11, "sectors discarded": 13}[key]
			if got := before[name]; len(got) != 17 || got[column] != n.Value {
				t.Fatalf("%s is explained as %d, shown are %v", n.Key, n.Value, got)
			}
		}
		for i := range c.IO.Devices {
			d := &c.IO.Devices[i]
			for _, n := range []*uint64{&d.Reads.Requests, &d.Reads.Bytes, &d.Writes.Requests, &d.Writes.Bytes, &d.Discards.Requests, &d.Discards.Bytes} {
				*n = add(*n, r.Uint64()>>r.IntN(64))
			}
		}
		after := diskNumbers(t, Diskstats(nil, h, c))
		for name, numbers := range before {
			for i, n := range numbers {
				if after[name] == nil || after[name][i] < n {
					t.Fatalf("%s: column %d fell from %d: %v", name, i, n, after[name])
				}
			}
		}
	}
}

// diskNumbers are the counters by device; every line must be a device of the machine's, in its columns.
func diskNumbers(t *testing.T, text []byte) map[string][]uint64 {
	t.Helper()
	numbers := map[string][]uint64{}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) != 20 || !strings.HasSuffix(string(line), "\n") {
			t.Fatalf("line %q", line)
		}
		head := fmt.Sprintf("%4s %7s %s ", fields[0], fields[1], fields[2])
		if !bytes.HasPrefix(line, []byte(head)) || !strings.Contains(smallDiskstats, head) {
			t.Fatalf("line %q is of no device of the machine, or not in its columns", line)
		}
		for _, field := range fields[3:] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil || n < 0 {
				t.Fatalf("line %q: %v", line, err)
			}
			numbers[fields[2]] = append(numbers[fields[2]], uint64(n))
		}
	}
	return numbers
}
