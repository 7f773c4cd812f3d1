package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// PathsAt is the cgroup that a person names by its path, such as "/kubepods/pod1", in every hierarchy that has it. The
// path of its directory, below one of the mount points, is understood as well.
func (fs *FS) PathsAt(name string) (Paths, error) {
	name = path.Clean("/" + name)
	h := fs.hierarchies
	longest := ""
	for _, m := range h.mounts {
		if m != nil && isBelow(name, m.point) && len(m.point) > len(longest) {
			longest = m.point
		}
	}
	if longest != "" {
		name = path.Clean("/" + strings.TrimPrefix(name, longest))
	}
	var p Paths
	var found bool
	for at := range hierarchies {
		m := h.mounts[at]
		if m == nil {
			continue
		}
		rel, ok := m.rel(name)
		if !ok {
			continue
		}
		_, err := os.Stat(m.point + rel)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Paths{}, err
		}
		*p.field(at) = name
		found = true
	}
	if !found {
		return Paths{}, fmt.Errorf("%w: no hierarchy has %s", ErrGone, name)
	}
	return p, nil
}
