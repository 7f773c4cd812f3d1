package cgroup

import (
	"bytes"
	"fmt"
	"os"
)

// maxNodes bounds node numbers: the most that a kernel can be built with (NODES_SHIFT 10).
const maxNodes = 1024

// ReadMems is the memory nodes that the Group may use, ascending: cpuset.mems.effective | cpuset.effective_mems, else
// cpuset.mems; of the nearest cgroup that has them, which is path. It is nil where no cpuset controller applies. It is
// shared and must not be changed.
func (g *Group) ReadMems() (mems []int, path string, err error) {
	if err := g.check(); err != nil {
		return nil, "", err
	}
	s := getScratch()
	defer s.put()
	return g.readSet(&g.mems, g.own[cpuset], memsEffective, memsConfigured, s)
}

// ReadNUMAStat fills n, whose slice is reused, with the memory.numa_stat of the Group's own cgroup or, where the memory
// controller is off there, of the nearest ancestor that has it. Kernels without NUMA, and v2 before Linux 5.10, have none.
func (g *Group) ReadNUMAStat(n *NUMAStat) error {
	*n = NUMAStat{Nodes: n.Nodes[:0]}
	if err := g.check(); err != nil {
		return err
	}
	s := getScratch()
	defer s.put()
	for d := g.own[memory]; d != nil; d = d.parent {
		text, err := d.read(numaStat, s)
		if err == errMissing {
			continue
		}
		if err != nil {
			return err
		}
		if n.Nodes, err = parseNUMAStat(n.Nodes, text, d.version); err != nil {
			return d.wrap("parse", numaStat, err)
		}
		n.Version, n.Path = d.version, d.cgroup()
		return nil
	}
	return nil
}

// parseNUMAStat appends what memory.numa_stat says of each node: on v2 lines "anon N0=4096 N1=0" in bytes, on v1
// "anon=1 N0=1 N1=0" in pages, for the cgroup alone and, as "hierarchical_anon=…" since Linux 3.13, with those below it.
func parseNUMAStat(dst []MemoryStat, text []byte, version Version) ([]MemoryStat, error) {
	prefix, unit := []byte(nil), uint64(1)
	if version == V1 {
		unit = uint64(os.Getpagesize())
		if all := []byte("hierarchical_"); bytes.Contains(text, all) {
			prefix = all
		}
	}
	for len(text) > 0 {
		var key, nodes []byte
		key, nodes, text = nextField(text)
		key, ok := bytes.CutPrefix(key, prefix)
		if version == V1 {
			key, _, _ = bytes.Cut(key, []byte{'='})
		}
		for ok && len(nodes) > 0 {
			var node []byte
			node, nodes, _ = bytes.Cut(nodes, []byte{' '})
			n, value, ok := parseNode(node)
			if !ok {
				return dst, fmt.Errorf("cgroup: no line of memory.numa_stat: %.40q %.100q", key, node)
			}
			for uint64(len(dst)) <= n {
				dst = append(dst, MemoryStat{})
			}
			field := numaField(&dst[n], key, version)
			if field == nil {
				break // a key that is not wanted, of which only the nodes are taken
			}
			*field = mul(value, unit)
		}
	}
	return dst, nil
}

// parseNode reads "N1=4096".
func parseNode(text []byte) (node, value uint64, ok bool) {
	text, isNode := bytes.CutPrefix(text, []byte{'N'})
	number, count, _ := bytes.Cut(text, []byte{'='})
	node, ok1 := parseUint(number)
	value, ok2 := parseUint(count)
	return node, value, isNode && ok1 && ok2 && node < maxNodes
}

// numaField is the field of a key of memory.numa_stat, nil for one without.
func numaField(s *MemoryStat, key []byte, version Version) *uint64 {
	if version == V2 {
		return s.v2Field(key)
	}
	switch string(key) {
	case "anon", "file", "unevictable":
		return s.v2Field(key)
	}
	return nil
}
