package host

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scopefs/scopefs/cgroup"
)

func BenchmarkSnapshot(b *testing.B) {
	f, err := Open("")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, bench := range []struct {
		name string
		need Need
	}{
		{"meminfo", NeedMeminfo | NeedOvercommit}, {"stat", NeedStat | NeedOnlineCPUs}, {"cpuinfo", NeedCpuinfo | NeedOnlineCPUs},
		{"loadavg", NeedLoadavg}, {"uptime", NeedUptime | NeedOnlineCPUs}, {"swaps", NeedSwaps | NeedMeminfo},
		{"vmstat", NeedVMStat | NeedMeminfo}, {"diskstats", NeedDiskstats}, {"slabinfo", NeedSlabinfo},
		{"pressure", NeedPressure(cgroup.PressureMemory)}, {"nodes", NeedOnlineCPUs | NeedNodes},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			var s Snapshot
			for b.Loop() {
				if err := f.Snapshot(bench.need, &s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What sharing saves, and what the copies of a large text cost: /proc/stat of a machine with 1,024 CPUs has hundreds of kB.
func BenchmarkShared(b *testing.B) {
	root := b.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1500, 300_000} {
		if err := os.WriteFile(filepath.Join(root, "proc/stat"), bytes.Repeat([]byte("0 "), size/2), 0o644); err != nil {
			b.Fatal(err)
		}
		for name, age := range map[string]time.Duration{"fresh": 0, "shared": time.Hour} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				f, err := Open(root)
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				f.SetMaxAge(age)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					var s Snapshot
					for pb.Next() {
						if err := f.Snapshot(NeedStat, &s); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
