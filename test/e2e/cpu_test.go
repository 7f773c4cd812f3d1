package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBurn keeps a container of 1.5 CPUs busy for 10 s, and the machine with it, and looks at it and at an idle one.
// Nothing else of the suite runs meanwhile.
func TestBurn(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	const length = 10 * time.Second
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			// Other work on this machine may not take the CPUs that the container is entitled to.
			busyGroup := newGroup(t).cpus(1.5).cpuset("0-1").shares(true)
			idleGroup := newGroup(t).cpus(1).shares(true)
			busy := startContainer(t, d, busyGroup, options{bind: bind})
			idle := startContainer(t, d, idleGroup, options{bind: bind})
			host := startContainer(t, d, newGroup(t).shares(false), options{bind: noBinds})
			host.start("burning", "burn", "2")
			burner := busy.start("burning", "burn", "2")

			earliest := time.Now()
			before, idleBefore, began := busy.stat(), idle.stat(), time.Now()
			used, throttled := busyGroup.used(), busyGroup.throttled()
			watch := start(t, 2*length, idle.commandIn(idleGroup, "busybox", "sleep", "10"))
			var top *process
			if has(t, "top") {
				top = start(t, 2*length, busy.command("top", "-b", "-d", "8", "-n", "2"))
			}
			watch.wait()
			wall := time.Since(began)
			after, idleAfter := busy.stat(), idle.stat()
			most := time.Since(earliest)
			used, throttled = busyGroup.used()-used, busyGroup.throttled()-throttled

			total := after["cpu"].minus(before["cpu"])
			work, steal := total.percent(userTime, systemTime), total.percent(stealTime)
			t.Logf("busy: %.1f %% us+sy, %.1f %% st, %.1f %% id; the kernel counted %v used and %v throttled in %v",
				work, steal, total.percent(idleTime), used, throttled, wall)
			capacity := float64(total.sum()) / 100
			if want := 100 * used.Seconds() / capacity; !near(work, want, 3) {
				t.Errorf("us+sy is %.1f %%, the kernel counted %.1f %%", work, want)
				t.Logf("rows: %v, then %v\n%s", before, after, busyGroup.counters())
			}
			kept := 100 * (used + throttled).Seconds() / capacity
			if !near(work+steal, kept, 4) && !inVM { // where the two are read seconds apart
				t.Errorf("us+sy+st is %.1f %%, the kernel counted %.1f %% used or held back", work+steal, kept)
			}
			switch entitled := 1.5 * wall.Seconds(); {
			case inVM:
				t.Log("shares not asserted: the emulated CPUs are too slow to be kept busy")
			case used.Seconds() < 0.97*entitled || kept < 97:
				// Waiting for a CPU that others keep busy is neither.
				t.Logf("shares not asserted: the machine gave the container %.2f of its 1.5 CPUs, and let it wait for %.1f %% of the time",
					used.Seconds()/wall.Seconds(), 100-kept)
			default:
				if work+steal < 95 {
					t.Errorf("us+sy+st is %.1f %%, want 95 %% at least", work+steal)
				}
				if !near(steal, 25, 5) {
					t.Errorf("st is %.1f %%, want 25 %%: a quota of 1.5 shown as 2 CPUs", steal)
				}
				if top != nil {
					checkTop(t, top.wait())
				}
			}
			checkRows(t, before, after, wall, most)

			rest := idleAfter["cpu"].minus(idleBefore["cpu"])
			if p := rest.percent(idleTime); p < 99 && !inVM {
				t.Errorf("the idle container shows %.1f %% id while the machine burns: %v", p, rest)
			}
			checkRows(t, idleBefore, idleAfter, wall, most)
			finish(burner)
		})
	}
}

// checkTop checks the second screen of top, over 8 s of a full burn.
func checkTop(t *testing.T, out string) {
	t.Helper()
	_, second, _ := strings.Cut(out[1:], "\ntop - ")
	for line := range strings.Lines(second) {
		rest, found := strings.CutPrefix(line, "%Cpu(s):")
		if !found {
			continue
		}
		is := map[string]float64{}
		for part := range strings.SplitSeq(rest, ",") {
			f := strings.Fields(part)
			is[f[1]], _ = strconv.ParseFloat(f[0], 64)
		}
		if sum := is["us"] + is["sy"] + is["ni"] + is["st"]; sum < 95 || !near(is["st"], 25, 6) {
			t.Errorf("top of a full burn: %s", line)
		}
		return
	}
	t.Errorf("no second screen of top:\n%s", out)
}

