package host

import (
	"testing"

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
		{"meminfo", NeedMeminfo | NeedOvercommit}, {"stat", NeedStat | NeedCPULists}, {"cpuinfo", NeedCpuinfo | NeedCPULists},
		{"loadavg", NeedLoadavg}, {"uptime", NeedUptime | NeedCPULists}, {"swaps", NeedSwaps | NeedMeminfo},
		{"vmstat", NeedVMStat | NeedMeminfo}, {"diskstats", NeedDiskstats}, {"slabinfo", NeedSlabinfo},
		{"pressure", NeedPressure(cgroup.PressureMemory)}, {"nodes", NeedCPULists | NeedNodes},
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
