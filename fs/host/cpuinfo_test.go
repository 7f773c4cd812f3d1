package host

import (
	"bytes"
	"fmt"
	"testing"
)

func TestParseCpuinfo(t *testing.T) {
	for _, test := range []struct {
		name, text               string
		head, tail               string
		blocks, details          []int
		firstBlock, lastOfBlocks string
	}{
		{
			name: "x86", text: "processor\t: 0\nmodel\t\t: 85\n\nprocessor\t: 2\nmodel\t\t: 85\n\n",
			blocks: []int{0, 2}, firstBlock: "processor\t: 0\nmodel\t\t: 85\n\n", lastOfBlocks: "processor\t: 2\nmodel\t\t: 85\n\n",
		},
		{
			name: "no blank line at the end", text: "processor\t: 0\nmodel\t\t: 85",
			blocks: []int{0}, firstBlock: "processor\t: 0\nmodel\t\t: 85", lastOfBlocks: "processor\t: 0\nmodel\t\t: 85",
		},
		{
			name: "arm", text: "processor\t: 0\nFeatures\t: a\n\nHardware\t: BCM\nSerial\t\t: 1\n",
			tail: "Hardware\t: BCM\nSerial\t\t: 1\n", blocks: []int{0},
			firstBlock: "processor\t: 0\nFeatures\t: a\n\n", lastOfBlocks: "processor\t: 0\nFeatures\t: a\n\n",
		},
		{
			name: "old arm", text: "Processor\t: ARMv7\nprocessor\t: 0\nBogoMIPS\t: 1\n\nprocessor\t: 1\nBogoMIPS\t: 1\n\nFeatures\t: a\n",
			head: "Processor\t: ARMv7\n", tail: "Features\t: a\n", blocks: []int{0, 1},
			firstBlock: "processor\t: 0\nBogoMIPS\t: 1\n\n", lastOfBlocks: "processor\t: 1\nBogoMIPS\t: 1\n\n",
		},
		{
			name: "loongarch64", text: "system type\t\t: g\n\nprocessor\t\t: 0\ncore\t\t\t: 0\n\n",
			head: "system type\t\t: g\n\n", blocks: []int{0},
			firstBlock: "processor\t\t: 0\ncore\t\t\t: 0\n\n", lastOfBlocks: "processor\t\t: 0\ncore\t\t\t: 0\n\n",
		},
		{
			name: "s390x", text: "vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = FF\nprocessor 1: version = FF\n" +
				"\ncpu number      : 0\ncore id         : 0\n\ncpu number      : 1\ncore id         : 1\n",
			head: "vendor_id       : IBM/S390\n# processors    : 2\n", blocks: []int{0, 1}, details: []int{0, 1},
			firstBlock: "processor 0: version = FF\n", lastOfBlocks: "processor 1: version = FF\n",
		},
		{
			name: "old s390x", text: "vendor_id       : IBM/S390\nprocessor 7: version = FF\n\n",
			head: "vendor_id       : IBM/S390\n", tail: "\n", blocks: []int{7},
			firstBlock: "processor 7: version = FF\n", lastOfBlocks: "processor 7: version = FF\n",
		},
		{name: "empty"},
		{name: "no block", text: "nothing: here\n\n", tail: "nothing: here\n\n"},
		{name: "not a number", text: "processor\t: ARMv7 rev 1\n", tail: "processor\t: ARMv7 rev 1\n"},
		{name: "too large a number", text: "processor\t: 99999999999\n", tail: "processor\t: 99999999999\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			info := ParseCpuinfo([]byte(test.text))
			check := func(what string, got, want any) {
				if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
					t.Errorf("%s: got %q, want %q", what, got, want)
				}
			}
			check("head", string(info.Head), test.head)
			check("tail", string(info.Tail), test.tail)
			check("blocks", numbers(info.Blocks), test.blocks)
			check("details", numbers(info.Details), test.details)
			if n := len(info.Blocks); n > 0 {
				check("first block", string(info.Blocks[0].Text), test.firstBlock)
				check("last block", string(info.Blocks[n-1].Text), test.lastOfBlocks)
			}
			check("all parts together", string(join(info)), test.text)
		})
	}
}

func TestParseCpuinfoTopology(t *testing.T) {
	info := ParseCpuinfo([]byte("processor\t: 0\nphysical id\t: 3\ncore id\t\t: 17\nflags\t: core id: 5\n\n" +
		"processor\t: 1\npackage\t\t: 1\ncore\t\t: 2\n\nprocessor\t: 2\nphysical id\t: -1\ncore id\t\t: x\n\n"))
	for i, want := range [][2]int{{3, 17}, {1, 2}, {-1, -1}} {
		if b := info.Blocks[i]; [2]int{b.Package, b.Core} != want {
			t.Errorf("block %d: package %d, core %d, want %v", i, b.Package, b.Core, want)
		}
	}
}

func TestCountPackages(t *testing.T) {
	blocks := []CPUBlock{{Package: 0, Core: 0}, {Package: 1, Core: 0}, {Package: 0, Core: 0}, {Package: 0, Core: 5}, {Package: -1, Core: -1}}
	countPackages(blocks)
	for i, want := range [][2]int{{3, 2}, {1, 1}, {3, 2}, {3, 2}, {1, 1}} {
		if b := blocks[i]; [2]int{b.PackageCPUs, b.PackageCores} != want {
			t.Errorf("block %d: %d CPUs, %d cores, want %v", i, b.PackageCPUs, b.PackageCores, want)
		}
	}
}

func numbers(blocks []CPUBlock) (cpus []int) {
	for _, b := range blocks {
		cpus = append(cpus, b.CPU)
	}
	return cpus
}

func join(info *Cpuinfo) []byte {
	text := bytes.Clone(info.Head)
	for _, b := range append(info.Blocks[:len(info.Blocks):len(info.Blocks)], info.Details...) {
		text = append(text, b.Text...)
	}
	return append(text, info.Tail...)
}

func FuzzParseCpuinfo(f *testing.F) {
	f.Add([]byte("processor\t: 0\nmodel\t\t: 85\n\nprocessor\t: 1\n\nHardware\t: x\n"))
	f.Add([]byte("# processors    : 2\nprocessor 0: version = FF\n\ncpu number      : 0\ncore id         : 0\n"))
	f.Add([]byte("cpu number      : 0\nprocessor\t: 1\n\n\ncpu number: 2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		info := ParseCpuinfo(text)
		if !bytes.Equal(join(info), text) {
			t.Errorf("the parts are not the whole: %q", join(info))
		}
		for _, b := range append(info.Blocks, info.Details...) {
			if b.CPU < 0 || b.CPU > 999999 || len(b.Text) == 0 {
				t.Errorf("block %d %q", b.CPU, b.Text)
			}
		}
	})
}