// checkRows checks that the rows of the CPUs add up to the total and to the wall time, which is known within bounds as
// reading takes a while on a busy machine.
func checkRows(t *testing.T, before, after procStat, least, most time.Duration) {
	t.Helper()
	for _, s := range []procStat{before, after} {
		var sum cpuTimes
		for i := range s.cpus() {
			for col, n := range s[fmt.Sprint("cpu", i)] {
				sum[col] += n
			}
		}
		if sum != s["cpu"] {
			t.Errorf("the rows add up to %v, the total is %v", sum, s["cpu"])
		}
	}
	for i := range after.cpus() {
		row := fmt.Sprint("cpu", i)
		passed := time.Duration(after[row].minus(before[row]).sum()) * (time.Second / 100)
		// A period's throttled time is counted when the period ends.
		if tolerance := timeout(300 * time.Millisecond); passed < least-tolerance || passed > most+tolerance {
			t.Errorf("%s counted %v in %v to %v", row, passed, least, most)
		}
	}
}

// TestCountersGrow reads /proc/stat 1,000 times while the quota changes, and over a restart of the daemon.
func TestCountersGrow(t *testing.T) {
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	dir := scratch(t)
	d := startDaemonIn(t, dir, scopefs)
	g := newGroup(t).cpus(2)
	own := startContainer(t, d, g, options{bind: ownTree})
	compat := startContainer(t, d, newGroup(t).cpus(2), options{bind: compatTree})
	own.start("burning", "burn", "1")
	compat.start("burning", "burn", "1")

	last := map[*container]procStat{}
	for _, c := range []*container{own, compat} {
		counts := start(t, 2*time.Minute, c.command(selfExe, "counts", fmt.Sprint(fewer(1000)), "/proc/stat"))
		for n := 1.0; ; n = 3 - n {
			c.group.cpus(n)
			select {
			case <-counts.done:
			case <-time.After(timeout(30 * time.Millisecond)):
				continue
			}
			break
		}
		var rows procStat
		if err := json.Unmarshal([]byte(counts.wait()), &rows); err != nil {
			t.Fatal(err)
		}
		c.group.cpus(2)
		last[c] = c.stat()
		notLess(t, "after many reads", rows, last[c])
	}

	// The next daemon goes on where this one was.
	d.stop()
	time.Sleep(300 * time.Millisecond)
	d = startDaemonIn(t, dir, scopefs)
	// What is bound is of the old one, so its readers look at the new mount.
	text := readFile(t, filepath.Join(announce(t, d, own), "proc/stat"))
	notLess(t, "after a restart", last[own], parseStat(t, text))
	text = start(t, patience, compat.outside("busybox", "cat", d.compat+"/proc/stat")).wait()
	notLess(t, "after a restart", last[compat], parseStat(t, text))
}

func notLess(t *testing.T, when string, before, after procStat) {
	t.Helper()
	for row := range before {
		if _, visible := after[row]; !visible {
			continue
		}
		for col := range before[row] {
			if after[row][col] < before[row][col] {
				t.Errorf("%s: column %d of %s fell from %d to %d", when, col, row, before[row][col], after[row][col])
			}
		}
	}
}

// playCounts reads a /proc/stat as often as the first argument says, checks that no counter falls while its row is
// there, and prints the highest of each as JSON.
func playCounts(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	f, err := os.Open(args[1])
	if err != nil {
		return err
	}
	highest := procStat{}
	buf := make([]byte, 1<<16)
	for i := range n {
		// A new descriptor, the same one from its start, and in between.
		if i%10 == 0 {
			f.Close()
			if f, err = os.Open(args[1]); err != nil {
				return err
			}
		}
		m, err := f.ReadAt(buf, 0)
		if err != nil && err != io.EOF {
			return err
		}
		s, err := tryStat(string(buf[:m]))
		if err != nil {
			return err
		}
		for row, now := range s {
			for col := range now {
				if now[col] < highest[row][col] {
					return fmt.Errorf("read %d: column %d of %s fell from %d to %d", i, col, row, highest[row][col], now[col])
				}
			}
			highest[row] = now
		}
		time.Sleep(2 * time.Millisecond)
	}
	return json.NewEncoder(os.Stdout).Encode(highest)
}

// TestUptime is about the start of a container whose init has an awkward name.
func TestUptime(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := startContainer(t, d, newGroup(t).cpus(1), options{bind: bind, comm: "npm start) R 1"})
			if comm := readString(t, fmt.Sprintf("/proc/%d/comm", c.pid)); comm != "npm start) R 1" {
				t.Fatalf("the init is named %q", comm)
			}
			time.Sleep(1500 * time.Millisecond)
			asked := time.Now()
			text := c.read("proc/uptime")
			most := time.Since(began).Seconds()
			var up, idle float64
			if _, err := fmt.Sscan(text, &up, &idle); err != nil {
				t.Fatal(err)
			}
			if up < 1.4 || up > most+0.02 {
				t.Errorf("uptime is %v, it started %.2f s ago", up, most)
			}
			stat := c.stat()["cpu"]
			if now := float64(stat[idleTime]) / 100; idle > now || now-idle > time.Since(asked).Seconds()+0.3 {
				t.Errorf("idle for %v of uptime, %v of stat", idle, now)
			}
		})
	}
}
