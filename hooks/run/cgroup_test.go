package run

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUntilTaken: what the kernel refuses for a moment is tried again, anything else is not.
func TestUntilTaken(t *testing.T) {
	tries := 0
	err := untilTaken(func() error {
		if tries++; tries < 3 {
			return fmt.Errorf("write cgroup.procs: %w", unix.EINVAL)
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, then %v; want 3 and no error", tries, err)
	}
	tries = 0
	if err := untilTaken(func() error { tries++; return unix.ESRCH }); !errors.Is(err, unix.ESRCH) || tries != 1 {
		t.Errorf("%d tries, then %v; want 1 and ESRCH", tries, err)
	}
	if err := untilTaken(func() error { return unix.EINVAL }); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a process that is never taken gives %v, want EINVAL", err)
	}
}
