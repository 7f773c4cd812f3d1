package view

import (
	"bytes"
	"slices"

	"github.com/scopefs/scopefs/cgroup"
	"github.com/scopefs/scopefs/fs/host"
	"github.com/scopefs/scopefs/fs/policy"
)

// The files of /sys/devices/system/node. Nodes keep the machine's numbers: mbind(2), get_mempolicy(2) and the masks of
// /proc/PID/status use these, and nobody can renumber them. All need host.NeedNodes.

// SeesNode says whether the container sees a NUMA node: it may use memory of it, or has a visible CPU on it.
func (c *Container) SeesNode(node int, h *host.Snapshot) bool {
	return c == nil || c.usesNode(node) || c.hasCPUOn(node, h)
}

// usesNode says whether the container may use memory of a node.
func (c *Container) usesNode(node int) bool {
	_, ok := slices.BinarySearch(c.Mems, node)
	return ok || len(c.Mems) == 0
}

// hasCPUOn says whether a visible CPU is on a node.
func (c *Container) hasCPUOn(node int, h *host.Snapshot) bool {
	n := findNode(node, h)
	return n != nil && slices.ContainsFunc(n.CPUs, func(cpu int) bool {
		_, ok := slices.BinarySearch(c.CPUs, cpu)
		return ok || len(c.CPUs) == 0
	})
}

// findNode is a node of the machine that is online, nil for any other.
func findNode(node int, h *host.Snapshot) *host.Node {
	for i := range h.Nodes {
		if h.Nodes[i].ID == node {
			return &h.Nodes[i]
		}
	}
	return nil
}

// onlyNode says whether a node is the only one that the container may use memory of.
func (c *Container) onlyNode(node int, h *host.Snapshot) bool {
	if len(c.Mems) == 0 {
		return len(h.Nodes) == 1
	}
	return len(c.Mems) == 1 && c.Mems[0] == node
}

// filterNodes rewrites a list of nodes to those that keep wants. What is no list passes through.
func filterNodes(dst, text []byte, keep func(node int) bool) []byte {
	list, out := readList(text), listWriter{dst: dst}
	for r, ok := list.next(); ok; r, ok = list.next() {
		for node := r.first; node <= r.last; node++ {
			if keep(node) {
				out.add(node)
			}
		}
	}
	if list.bad {
		return append(dst, text...)
	}
	return append(out.end(), '\n')
}

// NodesVisible rewrites node/online: the nodes that the container sees.
func NodesVisible(dst, text []byte, _ int, h *host.Snapshot, c *Container) []byte {
	if c == nil {
		return append(dst, text...)
	}
	return filterNodes(dst, text, func(node int) bool { return c.SeesNode(node, h) })
}

// NodesPossible rewrites node/possible: the machine's, unless the policy is coherent, as for the CPUs.
func NodesPossible(dst, text []byte, _ int, h *host.Snapshot, c *Container) []byte {
	if c == nil || c.Policy.CPUIdentity != policy.Coherent {
		return append(dst, text...)
	}
	return filterNodes(dst, text, func(node int) bool { return findNode(node, h) != nil && c.SeesNode(node, h) })
}

// NodesWithCPU rewrites node/has_cpu: the nodes that visible CPUs are on.
func NodesWithCPU(dst, text []byte, _ int, h *host.Snapshot, c *Container) []byte {
	if c == nil {
		return append(dst, text...)
	}
	return filterNodes(dst, text, func(node int) bool { return c.hasCPUOn(node, h) })
}

// NodesWithMemory rewrites node/has_memory and its like: those of the machine's that the container may use memory of.
func NodesWithMemory(dst, text []byte, _ int, _ *host.Snapshot, c *Container) []byte {
	if c == nil {
		return append(dst, text...)
	}
	return filterNodes(dst, text, c.usesNode)
}

// NodeDistance rewrites nodeN/distance, where the kernel prints a column for each node that is online, in order: the
// columns of the nodes that the container sees.
func NodeDistance(dst, text []byte, _ int, h *host.Snapshot, c *Container) []byte {
	if c == nil {
		return append(dst, text...)
	}
	start, rest := len(dst), text
	for i := range h.Nodes {
		var column []byte
		if column, rest = cutField(rest); len(column) == 0 || !c.SeesNode(h.Nodes[i].ID, h) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(dst, column...)
	}
	return append(dst, '\n')
}

// noMemory are the counters of a container on a node that it has nothing on.
var noMemory cgroup.MemoryStat

