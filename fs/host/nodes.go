package host

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

// parsedNodes are the NUMA nodes as they were when the lists of nodes and CPUs that are online were as here: without
// hotplug neither changes, and a machine may have many nodes.
type parsedNodes struct {
	mu          sync.Mutex
	nodes, cpus string
	last        []Node
	text        []byte // of the last file read
}

// readNodes is the NUMA nodes that are online, none where the kernel knows no such thing. cpus is the machine's list of
// CPUs that are online, and of n of them.
func (f *FS) readNodes(cpus []byte, n int) (nodes []Node, err error) {
	p := &f.parsedNodes
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, err = f.SysRead(p.text[:0], "node/online")
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if p.nodes == string(p.text) && p.cpus == string(cpus) {
		return p.last, nil
	}
	online := string(p.text)
	ids, err := cgroup.ParseCPUList(nil, p.text)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		p.text, err = f.SysRead(p.text[:0], "node/node"+strconv.Itoa(id)+"/cpulist")
		if err == unix.ENOENT || err == unix.ENODEV {
			continue // it went offline meanwhile
		}
		node := Node{ID: id}
		if err == nil {
			node.CPUs, err = cgroup.ParseCPUList(nil, p.text)
		}
		if err != nil {
			return nil, err
		}
		n -= len(node.CPUs)
		nodes = append(nodes, node)
	}
	if n == 0 { // else a CPU came or went between the lists
		p.nodes, p.cpus, p.last = online, string(cpus), nodes
	}
	return nodes, nil
}
