package cgroup

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchmark reads a limited cgroup on the running kernel, so deep below the root, all levels above limited too.
func benchmark(b *testing.B, f func(*Group) error) {
	for _, depth := range []int{1, 2, 10} {
		for _, age := range []time.Duration{0, 5 * time.Millisecond} {
			if depth == 1 && age != 0 {
				continue
			}
			b.Run(fmt.Sprintf("depth=%d/age=%v", depth, age), func(b *testing.B) {
				k := newKernelTree(b, "memory", "cpu", "cpuacct", "cpuset")
				below := ""
				k.make(b, "")
				for i := range depth {
					if i > 0 {
						below += "/app"
						k.make(b, below)
					}
					k.set(b, "memory", below, "memory.limit_in_bytes", fmt.Sprintf("%dM", 1024-i))
					k.set(b, "cpu", below, "cpu.cfs_quota_us", fmt.Sprint(150000-i))
					k.set(b, "cpuset", below, "cpuset.cpus", "0")
				}
				fs := NewFS(k.h)
				fs.SetMaxAge(age)
				g := open(b, fs, k.paths(below))
				b.ReportAllocs()
				for b.Loop() {
					if err := f(g); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkReadMemory(b *testing.B) {
	var m Memory
	benchmark(b, func(g *Group) error { return g.ReadMemory(&m) })
}

func BenchmarkReadMemoryAndEvents(b *testing.B) {
	var m Memory
	var e MemoryEvents
	benchmark(b, func(g *Group) error { return g.ReadMemoryAndEvents(&m, &e) })
}

func BenchmarkReadCPU(b *testing.B) {
	var c CPU
	benchmark(b, func(g *Group) error { return g.ReadCPU(&c) })
}

func BenchmarkReadUsage(b *testing.B) {
	benchmark(b, func(g *Group) error { _, err := g.ReadUsage(); return err })
}

// BenchmarkPread compares ways of reading a short kernel file again and again.
func BenchmarkPread(b *testing.B) {
	const path = "/proc/sys/kernel/threads-max"
	buf := make([]byte, 4096)
	b.Run("bare", func(b *testing.B) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		fd := int(f.Fd())
		for b.Loop() {
			if _, err := unix.Pread(fd, buf, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os.File", func(b *testing.B) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		conn, err := f.SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		read := func(fd uintptr) { _, err = unix.Pread(int(fd), buf, 0) }
		for b.Loop() {
			if conn.Control(read) != nil || err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("counted", func(b *testing.B) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		f, d := new(file), &dir{fs: &FS{}}
		f.install(fd)
		s := &scratch{buf: buf}
		for b.Loop() {
			if _, err := s.read(d.acquire(f)); err != nil {
				b.Fatal(err)
			}
			d.release(f)
		}
		f.state.Or(closing)
		d.release(f)
	})
}

// BenchmarkParseMemoryStat parses memory.stat as the kernels of the fixtures print it.
func BenchmarkParseMemoryStat(b *testing.B) {
	for _, name := range []string{"v1-6.1", "v2-6.1"} {
		root := fixture(b, name)
		d := open(b, newFS(b, root), container(b, root)).own[memory]
		for d.parent != nil && !strings.HasSuffix(d.path, "/app") {
			d = d.parent
		}
		text, err := os.ReadFile(d.path + "/memory.stat")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			var st memoryStatText
			for b.Loop() {
				if err := st.parse(text, d.version); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/events", func(b *testing.B) {
			e := MemoryEvents{Version: d.version}
			for b.Loop() {
				if err := e.parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGroups opens 500 containers of a slice and a pod each on the running kernel, and reads each once: the time of
// one, what it keeps in memory and how many descriptors.
func BenchmarkGroups(b *testing.B) {
	const containers = 500
	k := newKernelTree(b, "memory", "cpu", "cpuacct", "cpuset")
	k.make(b, "")
	for i := range containers {
		k.make(b, fmt.Sprintf("/pod%d", i))
		k.make(b, fmt.Sprintf("/pod%d/app", i))
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var m Memory
	var c CPU
	var e MemoryEvents
	var io IO
	for b.Loop() {
		fs := NewFS(k.h)
		groups := make([]*Group, containers)
		before := heap()
		start := time.Now()
		for i := range groups {
			g, err := fs.Open(k.paths(fmt.Sprintf("/pod%d/app", i)))
			if err != nil {
				b.Fatal(err)
			}
			groups[i] = g
			if err := errors.Join(g.ReadMemoryAndEvents(&m, &e), g.ReadCPU(&c), g.ReadIO(&io)); err != nil {
				b.Fatal(err)
			}
			g.TaskCount()
		}
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/containers, "ns/group")
		b.ReportMetric(float64(int64(heap()-before))/containers, "B/group")
		b.ReportMetric(float64(openFiles(b, "/sys/fs/cgroup"))/containers, "files/group")
		for _, g := range groups {
			g.Close()
		}
	}
}
