// Package control is the daemon's root-only control socket: a hook or `scopefs run` announces a container on it and
// gets back the subtree to bind from. One request and one response per connection, each a line of JSON.
package control

import "github.com/scopefs/scopefs/fs/policy"

// Version is the newest message version that this program speaks. A peer that speaks an older one is understood; a
// newer one is answered with an error that names this number. A field that a peer may leave out makes no new version.
const Version = 1

// The operations.
const (
	OpAnnounce = "announce" // make the subtree of a container
	OpForget   = "forget"   // drop it
	OpList     = "list"     // the containers that are announced
	OpPing     = "ping"     // is a daemon there, and which
)

// Request is one question to the daemon.
type Request struct {
	Version int    `json:"version"`
	Op      string `json:"op"`
	// ID names the container: 1 to 128 of A-Z a-z 0-9 . _ - and not starting with '.'.
	ID string `json:"id,omitempty"`
	// PID is a process of the container, in the daemon's pid namespace; 0 means the peer of the connection. Its cgroup
	// is the container's, its pid namespace's init the container's init.
	PID int `json:"pid,omitempty"`
	// Policy holds the container's own choices of how it is shown (OpAnnounce); the rest is the daemon's.
	Policy policy.Overrides `json:"policy,omitempty"`
}

// Response answers it.
type Response struct {
	Version int `json:"version"`
	// Error is empty when the operation was done.
	Error string `json:"error,omitempty"`
	// View is the container's (OpAnnounce).
	View
	// Policy is how the container is shown (OpAnnounce), or those without choices of their own (OpPing).
	Policy policy.Overrides `json:"policy,omitempty"`
	// Mount and PID are the daemon's mount point and process (OpPing).
	Mount string `json:"mount,omitempty"`
	PID   int    `json:"pid,omitempty"`
	// Fallbacks counts the reads that showed the machine's numbers because the container's could not be read, by file
	// and reason (OpPing).
	Fallbacks map[string]uint64 `json:"fallbacks,omitempty"`
	// Containers are the announced ones (OpList).
	Containers []Container `json:"containers,omitempty"`
}

// View is what a container is to be shown.
type View struct {
	// Path is the container's subtree, holding proc/ and sys/.
	Path string `json:"path,omitempty"`
	// Files are the virtual files below Path that are to be bound over the kernel's, such as "proc/meminfo".
	Files []string `json:"files,omitempty"`
	// Direct holds, for some of the Files, a kernel file that is to be bound instead, such as the cgroup's own cpu.pressure
	// for "proc/pressure/cpu". Its path is one in the daemon's mount namespace; the one below Path serves where that
	// cannot be reached.
	Direct map[string]string `json:"direct,omitempty"`
}

// Container is one announced container in a listing.
type Container struct {
	ID     string `json:"id"`
	PID    int    `json:"pid"`    // of its init, in the daemon's pid namespace
	Cgroup string `json:"cgroup"` // the path shown to people
	Path   string `json:"path"`
	// Policy is how it is shown, Overrides what of it are its own choices.
	Policy    policy.Overrides `json:"policy,omitempty"`
	Overrides policy.Overrides `json:"overrides,omitempty"`
}
