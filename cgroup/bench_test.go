package cgroup

import "testing"

// benchmark reads a limited cgroup below a limited one on the running kernel.
func benchmark(b *testing.B, f func(*Group) error) {
	k := newKernelTree(b, "memory", "cpu", "cpuacct")
	k.make(b, "")
	k.make(b, "/app")
	k.set(b, "memory", "", "memory.limit_in_bytes", "256M")
	k.set(b, "memory", "/app", "memory.limit_in_bytes", "128M")
	k.set(b, "cpu", "", "cpu.cfs_quota_us", "150000")
	g := open(b, NewFS(k.h), k.paths("/app"))
	b.ReportAllocs()
	for b.Loop() {
		if err := f(g); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadMemory(b *testing.B) {
	var m Memory
	benchmark(b, func(g *Group) error { return g.ReadMemory(&m) })
}

func BenchmarkReadCPU(b *testing.B) {
	var c CPU
	benchmark(b, func(g *Group) error { return g.ReadCPU(&c) })
}

func BenchmarkReadUsage(b *testing.B) {
	benchmark(b, func(g *Group) error { _, err := g.ReadUsage(); return err })
}
