package view

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/policy"
)

func TestSysfsRewriters(t *testing.T) {
	count := &Container{CPUs: []int{1, 3, 40}}
	ids := &Container{CPUs: []int{1, 3, 40}, Policy: policy.Policy{CPUIdentity: policy.IDs}}
	coherent := &Container{CPUs: []int{1, 3, 40}, Policy: policy.Policy{CPUIdentity: policy.Coherent}}
	for _, test := range []struct {
		name      string
		rewrite   Rewriter
		c         *Container
		in, wants string
	}{
		{"list", CPUList, count, "0-3,40-47\n", "0-2\n"},
		{"list", CPUList, ids, "0-3,40-47\n", "1,3,40\n"},
		{"list", CPUList, count, "3\n", "1\n"},
		{"list", CPUList, count, "0,2\n", "\n"},
		{"list", CPUList, count, "\n", "\n"},
		{"list", CPUList, count, "40", "2"},
		{"list", CPUList, count, "what\n", "what\n"},
		{"list", CPUList, nil, "0-3\n", "0-3\n"},
		{"list", CPUList, &Container{}, "0-3\n", "0-3\n"},
		{"mask", CPUMask, count, "ff,0000000f\n", "00,00000003\n" /* 1, 3 */},
		{"mask", CPUMask, count, "1ff,00000002\n", "000,00000005\n" /* 1, 40 */},
		{"mask", CPUMask, ids, "1ff,0000000f\n", "100,0000000a\n"},
		{"mask", CPUMask, count, "a\n", "3\n"},
		{"mask", CPUMask, count, "5\n", "0\n"},
		{"mask", CPUMask, count, "2", "1"},
		{"mask", CPUMask, count, "\n", "\n"},
		{"mask", CPUMask, count, "0x3\n", "0x3\n"},
		{"mask", CPUMask, count, ",00000003\n", ",00000003\n"},
		{"mask", CPUMask, count, "1,00003\n", "1,00003\n"},
		{"mask", CPUMask, nil, "f\n", "f\n"},
		{"numbers", CPUNumbers, count, "0 1 2 3\n", "0 1\n"},
		{"numbers", CPUNumbers, ids, "0 1 2 3\n", "1 3\n"},
		{"numbers", CPUNumbers, count, "0 2 \n", "\n"},
		{"numbers", CPUNumbers, count, "\n", "\n"},
		{"numbers", CPUNumbers, count, "1 <unknown>\n", "1 <unknown>\n"},
		{"numbers", CPUNumbers, nil, "0 1\n", "0 1\n"},
		{"kernel_max", KernelMax, count, "255\n", "255\n"},
		{"kernel_max", KernelMax, ids, "255\n", "255\n"},
		{"kernel_max", KernelMax, coherent, "255\n", "2\n"},
		{"kernel_max", KernelMax, nil, "255\n", "255\n"},
		{"none", NoCPUs, count, "1,3\n", "\n"},
		{"none", NoCPUs, count, " (null)\n", " (null)\n"},
		{"none", NoCPUs, count, "\n", "\n"},
		{"none", NoCPUs, nil, "1,3\n", "1,3\n"},
	} {
		if got := string(test.rewrite([]byte("before "), []byte(test.in), -1, nil, test.c)); got != "before "+test.wants {
			t.Errorf("%s of %q: %q, want %q", test.name, test.in, got, test.wants)
		}
	}
}

func TestCPUNumbersBothWays(t *testing.T) {
	for identity := range policy.Coherent + 1 {
		c := &Container{CPUs: []int{1, 3, 40}, Policy: policy.Policy{CPUIdentity: identity}}
		for cpu := range 64 {
			number, ok := c.CPUNumber(cpu)
			if ok != slices.Contains(c.CPUs, cpu) {
				t.Errorf("identity %d: CPU %d is visible: %v", identity, cpu, ok)
			}
			if back, ok2 := c.PhysicalCPU(number); ok && (!ok2 || back != cpu) {
				t.Errorf("identity %d: CPU %d is called %d, which is CPU %d", identity, cpu, number, back)
			}
		}
		for number := -1; number < 64; number++ {
			if cpu, ok := c.PhysicalCPU(number); ok {
				if called, _ := c.CPUNumber(cpu); called != number {
					t.Errorf("identity %d: %d is CPU %d, which is called %d", identity, number, cpu, called)
				}
			}
		}
	}
}

