package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// show runs `scopefs show` on the host.
func show(t *testing.T, d *daemon, args ...string) (string, error) {
	t.Helper()
	p := start(t, patience, exec.Command(scopefs, append([]string{"show", "--mount", d.mount}, args...)...))
	out, err := p.result()
	if err != nil {
		return p.err.String(), err
	}
	return out, nil
}

// TestShow compares what show prints with what the container reads.
func TestShow(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	pod := newGroup(t).memory(200 * miB).cpus(1)
	g := pod.child("c")
	c := startContainer(t, d, g, options{bind: ownTree})
	shared := startContainer(t, d, newGroup(t).memory(120*miB).cpus(1), options{bind: compatTree})
	for name, as := range map[string]struct {
		c    *container
		args []string
	}{
		"id":           {c, []string{c.id}},
		"pid":          {c, []string{"--pid", fmt.Sprint(c.pid)}},
		"cgroup":       {c, []string{"--cgroup", g.path}},
		"found pid":    {shared, []string{"--pid", fmt.Sprint(shared.pid)}},
		"found cgroup": {shared, []string{"--cgroup", shared.group.path}},
	} {
		t.Run(name, func(t *testing.T) {
			if inVM && (name == "pid" || name == "found cgroup") {
				t.Skip("each way once in a VM, which is slow")
			}
			for file := range files {
				out, err := show(t, d, append(as.args, "/"+file)...)
				if err != nil {
					t.Fatal(err)
				}
				if err := whole(file, out); err != nil {
					t.Error(err)
				}
				got := as.c.read(file)
				if still[file] && file != "proc/cpuinfo" && resting(file, out) != resting(file, got) {
					t.Errorf("%s: show prints %q, the container reads %q", file, out, got)
				}
				if strings.Count(out, "\n") != strings.Count(got, "\n") {
					t.Errorf("%s: show prints %d lines, the container reads %d", file, strings.Count(out, "\n"), strings.Count(got, "\n"))
				}
				if file == "proc/meminfo" && total(out) != total(got) {
					t.Errorf("show prints %s, the container reads %s", total(out), total(got))
				}
				if file == "proc/stat" && name != "cgroup" && name != "found cgroup" {
					before, after := parseStat(t, out), parseStat(t, got)
					// Each look splits anew what ran since the daemon's last one: a tick of it may change sides.
					allowed := procStat{}
					for row, times := range after {
						times[userTime] += 2
						times[systemTime] += 2
						allowed[row] = times
					}
					notLess(t, "the container after show", before, allowed)
					if late := after["cpu"].sum() - before["cpu"].sum(); late > int64(100*timeout(patience).Seconds()) {
						t.Errorf("show's counters and the container's are %d ticks apart", late)
					}
				}
			}
		})
	}
	t.Run("explain", func(t *testing.T) {
		out, err := show(t, d, "--explain", "--pid", fmt.Sprint(c.pid), "meminfo")
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(out, "\n")
		for _, want := range []string{"MemTotal", "204800", "memory.", pod.path} {
			if !strings.Contains(line, want) {
				t.Errorf("the line of MemTotal has no %q: %s", want, line)
			}
		}
		if strings.Contains(line, g.path+" ") {
			t.Errorf("the limit is the parent's: %s", line)
		}
		for file := range files {
			if out, err := show(t, d, "--explain", c.id, file); err != nil || strings.TrimSpace(out) == "" {
				t.Errorf("explaining %s: %v %q", file, err, out)
			}
			out, err := show(t, d, "--explain", "--json", c.id, file)
			var numbers []map[string]any
			if err != nil || json.Unmarshal([]byte(out), &numbers) != nil || numbers == nil {
				t.Errorf("explaining %s as JSON: %v\n%s", file, err, out)
			}
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, e := range []struct {
			args, want string
		}{
			{"nofile", `nofile proc/meminfo`},
			{"--pid 99999999 meminfo", "99999999"},
			{"--cgroup /no/such meminfo", "/no/such"},
			{"noid meminfo", "noid " + c.id},
			{"--pid 1 --cgroup / meminfo", "once --pid --cgroup"},
			{"--json meminfo", "--explain"},
			{"--bogus meminfo", "--bogus"},
		} {
			out, err := show(t, d, strings.Fields(e.args)...)
			if err == nil {
				t.Errorf("show %s: no error, but %s", e.args, out)
				continue
			}
			for want := range strings.FieldsSeq(e.want) {
				if !strings.Contains(out, want) {
					t.Errorf("show %s: the message has no %q: %s", e.args, want, out)
				}
			}
			if strings.Count(out, "\n") != 1 {
				t.Errorf("show %s: not one line: %s", e.args, out)
			}
		}
		// Without a daemon only an ID needs one.
		none := &daemon{mount: scratch(t) + "/fs"}
		if out, err := show(t, none, "--pid", fmt.Sprint(c.pid), "meminfo"); err != nil || totalOf(t, out) != 200 {
			t.Errorf("without a daemon: %v %s", err, out)
		}
		if out, err := show(t, none, c.id, "meminfo"); err == nil || !strings.Contains(out, "--pid") || !strings.Contains(out, "daemon") {
			t.Errorf("an ID without a daemon: %v %s", err, out)
		}
	})
}
