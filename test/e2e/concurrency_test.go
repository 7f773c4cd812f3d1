package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// loopResult is what a reader of playLoop saw.
type loopResult struct {
	Reads  int
	Totals []string // the first lines of meminfo
	Errors []string
}

// playLoop reads the files over and over, in several ways, until its input ends, and prints what it saw.
func playLoop(args []string) error {
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	fmt.Println("looping")
	var r loopResult
	// What reads through the page cache is asserted on in TestOverlappingSendfile: here lengths change all the time.
	howTo := []string{"read by 64 kB", "sendfile", "read by 1 kB", "splice", "mmap private", "pread at 7"}
	cached := map[string]bool{"sendfile": true, "splice": true, "mmap private": true}
	for i := 0; !over.Load() && len(r.Errors) < 5; i++ {
		for _, file := range args {
			f, err := os.Open("/" + file)
			if err != nil {
				r.Errors = append(r.Errors, err.Error())
				continue
			}
			way := howTo[i%len(howTo)]
			text, err := ways[way](f)
			f.Close()
			r.Reads++
			if cached[way] && file != "proc/meminfo" && err == nil {
				continue
			}
			if err == nil && way != "pread at 7" { // which joins two snapshots
				err = whole(file, string(text))
			}
			if err != nil {
				r.Errors = append(r.Errors, way+": "+err.Error())
			} else if line := total(string(text)); file == "proc/meminfo" && !slices.Contains(r.Totals, line) {
				r.Totals = append(r.Totals, line)
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// raceBuilt is held while raceBuild builds.
var raceBuilt sync.Mutex

// raceBuild is the program under test, built with the race detector where that can be done.
func raceBuild(t *testing.T) string {
	t.Helper()
	if os.Getenv("SCOPEFS_BIN") != "" || inVM {
		t.Log("not under the race detector: the program was given")
		return scopefs
	}
	if !has(t, "go") || !has(t, "gcc") {
		return scopefs
	}
	path := base + "/scopefs-race"
	raceBuilt.Lock()
	defer raceBuilt.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-race", "-o", path, "../../cmd/scopefs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	start(t, 5*time.Minute, cmd).wait()
	return path
}

// TestConcurrency has 64 readers in 20 containers that come and go while their limits change.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	const containers, readers, length = 20, 64, 8 * time.Second
	d := startDaemonIn(t, scratch(t), raceBuild(t))
	d.fallbacks = true // of readers whose container ended
	over := time.Now().Add(length)
	var made, reads atomic.Int64
	var wg sync.WaitGroup
	for slot := range containers {
		n := readers / containers
		if slot < readers%containers {
			n++
		}
		wg.Go(func() {
			for i := 0; time.Now().Before(over); i++ {
				t.Run(fmt.Sprintf("%d-%d", slot, i), func(t *testing.T) {
					made.Add(1)
					reads.Add(liveAndDie(t, d, slot+i, n))
				})
			}
		})
	}
	wg.Wait()
	t.Logf("%d containers, %d reads by those that lived", made.Load(), reads.Load())
	// After all that it still serves, and keeps nothing of those that ended.
	if err := whole("proc/meminfo", readFile(t, d.compat+"/proc/meminfo")); err != nil {
		t.Error(err)
	}
	var fds []os.DirEntry
	for range 200 {
		var err error
		if fds, err = os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		if len(fds) < 100 {
			return
		}
		time.Sleep(timeout(100 * time.Millisecond))
	}
	t.Errorf("the daemon has %d descriptors open when all containers are gone", len(fds))
}

// liveAndDie is the life of one container with some readers; it returns the number of reads.
func liveAndDie(t *testing.T, d *daemon, n, readers int) (reads int64) {
	bind := []bindKind{ownTree, compatTree, hostBinds}[n%3]
	first := int64(50+n%50) * miB
	g := newGroup(t).memory(first).cpus(1)
	c := startContainer(t, d, g, options{bind: bind})
	var list []*process
	for range readers {
		list = append(list, c.start("looping", append([]string{"loop"}, "proc/meminfo", "proc/stat", "proc/loadavg", "proc/uptime",
			"proc/cpuinfo", "sys/devices/system/cpu/online")...))
	}
	for i := range 5 {
		g.memory(first + int64(i%2)*miB).cpus(float64(1 + i%2))
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
	}
	if n%4 == 0 {
		// Some end in the midst of reading.
		c.stop()
		g.remove()
		return 0
	}
	for _, p := range list {
		_ = p.in.Close()
	}
	for _, p := range list {
		var r loopResult
		if err := json.Unmarshal([]byte(strings.TrimPrefix(p.wait(), "looping\n")), &r); err != nil {
			t.Fatal(err)
		}
		reads += int64(r.Reads)
		for _, e := range r.Errors {
			t.Error(e)
		}
		if bind == hostBinds && inVM {
			// Containers take turns at an inode that the host bound for all, 100 ms at most: too short for slow CPUs. How
			// much then gets through is measured by TestForeignAnswers.
			continue
		}
		for _, line := range r.Totals {
			if kb := totalOf(t, line); kb != first/miB && kb != first/miB+1 {
				t.Errorf("a reader of a container of %d MiB saw %s", first/miB, line)
			}
		}
	}
	return reads
}