// A list, a mask and numbers of the same CPUs are rewritten to the same CPUs.
func FuzzSysfsTwins(f *testing.F) {
	f.Add(uint64(0xff), uint64(0xaa), uint8(0))
	f.Add(uint64(1<<63|1), uint64(1<<63|1<<33), uint8(1))
	f.Add(^uint64(0), ^uint64(0), uint8(2))
	f.Fuzz(func(t *testing.T, machine, visible uint64, identity uint8) {
		c := &Container{CPUs: bitsIn(visible), Policy: policy.Policy{CPUIdentity: policy.CPUIdentity(identity % 3)}}
		cpus := bitsIn(machine)
		numbers := strings.Trim(fmt.Sprint(cpus), "[]")
		var want []int
		for _, cpu := range cpus {
			if number, ok := c.CPUNumber(cpu); ok {
				want = append(want, number)
			}
		}
		list, err := cgroup.ParseCPUList(nil, CPUList(nil, append(cgroup.AppendCPUList(nil, cpus), '\n'), -1, nil, c))
		if err != nil || !slices.Equal(list, want) {
			t.Errorf("list %v, %v, want %v", list, err, want)
		}
		in := fmt.Sprintf("%08x,%08x\n", machine>>32, uint32(machine))
		text := string(CPUMask(nil, []byte(in), -1, nil, c))
		high, errHigh := strconv.ParseUint(text[:8], 16, 32)
		low, errLow := strconv.ParseUint(text[9:17], 16, 32)
		if errHigh != nil || errLow != nil || len(text) != len(in) || !slices.Equal(bitsIn(high<<32|low), want) {
			t.Errorf("mask %q, want %v", text, want)
		}
		if got, want := string(CPUNumbers(nil, []byte(numbers+"\n"), -1, nil, c)), strings.Trim(fmt.Sprint(want), "[]")+"\n"; got != want {
			t.Errorf("numbers %q, want %q", got, want)
		}
		if first, ok := c.FirstCPU([]byte(numbers + "\n")); ok != (len(want) > 0) || ok && first != want[0] {
			t.Errorf("the first is %d, %v, want %v", first, ok, want)
		}
	})
}

// maskOf is the mask of CPUs as a kernel prints it that can have n: groups of 32, the first as short as it can be.
func maskOf(cpus []int, n int) string {
	groups := make([]uint32, (n+31)/32)
	for _, cpu := range cpus {
		groups[cpu/32] |= 1 << (cpu % 32)
	}
	last := len(groups) - 1
	text := fmt.Sprintf("%0*x", (n-32*last+3)/4, groups[last])
	for i := last - 1; i >= 0; i-- {
		text += fmt.Sprintf(",%08x", groups[i])
	}
	return text + "\n"
}

// What holds for the 64 CPUs of FuzzSysfsTwins holds on machines of any size, below and above a group and a digit of a mask.
func TestSysfsTwinsOfLargeMachines(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, n := range []int{1, 2, 31, 32, 33, 36, 63, 64, 65, 96, 97, 128, 250, 1024, 1025, 8192} {
		for range 50 {
			var cpus, want []int
			c := &Container{Policy: policy.Policy{CPUIdentity: policy.CPUIdentity(r.IntN(3))}}
			often := 1 + r.IntN(8)
			for cpu := range n {
				if r.IntN(often) == 0 {
					cpus = append(cpus, cpu)
				}
				if r.IntN(often) == 0 || cpu == n-1 && len(c.CPUs) == 0 {
					c.CPUs = append(c.CPUs, cpu)
				}
			}
			for _, cpu := range cpus {
				if i := slices.Index(c.CPUs, cpu); i >= 0 {
					want = append(want, c.Number(i))
				}
			}
			list := append(cgroup.AppendCPUList(nil, cpus), '\n')
			if got := CPUList(nil, list, -1, nil, c); string(got) != string(cgroup.AppendCPUList(nil, want))+"\n" {
				t.Fatalf("%d CPUs, %v visible: list %s is %s, want %v", n, c.CPUs, list, got, want)
			}
			if got := CPUMask(nil, []byte(maskOf(cpus, n)), -1, nil, c); string(got) != maskOf(want, n) {
				t.Fatalf("%d CPUs, %v visible: mask %s is %s, want %s", n, c.CPUs, maskOf(cpus, n), got, maskOf(want, n))
			}
		}
	}
}

func bitsIn(mask uint64) (cpus []int) {
	for i := range 64 {
		if mask>>i&1 == 1 {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

// Whatever the kernel prints, what stands in dst stays and nothing is longer than it can be.
func FuzzSysfsRewriters(f *testing.F) {
	for _, text := range []string{"", "\n", "0-3,8\n", "ff,00000003\n", "0 1 2\n", "255\n", " (null)\n", "99999999999999999999\n", ",,\n", "8191\n"} {
		f.Add([]byte(text))
	}
	c := &Container{CPUs: []int{0, 2, 3, 9, 8191}}
	f.Fuzz(func(t *testing.T, text []byte) {
		for i, rewrite := range []Rewriter{CPUList, CPUMask, CPUNumbers, KernelMax, NoCPUs} {
			in := bytes.Clone(text)
			got := rewrite([]byte("before"), in, 3, nil, c)
			if !bytes.HasPrefix(got, []byte("before")) || !bytes.Equal(in, text) {
				t.Errorf("rewriter %d of %q: %q", i, text, got)
			}
			if bytes.HasSuffix(text, []byte("\n")) != bytes.HasSuffix(got, []byte("\n")) && i != 4 {
				t.Errorf("rewriter %d of %q ends %q", i, text, got)
			}
		}
	})
}