// NodeMeminfo rewrites nodeN/meminfo: the lines that /proc/meminfo has too with the container's numbers on the node. It
// needs host.NeedMeminfo as well.
func NodeMeminfo(dst, text []byte, node int, h *host.Snapshot, c *Container) []byte {
	if !hasMemory(c) {
		return append(dst, text...)
	}
	m := newNodeMemory(parseHostMemory(text), node, h, c)
	var rows rowCursor
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		prefix, tail := cutNode(line)
		key := meminfoKey(tail)
		value, known := nodeRow(key, m, c, &rows)
		if !known {
			dst = append(dst, line...)
			continue
		}
		dst = appendMeminfo(append(dst, prefix...), tail, key, value)
	}
	return dst
}

// NodeVmstat rewrites nodeN/vmstat: the rows that say what nodeN/meminfo does with the container's numbers on the node. What
// happened on a node is not counted for each container. It needs what NodeMeminfo does.
func NodeVmstat(dst, text []byte, node int, h *host.Snapshot, c *Container) []byte {
	if !hasMemory(c) {
		return append(dst, text...)
	}
	m := newNodeMemory(hostMemory{total: cgroup.Unlimited, free: freePages(text, h)}, node, h, c)
	here := *c
	here.Events, here.IO = nil, nil
	return appendVMStat(dst, text, h, m, &here)
}

// freePages is nr_free_pages of a vmstat, in bytes.
func freePages(vmstat []byte, h *host.Snapshot) uint64 {
	for len(vmstat) > 0 {
		var line []byte
		line, vmstat = cutLine(vmstat)
		if key, value := cutField(line); string(key) == "nr_free_pages" {
			value, _ = cutField(value)
			n, _ := number(value)
			return mul(n, h.PageSize)
		}
	}
	return 0
}

// nodeRow is the container's number of a line, in kB or pages.
func nodeRow(key []byte, m memory, c *Container, rows *rowCursor) (value uint64, known bool) {
	usedKB := memTotal(m) - memFree(m)
	switch string(key) {
	case "MemUsed":
		return usedKB, true
	case "FilePages": // /proc/meminfo takes the swap cache off it and calls the rest Cached
		file := rowOf("Cached").number(m, c) + rowOf("SwapCached").number(m, c)
		return min(file, usedKB-slabReclaimable(m)), true
	}
	row := rows.find(key)
	if row == nil {
		return 0, false
	}
	return row.number(m, c), true
}

// cutNode cuts the "Node 1 " off the start of a line.
func cutNode(line []byte) (prefix, rest []byte) {
	rest, ok := bytes.CutPrefix(line, []byte("Node "))
	if !ok {
		return nil, line
	}
	_, digits := number(rest)
	if digits == 0 || digits == len(rest) || rest[digits] != ' ' {
		return nil, line
	}
	rest = rest[digits+1:]
	return line[:len(line)-len(rest)], rest
}

// newNodeMemory computes the container's memory on a node; own is what the machine has there.
func newNodeMemory(own hostMemory, node int, h *host.Snapshot, c *Container) memory {
	m := memory{stat: &noMemory, total: bound{0, machine}, free: bound{0, machine}}
	if !c.usesNode(node) {
		return m
	}
	all := newMemory(h, c)
	own.hugeSize = all.huge.size // a node's file does not say it
	m.total.bytes = min(own.total, all.total.bytes)
	m.swapTotal, m.swapAccounted = all.swapTotal, all.swapAccounted
	m.huge = newHugePages(&own, c.Memory.Hugetlb)

	used, version := uint64(0), c.Memory.Version
	switch {
	case c.onlyNode(node, h):
		// memory.stat says more than v1's numa_stat, and the numbers are those of /proc/meminfo.
		m.stat = &c.Memory.Stat
	case c.NUMA != nil && node < len(c.NUMA.Nodes):
		m.stat, version = &c.NUMA.Nodes[node], c.NUMA.Version
		if version == cgroup.V1 {
			used = m.stat.Unevictable // not a part of the others there
		}
	}
	for _, part := range [...]uint64{m.stat.Anon, m.stat.File, m.stat.SlabReclaimable, unreclaimable(m.stat, version),
		m.stat.KernelStack, m.stat.PageTables, m.stat.SecPageTables} {
		used = add(used, part)
	}
	m.free.bytes = min(own.free, all.free.bytes, sub(m.total.bytes, used))
	m.setCache(version)
	return m
}
