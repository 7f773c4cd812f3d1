package fs

import (
	"os"
	"runtime"
	"runtime/debug"
)

// TuneRuntime fits Go's runtime to a daemon, unless the environment does (GOGC, GOMAXPROCS). It is for a process that does
// nothing else.
//
// A warm read allocates nothing, so that a small heap costs no time. Of GOMEMLIMIT nothing is set: a daemon with more containers
// than somebody had thought of would only collect garbage.
func TuneRuntime() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// One goroutine serves nearly all readers, so more would only cost memory. A second must be there also on a machine
		// of one CPU, for whoever watches the first.
		runtime.GOMAXPROCS(min(max(runtime.GOMAXPROCS(0), 2), 4))
	}
}
