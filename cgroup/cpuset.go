package cgroup

import (
	"bytes"
	"sync/atomic"
)

// cpusetFiles are the files of the cpuset controller along a Group's path.
type cpusetFiles struct {
	levels []cpusetLevelFiles
	// last is what was parsed last: a cpuset is long and rarely changes.
	last atomic.Pointer[parsedSet]
}

type cpusetLevelFiles struct {
	path                  string
	effective, configured *file // configured is v1 only
}

type parsedSet struct {
	text string
	set  []int
}

func newCPUSetFiles(levels []level, version Version) (c []cpusetLevelFiles) {
	for _, l := range levels {
		if version == V2 {
			c = append(c, cpusetLevelFiles{path: l.path, effective: l.dir.file("cpuset.cpus.effective")})
			continue
		}
		c = append(c, cpusetLevelFiles{
			path:       l.path,
			effective:  l.dir.file("cpuset.effective_cpus"),
			configured: l.dir.file("cpuset.cpus"),
		})
	}
	return c
}

// read fills the set in: that of the nearest level which has one. v1's files are empty while nothing is configured, and
// effective_cpus came with Linux 3.17.
func (f *cpusetFiles) read(s *scratch, c *CPU) error {
	for i := range f.levels {
		l := &f.levels[i]
		for _, file := range [...]*file{l.effective, l.configured} {
			if file == nil {
				continue
			}
			text, err := file.read(s)
			if err == errMissing {
				continue
			}
			if err != nil {
				return err
			}
			if text = bytes.TrimSpace(text); len(text) == 0 {
				continue
			}
			if c.Set, err = f.parse(text); err != nil {
				return file.wrap("parse", err)
			}
			c.SetPath = l.path
			return nil
		}
	}
	return nil
}

func (f *cpusetFiles) parse(text []byte) ([]int, error) {
	if last := f.last.Load(); last != nil && last.text == string(text) {
		return last.set, nil
	}
	set, err := ParseCPUList(nil, text)
	if err != nil {
		return nil, err
	}
	f.last.Store(&parsedSet{string(text), set})
	return set, nil
}
