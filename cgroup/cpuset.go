package cgroup

import (
	"bytes"
	"sync/atomic"
)

// cpusetFiles are the files of the cpuset controller along a Group's path that say which CPUs, or which memory nodes, may
// be used.
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

// newCPUSetFiles names the files of what: "cpus" or "mems".
func newCPUSetFiles(levels []level, version Version, what string) (c []cpusetLevelFiles) {
	for _, l := range levels {
		if version == V2 {
			c = append(c, cpusetLevelFiles{path: l.path, effective: l.dir.file("cpuset." + what + ".effective")})
			continue
		}
		c = append(c, cpusetLevelFiles{
			path:       l.path,
			effective:  l.dir.file("cpuset.effective_" + what),
			configured: l.dir.file("cpuset." + what),
		})
	}
	return c
}

// read is the set of the nearest level which has one, and that level; nil without one. v1's files are empty while nothing
// is configured, and the effective ones came with Linux 3.17. The set is shared and must not be changed.
func (f *cpusetFiles) read(s *scratch) (set []int, path string, err error) {
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
				return nil, "", err
			}
			if text = bytes.TrimSpace(text); len(text) == 0 {
				continue
			}
			if set, err = f.parse(text); err != nil {
				return nil, "", file.wrap("parse", err)
			}
			return set, l.path, nil
		}
	}
	return nil, "", nil
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
