package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clocks are what a process that has just started sees of time.
type clocks struct {
	Uptime, Idle float64 // s, /proc/uptime by read(2)
	Sendfile     float64 // s, its first number by sendfile(2)
	Sysinfo      float64 // s, whole ones
	Btime        int64   // s since the epoch, /proc/stat
	Start        int64   // ticks, its own starttime in /proc/self/stat
	Now          float64 // s since the epoch
	// Printed is what the programs that are installed print, by their command lines.
	Printed map[string]string
}

// timePrograms are the commands whose output docs/views.md lists; PID is that of a process that has just started.
var timePrograms = []string{
	"ps -o lstart= -p PID", "ps -o etime= -p PID", "ps -o etimes= -p PID", "uptime -s", "uptime", "who -b", "grep btime /proc/stat",
}

func init() { roles["clocks"] = playClocks }

func playClocks([]string) error {
	c := clocks{Printed: map[string]string{}}
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(text), &c.Uptime, &c.Idle); err != nil {
		return err
	}
	f, err := os.Open("/proc/uptime")
	if err != nil {
		return err
	}
	defer f.Close()
	if text, err = sendfile(f); err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(text), &c.Sendfile); err != nil {
		return fmt.Errorf("sendfile of /proc/uptime: %q: %w", text, err)
	}
	if text, err = os.ReadFile("/proc/stat"); err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "\nbtime ")
	if _, err := fmt.Sscan(rest, &c.Btime); err != nil {
		return err
	}
	if text, err = os.ReadFile("/proc/self/stat"); err != nil {
		return err
	}
	fields := strings.Fields(string(text[strings.LastIndex(string(text), ")")+1:]))
	if c.Start, err = strconv.ParseInt(fields[19], 10, 64); err != nil {
		return err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	c.Sysinfo = float64(info.Uptime)
	c.Now = float64(time.Now().UnixMicro()) / 1e6
	for _, line := range timePrograms {
		args := strings.Fields(strings.ReplaceAll(line, "PID", strconv.Itoa(os.Getpid())))
		if _, err := exec.LookPath(args[0]); err != nil {
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
		out, err := cmd.CombinedOutput()
		if err != nil {
			continue // busybox's, which knows no such option
		}
		c.Printed[line] = strings.TrimSpace(string(out))
	}
	return json.NewEncoder(os.Stdout).Encode(c)
}

// parseClocks is what the role printed.
func parseClocks(t testing.TB, text string) (c clocks) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// runClocks plays it in a container of `scopefs run`, or on the host with flags nil.
func runClocks(t *testing.T, flags []string) clocks {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "clocks")
	if flags != nil {
		cmd = exec.Command(scopefs, append(append([]string{"run"}, flags...), "--", self, "clocks")...)
	}
	cmd.Env = append(os.Environ(), roleEnv+"=clocks")
	return parseClocks(t, start(t, patience, cmd).wait())
}

func needTimeNS(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		t.Skip("this kernel has no time namespaces")
	}
}

// TestRunTimeNS is about everything that tells the time since boot in a container of `scopefs run --timens`.
func TestRunTimeNS(t *testing.T) {
	t.Parallel()
	needTimeNS(t)
	d := startDaemon(t)
	for name, flags := range map[string][]string{
		"daemon":  {"--timens", "--socket", d.socket, "--cpus", "1"},
		"private": {"--timens", "--socket", filepath.Join(scratch(t), "none.sock")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			c := runClocks(t, flags)
			took := time.Since(before).Seconds()
			if c.Uptime < 0 || c.Uptime > took || c.Sendfile < c.Uptime || c.Sendfile > took {
				t.Errorf("uptime %v, by sendfile %v, of a container that was started %v s ago", c.Uptime, c.Sendfile, took)
			}
			if c.Idle < 0 || c.Idle > took*float64(runtime.NumCPU()) {
				t.Errorf("idle for %v s", c.Idle)
			}
			if c.Sysinfo < math.Floor(c.Uptime) || c.Sysinfo > took+1 {
				t.Errorf("sysinfo(2) says %v s, /proc/uptime %v", c.Sysinfo, c.Uptime)
			}
			if !shiftsStart(t) {
				t.Skip("before Linux 5.11 btime and the start times of processes are the machine's in every time namespace")
			}
			c.agree(t, took)
			if want := float64(before.Unix()); float64(c.Btime) < want-1 || float64(c.Btime) > c.Now {
				t.Errorf("booted at %v, want %v to %v", c.Btime, want, c.Now)
			}
		})
	}
}

