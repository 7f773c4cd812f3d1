package cgroup

import "bytes"

// Event is a counter of memory.stat that only grows, by its position in the table of their names.
type Event uint8

// eventNames are the counters of cgroup v2's memory.stat that /proc/vmstat has under the same name. v1 has some of them,
// as total_*. Its pgpgin and pgpgout are not among them: they count pages that are charged, and not I/O. Positions are
// kept in ledger files: only ever append.
var eventNames = [...]string{
	"pgfault", "pgmajfault", "pgrefill", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed",
	"pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgscan_proactive",
	"pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgsteal_proactive",
	"pgdemote_kswapd", "pgdemote_direct", "pgdemote_khugepaged", "pgdemote_proactive", "pgpromote_success",
	"pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb",
	"thp_fault_alloc", "thp_collapse_alloc", "thp_swpout", "thp_swpout_fallback",
	"numa_pages_migrated", "numa_pte_updates", "numa_hint_faults",
	"workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
	"workingset_restore_anon", "workingset_restore_file", "workingset_nodereclaim",
	"workingset_refault", "workingset_activate", "workingset_restore", // before Linux 5.9
}

// EventCount is how many Events there are.
const EventCount = len(eventNames)

var eventIndex = func() map[string]Event {
	index := make(map[string]Event, EventCount)
	for i, name := range eventNames {
		index[name] = Event(i)
	}
	return index
}()

// FindEvent is the event of a name, without v1's "total_".
func FindEvent(name []byte) (e Event, ok bool) {
	e, ok = eventIndex[string(name)]
	return e, ok
}

// String is the event's name.
func (e Event) String() string { return eventNames[e] }

// MemoryEvents are the counters of memory.stat.
type MemoryEvents struct {
	// Version is V0 where only the root of the memory hierarchy applies.
	Version Version
	Path    string // of the cgroup that counted
	Count   [EventCount]uint64
	Known   [EventCount]bool // the kernel counts it
}

// parse reads memory.stat: of v2 from the first event on, of v1 what begins with "total_".
func (e *MemoryEvents) parse(text []byte) error {
	if e.Version == V1 {
		text = hierarchicalPart(text)
	}
	begun := e.Version == V1
	for len(text) > 0 {
		key, n, isNumber, rest := nextNumber(text)
		text = rest
		name, wanted := key, true
		if e.Version == V1 {
			name, wanted = bytes.CutPrefix(key, []byte("total_"))
		}
		begun = begun || isFirstEvent(key)
		if !begun || !wanted {
			continue
		}
		event, ok := FindEvent(name)
		if !ok {
			continue
		}
		if !isNumber {
			return errNoNumber(key)
		}
		e.Count[event], e.Known[event] = n, true
	}
	return nil
}
