package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// catLoop is what a worker of a container runs: busybox cat, which reads by sendfile(2) through the kernel's page cache,
// that is shared by all who read one inode. Every answer goes to the output with a mark behind it.
const catLoop = `i=0; while [ $i -lt %d ]; do busybox cat %s; echo END; i=$((i+1)); done`

// TestForeignAnswers runs two containers of 100 and 200 MiB side by side, with three workers each that read meminfo 150
// times. No answer may be the other container's, or not be whole.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	workers, reads := 3, fewer(150)
	for _, c := range []struct {
		name string
		bind bindKind
		// strict: no foreign answer at all; else they are counted and reported.
		strict bool
	}{
		{"own", ownTree, true},
		{"compat bound inside", compatTree, true},
		{"compat bound by the host", hostBinds, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t)
			var readers []*process
			var want []string
			for _, size := range []int64{100, 200} {
				g := newGroup(t).memory(size * miB)
				ctr := startContainer(t, d, g, options{bind: c.bind})
				for range workers {
					script := fmt.Sprintf(catLoop, reads, "/proc/meminfo")
					readers = append(readers, start(t, 2*time.Minute, ctr.command("busybox", "sh", "-c", script)))
					want = append(want, fmt.Sprintf("MemTotal: %14d kB\n", size*miB/kiB))
				}
			}
			var total, foreign, torn int
			for i, r := range readers {
				for answer := range strings.SplitAfterSeq(r.wait(), "END\n") {
					answer, ok := strings.CutSuffix(answer, "END\n")
					if !ok {
						continue
					}
					total++
					if err := whole("proc/meminfo", answer); err != nil {
						if torn++; torn < 4 {
							t.Log(err)
						}
					} else if !strings.HasPrefix(answer, want[i]) {
						foreign++
					}
				}
			}
			report(t, "%d answers, %d foreign, %d not whole", total, foreign, torn)
			if total != 2*workers*reads {
				t.Errorf("%d answers, want %d", total, 2*workers*reads)
			}
			if c.strict && (foreign > 0 || torn > 0) {
				t.Errorf("%d foreign, %d not whole", foreign, torn)
			}
			// An inode that containers share has no size that is right for all of them.
			if torn > total/100 {
				t.Errorf("%d not whole", torn)
			}
		})
	}
}

// TestOverlappingSendfile has eight workers read files whose length changes, all in one container, which share an inode
// and so the kernel's page cache and its idea of the file's size. Next to nobody may get a part, or more than there is.
func TestOverlappingSendfile(t *testing.T) {
	t.Parallel()
	workers, reads := 8, fewer(200)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t)
			c := startContainer(t, d, newGroup(t).cpus(2), options{bind: bind})
			for _, file := range []string{"proc/stat", "proc/loadavg", "sys/devices/system/cpu/online"} {
				var readers []*process
				for range workers {
					script := fmt.Sprintf(catLoop, reads, "/"+file)
					readers = append(readers, start(t, 2*time.Minute, c.command("busybox", "sh", "-c", script)))
				}
				for n := 1.0; ; n = 3 - n {
					c.group.cpus(n) // changes the length of stat and online
					select {
					case <-readers[0].done:
					case <-time.After(timeout(40 * time.Millisecond)):
						continue
					}
					break
				}
				var all, torn int
				for _, r := range readers {
					for answer := range strings.SplitAfterSeq(r.wait(), "END\n") {
						answer, ok := strings.CutSuffix(answer, "END\n")
						if !ok {
							continue
						}
						all++
						if err := whole(file, answer); err != nil {
							if torn++; torn < 4 {
								t.Log(err)
							}
						}
					}
				}
				report(t, "%s: %d answers, %d not whole", file, all, torn)
				// Not none: the kernel drops a size that it was told while another one was on its way.
				if all != workers*reads || torn > all/100 {
					t.Errorf("%s: %d answers, want %d; %d not whole", file, all, workers*reads, torn)
				}
			}
		})
	}
}
