package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// loadavg is /proc/loadavg.
type loadavg struct {
	avg            [3]float64
	running, total int
	lastPID        int
}

func (c *container) loadavg() (l loadavg) {
	c.t.Helper()
	text := c.read("proc/loadavg")
	if _, err := fmt.Sscanf(text, "%f %f %f %d/%d %d", &l.avg[0], &l.avg[1], &l.avg[2], &l.running, &l.total, &l.lastPID); err != nil {
		c.t.Fatalf("loadavg %q: %v", text, err)
	}
	return l
}

// expectedLoad is the 1-minute average of one busy task after some time.
func expectedLoad(after time.Duration) float64 { return 1 - math.Exp(-after.Seconds()/60) }

// loadSlack is by how much a load may differ from what it should be: by here, and by more in a VM.
func loadSlack(t *testing.T, here float64) float64 {
	t.Helper()
	if !inVM {
		return here
	}
	const slack = 0.25
	t.Logf("in a VM, whose CPUs are slow and busy with other tasks: load may differ by %.2f, not %.2f", slack, here)
	return slack
}

// checkLoad compares an average with that of a task that is busy for so long, give or take a step of the sampler. The
// average was at from before.
func checkLoad(t *testing.T, got, from float64, busy time.Duration) {
	t.Helper()
	const step = 5 * time.Second
	slack := loadSlack(t, 0.02)
	left := from * (1 - expectedLoad(busy))
	low, high := left+expectedLoad(max(0, busy-step)), left+expectedLoad(busy+step)
	over := slack
	if inVM {
		over = 0.6 // the readers' own tasks wait for a CPU for seconds there, and are load
	}
	if got < low-slack || got > high+over {
		t.Errorf("load %.2f after %v of one busy task, want %.2f (%.2f to %.2f)", got, busy, left+expectedLoad(busy), low, high)
	}
}

// burnOne keeps exactly one task of the container busy; a Go program's other threads would be counted now and then.
func burnOne(c *container) {
	c.t.Helper()
	start(c.t, 10*time.Minute, c.command("busybox", "sh", "-c", "echo burning; while :; do :; done")).expect("burning")
}

// TestLoadavg keeps one task busy for 30 s.
func TestLoadavg(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startContainer(t, d, newGroup(t), options{bind: bind})
			idle := startContainer(t, d, newGroup(t), options{bind: bind})
			// Those who start it and read, three at times on a busy machine, count for one step.
			fresh := c.loadavg()
			if fresh.avg[0] > loadSlack(t, 0.05)+3*expectedLoad(5*time.Second) || fresh.total < 1 || fresh.lastPID < 1 || fresh.lastPID > 50 {
				t.Errorf("loadavg of a new container: %+v", fresh)
			}
			idle.loadavg()
			burnOne(c)
			began := time.Now()
			for _, at := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second} {
				time.Sleep(time.Until(began.Add(at)))
				l := c.loadavg()
				checkLoad(t, l.avg[0], fresh.avg[0], time.Since(began))
				t.Logf("after %v: %+v", at, l)
				if l.running < 1 || l.running > 4 || l.total < 2 || l.total > 40 {
					t.Errorf("running/total of one busy task: %+v", l)
				}
				if l.avg[0] < l.avg[1] || l.avg[1] < l.avg[2] {
					t.Errorf("a rising load: %+v", l)
				}
			}
			// Its readers are tasks of it too, which wait for a CPU on a busy machine.
			if l, busy := idle.loadavg(), c.loadavg(); l.avg[0] > max(busy.avg[0]/2, loadSlack(t, 0)) {
				t.Errorf("loadavg of an idle container: %+v, of a busy one: %+v", l, busy)
			}
			if has(t, "uptime") {
				if out := c.run("uptime"); strings.Contains(out, "load average: 0.0") {
					t.Errorf("uptime of a busy container: %s", out)
				}
			}
		})
	}
}

// TestLoadavgOfTheBusy reads the load of a container that has been busy for a while for the first time.
func TestLoadavgOfTheBusy(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := startContainer(t, d, newGroup(t).shares(true), options{bind: noBinds})
	burnOne(c)
	began := time.Now()
	used := c.group.used()
	time.Sleep(15 * time.Second)
	busy := (c.group.used() - used).Seconds() / time.Since(began).Seconds()
	// Only now does the daemon hear of it, by its reader, and by an announcement.
	first := c.run("busybox", "cat", d.compat+"/proc/loadavg")
	text := readFile(t, announce(t, d, c)+"/proc/loadavg")
	// What it used is known, what it wanted is not; who runs now, the reader's companions too, counts for a step.
	want, slack := expectedLoad(15*time.Second)*busy, loadSlack(t, 0.08)
	low, high := max(0.02, want-slack), expectedLoad(20*time.Second)+2*max(expectedLoad(5*time.Second), slack/2)
	for _, text := range []string{first, text} {
		var got float64
		if _, err := fmt.Sscan(text, &got); err != nil {
			t.Fatal(err)
		}
		if got < low || got > high {
			t.Errorf("first load %.2f after 15 s of one task that got %.2f CPUs, want about %.2f", got, busy, want)
		}
	}
}
