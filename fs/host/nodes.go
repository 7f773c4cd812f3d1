package host

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/scopefs/scopefs/cgroup"
)

// parsedNodes are the NUMA nodes as they were when the lists of nodes and CPUs that are online were as here: without
// hotplug neither changes, and a machine may have many nodes.
type parsedNodes struct {
	mu          sync.Mutex
	nodes, cpus []byte
	last        []Node
	text        []byte // of the list of nodes, as it is now
}

// readNodes is the NUMA nodes that are online, none where the kernel knows no such thing. cpus is the machine's list of
// CPUs that are online, and of n of them.
func (f *FS) readNodes(cpus []byte, n int) (nodes []Node, err error) {
	p := &f.parsedNodes
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.nodesOnline.err == unix.ENOENT {
		return nil, nil
	}
	if p.text, err = f.read(&f.nodesOnline, p.text[:0]); err != nil {
		return nil, err
	}
	if p.last != nil && bytes.Equal(p.nodes, p.text) && bytes.Equal(p.cpus, cpus) {
		return p.last, nil
	}
	ids, err := cgroup.ParseCPUList(nil, p.text)
	if err != nil {
		return nil, err
	}
	var path, list []byte
	for _, id := range ids {
		path = fmt.Appendf(path[:0], "node/node%d/cpulist", id)
		list, err = f.SysRead(list[:0], path)
		if err == unix.ENOENT || err == unix.ENODEV {
			continue // it went offline meanwhile
		}
		node := Node{ID: id}
		if err == nil {
			node.CPUs, err = cgroup.ParseCPUList(nil, list)
		}
		if err != nil {
			return nil, err
		}
		n -= len(node.CPUs)
		nodes = append(nodes, node)
	}
	if n == 0 { // else a CPU came or went between the lists
		p.nodes, p.cpus, p.last = append(p.nodes[:0], p.text...), append(p.cpus[:0], cpus...), nodes
	}
	return nodes, nil
}
