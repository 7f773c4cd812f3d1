package cgroup

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
)

// parsedSet is a set of CPUs or memory nodes, and what a file says of it.
type parsedSet struct {
	text string
	set  []int
}

// cpuSets are the sets that were parsed. A set is long, and most containers have the same.
type cpuSets struct {
	mu     sync.Mutex
	parsed map[string]*parsedSet
}

// maxSets is how many sets are kept: it bounds the memory for what nobody uses any more.
const maxSets = 256

func (c *cpuSets) parse(text []byte) (*parsedSet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parsed[string(text)]; p != nil {
		return p, nil
	}
	set, err := ParseCPUList(nil, text)
	if err != nil {
		return nil, err
	}
	if c.parsed == nil || len(c.parsed) >= maxSets {
		c.parsed = map[string]*parsedSet{}
	}
	p := &parsedSet{string(text), slices.Clip(set)}
	c.parsed[p.text] = p
	return p, nil
}

// readSet is the set of the nearest level from d on which has one, and that level; nil without one. v1's files are empty
// while nothing is configured; before Linux 3.17 there are no effective ones. The set is shared and must not be changed.
// last is what was read last.
func (g *Group) readSet(last *atomic.Pointer[parsedSet], d *dir, effective, configured kind, s *scratch) (set []int, path string, err error) {
	for ; d != nil; d = d.parent {
		k := effective
		text, err := d.read(k, s)
		if err == errMissing {
			k = configured
			text, err = d.read(k, s)
		}
		if err != nil && err != errMissing {
			return nil, "", err
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		p := last.Load()
		if p == nil || p.text != string(text) {
			if p, err = g.fs.sets.parse(text); err != nil {
				return nil, "", d.wrap("parse", k, err)
			}
			last.Store(p)
		}
		return p.set, d.cgroup(), nil
	}
	return nil, "", nil
}
