package host

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

func TestPersonalityOf(t *testing.T) {
	root := t.TempDir()
	for tid, text := range map[int]string{1: "00000008\n", 2: "00000000\n", 3: "00400008\n", 4: "nonsense\n"} {
		dir := filepath.Join(root, "proc", strconv.Itoa(tid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "personality"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, root)
	for tid, want := range map[int]bool{1: true, 2: false, 3: true, 4: false, 5: false} {
		if got := f.personalityOf(tid)&perMask == perLinux32; got != want {
			t.Errorf("task %d: %v, want %v", tid, got, want)
		}
	}
}

func TestPersonalityAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("unix.Pread allocates its buffer under the race detector")
	}
	f := open(t, "")
	if n := testing.AllocsPerRun(100, func() { f.personalityOf(os.Getpid()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The thread that reads for a 32-bit program is an ordinary one again afterwards.
func TestAsLinux32(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := personality(perAsk)
	if err != nil {
		t.Skip("personality(2) is refused here: ", err)
	}
	failed := errors.New("failed")
	err = asLinux32(func() error {
		if p, err := personality(perAsk); err != nil || p&perMask != perLinux32 {
			t.Errorf("within: %#x, %v", p, err)
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("%v, want what the function returned", err)
	}
	if after, err := personality(perAsk); err != nil || after != before {
		t.Errorf("afterwards %#x, before %#x, %v", after, before, err)
	}
}

func TestCpuinfoOfA32BitReader(t *testing.T) {
	f, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s, s32 Snapshot
	if err := errors.Join(f.Snapshot(NeedCpuinfo, &s), f.Snapshot(NeedCpuinfo32, &s32)); err != nil {
		t.Fatal(err)
	}
	if s.Cpuinfo == s32.Cpuinfo {
		t.Error("the two readers share one text")
	}
	if len(s32.Cpuinfo.Blocks) != len(s.Cpuinfo.Blocks) {
		t.Errorf("%d processors, want %d", len(s32.Cpuinfo.Blocks), len(s.Cpuinfo.Blocks))
	}
}
