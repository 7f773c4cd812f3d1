package run

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// inTimeNS gives every container a time namespace.
var inTimeNS bool

func needTimeNS(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		t.Skip("the kernel has no time namespaces")
	}
}

// A container in a time namespace is started another way, and is like any other in all but its clocks.
func TestAllInTimeNS(t *testing.T) {
	needTimeNS(t)
	inTimeNS = true
	defer func() { inTimeNS = false }()
	for name, test := range map[string]func(*testing.T){
		"Status": TestStatus, "View": TestView, "Descriptors": TestDescriptors, "Pipes": TestPipes, "Signals": TestSignals,
		"Suspend": TestSuspend, "Timeout": TestTimeout, "KilledCommand": TestKilledCommand, "KilledRun": TestKilledRun,
		"Concurrent": TestConcurrent, "Rootfs": TestRootfs, "RunningDaemon": TestRunningDaemon,
		"KilledAnyTime": TestKilledAnyTime, "SharedMounts": TestSharedMounts,
	} {
		t.Run(name, test)
	}
}

// shiftsStart says whether the kernel applies time namespaces to btime and to the start times of processes: Linux 5.11.
func shiftsStart(t *testing.T) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 11
}

// The kernel's own files count from the start of the container. No daemon is in the way here: the test's has no uptime.
func TestClocks(t *testing.T) {
	needTimeNS(t)
	h := newHost(t)
	before := time.Now().Unix()
	out, status := h.run(Options{TimeNS: true}, "sh", "-c", `
		cut -d" " -f1 /proc/uptime
		sed -n "s/^btime //p" /proc/stat
		for pid in 1 self; do sed "s/.*) //" /proc/$pid/stat | cut -d" " -f20; done
		grep -c . /proc/self/timens_offsets`)
	after := time.Now().Unix()
	fields := strings.Fields(out)
	if status != 0 || len(fields) != 5 {
		t.Fatalf("status %d, output %q", status, out)
	}
	var n [4]float64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseFloat(fields[i], 64); err != nil {
			t.Fatal(err)
		}
	}
	took := float64(after - before + 1)
	if !shiftsStart(t) {
		before, n[2], n[3] = int64(n[1]), 0, 0 // btime is the machine's, and so are start times
	}
	if n[0] < 0 || n[0] > took {
		t.Errorf("uptime %v after %v s", n[0], took)
	}
	if n[1] < float64(before-1) || n[1] > float64(after) {
		t.Errorf("btime %v, want %d to %d", n[1], before, after)
	}
	const hz = 100
	if n[2] < 0 || n[3] < n[2] || n[3]/hz > n[0]+0.01+took {
		t.Errorf("pid 1 started at %v, another at %v, uptime %v", n[2]/hz, n[3]/hz, n[0])
	}
}

// The signal mask of the command is that of a container without a time namespace.
func TestSignalMask(t *testing.T) {
	needTimeNS(t)
	h := newHost(t)
	masks := func(o Options) string {
		out, status := h.run(o, "grep", "^Sig[BI]", "/proc/self/status")
		if status != 0 {
			t.Errorf("status %d: %s", status, out)
		}
		return out
	}
	if got, want := masks(Options{TimeNS: true}), masks(Options{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// This process stays where it is, with what else it starts.
func TestOthersKeepTheirTime(t *testing.T) {
	needTimeNS(t)
	h := newHost(t)
	own, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		t.Fatal(err)
	}
	child := func() error {
		out, err := exec.Command("readlink", "/proc/self/ns/time").Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != own {
			return fmt.Errorf("a child is in %s, this process in %s: %w", got, own, err)
		}
		return nil
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := child(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 5 {
		status, err := Run(Options{TimeNS: true, Args: []string{"sh", "-c", fmt.Sprintf("exit %d", i)}, Dir: h.dir, Parent: h.parent,
			Socket: filepath.Join(h.dir, "no.sock"), Private: fakeDaemon})
		if status != i || err != nil {
			t.Errorf("status %d %v, want %d", status, err, i)
		}
	}
	close(stop)
	others.Wait()
	for range 20 {
		if err := child(); err != nil {
			t.Error(err)
		}
	}
}

func TestNegative(t *testing.T) {
	for _, test := range [][4]int64{{0, 0, 0, 0}, {5, 0, -5, 0}, {5, 250e6, -6, 750e6}, {0, 1, -1, 999999999}} {
		if sec, nsec := negative(test[0], test[1]); sec != test[2] || nsec != test[3] {
			t.Errorf("−(%d, %d): got %d, %d", test[0], test[1], sec, nsec)
		}
	}
}