// shiftsStart says whether the kernel applies time namespaces to btime and to the start times of processes: Linux 5.11.
func shiftsStart(t *testing.T) bool {
	t.Helper()
	var major, minor int
	if _, err := fmt.Sscanf(readString(t, "/proc/sys/kernel/osrelease"), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 11
}

// agree checks that the ways to tell time go together: the sum of the time of boot and of the time since then is now.
func (c *clocks) agree(t *testing.T, took float64) {
	t.Helper()
	const hz = 100
	if d := math.Abs(float64(c.Btime) + c.Uptime - c.Now); d > 2+took {
		t.Errorf("btime %v + uptime %v is %v s off now, %v", c.Btime, c.Uptime, d, c.Now)
	}
	// The process has just started.
	if d := math.Abs(float64(c.Btime) + float64(c.Start)/hz - c.Now); d > 2+took {
		t.Errorf("btime %v + starttime %v is %v s off now, %v", c.Btime, float64(c.Start)/hz, d, c.Now)
	}
	near := func(line, layout string, want float64) {
		t.Helper()
		text, ok := c.Printed[line]
		if !ok {
			t.Logf("not checked with %s", line)
			return
		}
		at, err := time.Parse(layout, text)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			return
		}
		if d := math.Abs(float64(at.Unix()) - want); d > 2+took {
			t.Errorf("%s prints %s, %v s off", line, text, d)
		}
	}
	near("ps -o lstart= -p PID", "Mon Jan _2 15:04:05 2006", c.Now)
	near("uptime -s", time.DateTime, float64(c.Btime))
	if text, ok := c.Printed["ps -o etimes= -p PID"]; ok {
		if age, err := strconv.ParseFloat(text, 64); err != nil || age < 0 || age > took+1 {
			t.Errorf("ps -o etimes prints %q of a process that has just started", text)
		}
	}
	if text, ok := c.Printed["ps -o etime= -p PID"]; ok && took < 60 && !strings.HasPrefix(text, "00:") {
		t.Errorf("ps -o etime prints %q of a process that has just started", text)
	}
}

// TestReaderInTimeNS enters another time namespace inside of a container that has none of its own.
func TestReaderInTimeNS(t *testing.T) {
	t.Parallel()
	needTimeNS(t)
	need(t, "unshare")
	if out, err := exec.Command("unshare", "--time", "--boottime", "1000", "--fork", "true").CombinedOutput(); err != nil {
		t.Skipf("this unshare(1) makes no time namespace: %v %s", err, out)
	}
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := startContainer(t, d, newGroup(t).cpus(1), options{bind: bind})
			const offset = 1000
			in := func(args ...string) string {
				return c.run(append([]string{"unshare", "--time", "--boottime", strconv.Itoa(offset), "--fork"}, args...)...)
			}
			machine := func() (up float64) {
				if _, err := fmt.Sscan(readString(t, "/proc/uptime"), &up); err != nil {
					t.Fatal(err)
				}
				return up
			}
			least := machine() + offset
			for _, cat := range [][]string{{"cat"}, {"busybox", "cat"}} { // read(2), sendfile(2)
				var up, idle float64
				text := in(append(cat, "/proc/uptime")...)
				if _, err := fmt.Sscan(text, &up, &idle); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				age := time.Since(began).Seconds()
				if most := machine() + offset; up < least || up > most {
					t.Errorf("%v: uptime %v, want %v to %v", cat, up, least, most)
				}
				if idle < 0 || idle > age+0.02 {
					t.Errorf("%v: idle for %v s after %v s: it is the container's CPU", cat, idle, age)
				}
			}
			btime := func(text string) (n int64) {
				_, rest, _ := strings.Cut(text, "\nbtime ")
				if _, err := fmt.Sscan(rest, &n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			want := btime(readString(t, "/proc/stat"))
			if shiftsStart(t) {
				want -= offset
			}
			if got := btime(in("cat", "/proc/stat")); got != want {
				t.Errorf("btime %d, want %d", got, want)
			}
			// The others in the container are not concerned. Through the page cache they share its last snapshot.
			var up float64
			if _, err := fmt.Sscan(c.read("proc/uptime"), &up); err != nil || up > time.Since(began).Seconds()+0.02 {
				t.Errorf("uptime of the others %v %v, it started %v ago", up, err, time.Since(began))
			}
			if got, want := btime(c.read("proc/stat")), btime(readString(t, "/proc/stat")); got != want {
				t.Errorf("btime of the others %d, want %d", got, want)
			}
		})
	}
}

// TestTimePrograms lists what programs print in each mode: the table of docs/views.md.
func TestTimePrograms(t *testing.T) {
	t.Parallel()
	needTimeNS(t)
	need(t, "ps", "uptime", "who")
	d := startDaemon(t)
	modes := []struct {
		name  string
		flags []string
	}{
		{"host", nil}, {"container", []string{"--socket", d.socket}}, {"container, --timens", []string{"--socket", d.socket, "--timens"}},
	}
	for _, m := range modes {
		before := time.Now()
		c := runClocks(t, m.flags)
		report(t, "%s, at %s:", m.name, before.UTC().Format(time.DateTime))
		for _, line := range timePrograms {
			report(t, "\t%s\t%s", line, c.Printed[line])
		}
		if m.name == "host" || m.name != "container" && shiftsStart(t) { // else uptime alone is the container's
			c.agree(t, time.Since(before).Seconds())
		} else if n, err := strconv.ParseUint(c.Printed["ps -o etimes= -p PID"], 10, 64); err == nil && n < 1<<31 && c.Uptime+1 < c.Sysinfo {
			// Say so in docs/views.md when this changes.
			t.Errorf("ps -o etimes prints %d in a container without a time namespace", n)
		}
	}
}

// TestTimeNSUnknown is --timens on a kernel that has none.
func TestTimeNSUnknown(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/ns/time"); err == nil {
		t.Skip("this kernel has time namespaces")
	}
	p := start(t, patience, exec.Command(scopefs, "run", "--timens", "true"))
	if _, err := p.result(); err == nil || !strings.Contains(p.err.String(), "CONFIG_TIME_NS") {
		t.Errorf("%v %s", err, p.err.String())
	}
}
