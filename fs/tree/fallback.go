package tree

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/scopefs/scopefs/cgroup"
)

// Fallbacks counts the readers that were shown the machine's numbers because their container's could not be read.
type Fallbacks struct {
	mu     sync.Mutex
	counts map[Fallback]uint64
}

// reason is why a container that is known could not be shown.
func reason(err error) string {
	switch {
	case errors.Is(err, cgroup.ErrGone):
		return "gone"
	case errors.Is(err, cgroup.ErrNoPressure):
		return "unavailable"
	}
	return "unreadable"
}

// Fallback is what the counts are kept by: a file, or the directory below /sys that it is read through in, and why its
// container could not be shown.
type Fallback struct{ File, Reason string }

// count adds one, and logs the first of each kind. The thousands of files below a directory of /sys are one kind.
func (f *Fallbacks) count(of *File, reason string, err error) {
	file := of.Path
	if of.index < 0 {
		file = sysRoot + of.name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := Fallback{file, reason}
	if f.counts == nil {
		f.counts = map[Fallback]uint64{}
	}
	if f.counts[key]++; f.counts[key] == 1 {
		slog.Warn("showing the machine's numbers instead of a container's", "file", file, "reason", reason, "err", err)
	}
}

// Counts is a copy of the counts.
func (f *Fallbacks) Counts() map[Fallback]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make(map[Fallback]uint64, len(f.counts))
	for k, v := range f.counts {
		counts[k] = v
	}
	return counts
}
