package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// file is one that is measured.
type file struct {
	name string
	path string // below the root, and below a view
}

// mainFiles are those that programs read all the time; moreFiles are measured in the table of latencies only.
var (
	mainFiles = []file{
		{"meminfo", "proc/meminfo"}, {"stat", "proc/stat"}, {"cpuinfo", "proc/cpuinfo"}, {"loadavg", "proc/loadavg"}, {"uptime", "proc/uptime"},
	}
	moreFiles = []file{
		{"swaps", "proc/swaps"}, {"diskstats", "proc/diskstats"}, {"vmstat", "proc/vmstat"}, {"online", "sys/devices/system/cpu/online"},
	}
)

// variant is a way for a container to have its files.
type variant struct {
	name   string
	daemon *daemon // nil: the kernel
	files  []string
}

// The variants, in the order of the tables.
const (
	kernel   = "kernel"
	floor    = "floor"
	own      = "own"
	ownFresh = "fresh"
	compat   = "compat"
	lxcfs    = "lxcfs"
)

// path is where the container has a file; the variant must have it.
func (v *variant) path(f file) string { return filepath.Join(view, v.name, f.name) }

func (v *variant) has(f file) bool { return slices.Contains(v.files, f.name) }

// stand is one container with all variants, and the daemons behind them. Sections share it.
type stand struct {
	*container
	variants []*variant
}

// stand starts it at the first call.
func (b *bench) stand() (*stand, error) {
	if b.st != nil {
		return b.st, nil
	}
	// The daemons come first: the container sees the mounts that there are when it starts.
	floorDaemon, err := b.startFloor()
	if err != nil {
		return nil, err
	}
	scopefs, err := b.startScopefs("scopefs")
	if err != nil {
		return nil, err
	}
	var fresh *daemon
	if b.hasFlag("--max-age") {
		if fresh, err = b.startScopefs("fresh", "--max-age", "0"); err != nil {
			return nil, err
		}
	}
	peer, err := b.startLXCFS()
	if errors.Is(err, errNoLXCFS) {
		b.logf("%v: it is left out", err)
	} else if err != nil {
		return nil, err
	}

	g, err := b.newGroup(nil)
	if err != nil {
		return nil, err
	}
	if err := g.limitMemory(1 << 30); err != nil {
		return nil, err
	}
	st := new(stand)
	if st.container, err = b.startContainer(g); err != nil {
		return nil, err
	}
	if err := st.add(kernel, nil, "/"); err != nil {
		return nil, err
	}
	if err := st.add(floor, floorDaemon, ""); err != nil {
		return nil, err
	}
	dir, err := b.announce(scopefs, st.container)
	if err != nil {
		return nil, err
	}
	if err := st.add(own, scopefs, dir); err != nil {
		return nil, err
	}
	if fresh != nil {
		if dir, err = b.announce(fresh, st.container); err != nil {
			return nil, err
		}
		if err := st.add(ownFresh, fresh, dir); err != nil {
			return nil, err
		}
	}
	if err := st.add(compat, scopefs, scopefs.mount); err != nil {
		return nil, err
	}
	if peer != nil {
		if err := st.add(lxcfs, peer, peer.mount); err != nil {
			return nil, err
		}
	}
	b.st = st
	return st, nil
}

// add binds a variant's files, those that it has, from below dir; "" binds the floor's only file for each.
func (st *stand) add(name string, d *daemon, dir string) error {
	v := &variant{name: name, daemon: d}
	var binds []bindFile
	for _, f := range slices.Concat(mainFiles, moreFiles) {
		source := filepath.Join(dir, f.path)
		if dir == "" {
			source = filepath.Join(d.mount, floorName)
		}
		if _, err := os.Stat("/" + f.path); err != nil {
			continue // this kernel has no such file
		}
		if _, err := os.Stat(source); err != nil {
			continue // LXCFS has not all
		}
		v.files = append(v.files, f.name)
		binds = append(binds, bindFile{source, filepath.Join(name, f.name)})
	}
	st.variants = append(st.variants, v)
	return st.bind(binds...)
}

// rotated is the list beginning at another place in each round, so that nobody always follows the same one.
func rotated[T any](list []T, round int) []T {
	if len(list) == 0 {
		return nil
	}
	k := round % len(list)
	return slices.Concat(list[k:], list[:k])
}
