package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/scopefs/scopefs/fs/control"
)

// What the sections about many containers share.

// startPeer starts LXCFS; nil where it is not installed.
func (b *bench) startPeer() (*daemon, error) {
	d, err := b.startLXCFS()
	if errors.Is(err, errNoLXCFS) {
		b.logf("%v: it is left out", err)
		return nil, nil
	}
	return d, err
}

// apart does f and undoes what it has made.
func (b *bench) apart(f func() error) error {
	defer b.closeTo(b.mark())
	return f()
}

// newContainer starts a container in a cgroup of its own, with a limit of memory.
func (b *bench) newContainer() (*container, error) {
	g, err := b.newGroup(nil)
	if err != nil {
		return nil, err
	}
	if err := g.limitMemory(1 << 30); err != nil {
		return nil, err
	}
	return b.startContainer(g)
}

// way is a way to have a file, and the daemon behind it.
type way struct {
	variant string
	*daemon
}

// startWays starts the daemons of these variants, as far as the program under test knows them and LXCFS is installed.
func (b *bench) startWays(variants ...string) (ways []way, err error) {
	var scopefs *daemon // serves both trees
	for _, v := range variants {
		w := way{v, scopefs}
		switch {
		case v == lxcfs:
			w.daemon, err = b.startPeer()
		case v == floor:
			w.daemon, err = b.startFloor()
		case v == ownFresh && !b.hasFlag("--max-age"):
			b.logf("%s has no --max-age: %s is left out", b.options.scopefs, v)
			continue
		case v == ownFresh:
			w.daemon, err = b.startScopefs("fresh", "--max-age", "0")
		case scopefs == nil:
			w.daemon, err = b.startScopefs("scopefs")
			scopefs = w.daemon
		}
		if err != nil {
			return nil, err
		}
		if w.daemon != nil {
			ways = append(ways, w)
		}
	}
	return ways, nil
}

// checkFallbacks fails when a container was shown the machine's numbers for want of its own, which are cheaper.
func (b *bench) checkFallbacks(ways []way) error {
	for _, w := range ways {
		if w.daemon == nil || w.socket == "" {
			continue
		}
		info, err := control.Call(b.ctx, w.socket, control.Request{Op: control.OpPing})
		if err != nil {
			return w.failed(err)
		}
		if len(info.Fallbacks) > 0 {
			return w.failed(fmt.Errorf("containers were shown the machine's numbers: %v", info.Fallbacks))
		}
	}
	return nil
}

// tree is the directory of the container's files. A container with an own tree is announced.
func (w way) tree(b *bench, id string, pid int) (string, error) {
	if w.socket == "" || w.variant == compat {
		return w.mount, nil
	}
	v, err := control.Announce(b.ctx, w.socket, id, pid)
	if err != nil {
		return "", w.failed(fmt.Errorf("announcing %s: %w", id, err))
	}
	return v.Path, nil
}

// firstReads are the files that each container of a herd reads once.
var firstReads = []string{"proc/meminfo", "proc/stat", "proc/cpuinfo", "proc/loadavg", "proc/uptime", "proc/swaps", "proc/diskstats"}

// below are the files' paths in a directory.
func below(dir string, files []string) []string {
	var list []string
	for _, f := range files {
		list = append(list, filepath.Join(dir, f))
	}
	return list
}

// source is a directory with files that a container has, as the reader of latencies is to find them.
type source struct {
	variant string
	params  Params // that tell it from others of the same variant
	in      *container
	dir     string // of the bound files
}

// bindIn binds the files of a source in a container.
func bindIn(c *container, variant, name, dir string, params Params, files []file) (source, error) {
	s := source{variant: variant, params: params, in: c, dir: filepath.Join(view, name)}
	var binds []bindFile
	for _, f := range files {
		from := filepath.Join(dir, f.path)
		if variant == floor {
			from = filepath.Join(dir, floorName)
		}
		binds = append(binds, bindFile{from, filepath.Join(name, f.name)})
	}
	return s, c.bind(binds...)
}

// p50Rounds measures the sources of one file in turn, round for round, and records p50 and p99.
func (b *bench) p50Rounds(sources []source, f file, placement string, rounds, count int, params Params) error {
	p50, p99 := make([][]float64, len(sources)), make([][]float64, len(sources))
	order := make([]int, len(sources))
	for i := range order {
		order[i] = i
	}
	for round := range rounds {
		for _, i := range rotated(order, round) {
			s := sources[i]
			o := latencyOrder{Path: filepath.Join(s.dir, f.name), Count: count, Warm: count / 10, CPUs: cpusOf(placement)}
			l, err := s.in.latency(o)
			if err != nil {
				return err
			}
			p50[i], p99[i] = append(p50[i], l.P50/1000), append(p99[i], l.P99/1000)
		}
	}
	for i, s := range sources {
		p := params.with(s.params).with(Params{"file": f.name, "variant": s.variant, "placement": placement})
		b.record(Measurement{Name: "p50", Unit: "µs", Params: p, Rounds: p50[i]})
		b.record(Measurement{Name: "p99", Unit: "µs", Params: p, Rounds: p99[i]})
	}
	return nil
}

// recordFootprint records what a daemon holds, memory in megabytes of 10⁶ bytes.
func (b *bench) recordFootprint(d *daemon, params Params) error {
	f, err := d.footprint()
	if err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		kB   int
	}{{"RSS", f.RSS}, {"PSS", f.PSS}, {"RssAnon", f.RssAnon}, {"RssFile", f.RssFile}, {"RssShmem", f.RssShmem}} {
		b.record(Measurement{Name: m.name, Unit: "MB", Params: params, Rounds: []float64{float64(m.kB) * 1024 / 1e6}})
	}
	b.record(Measurement{Name: "descriptors", Params: params, Rounds: []float64{float64(f.Descriptors)}})
	b.record(Measurement{Name: "threads", Params: params, Rounds: []float64{float64(f.Threads)}})
	return nil
}

// footprintColumns are the cells of what a daemon holds in a table, footprintCells those of a row.
var footprintColumns = []string{"RSS, MB", "PSS", "RssAnon", "RssFile", "RssShmem", "descriptors", "threads"}

func footprintCells(r *Result, section string, params Params) (cells []string) {
	for _, name := range []string{"RSS", "PSS", "RssAnon", "RssFile", "RssShmem"} {
		cells = append(cells, number(r.value(section, name, params)))
	}
	for _, name := range []string{"descriptors", "threads"} {
		cells = append(cells, count(r.value(section, name, params)))
	}
	return cells
}

// filesNamed are the main files of these names.
func filesNamed(names ...string) []file {
	return slices.DeleteFunc(slices.Clone(mainFiles), func(f file) bool { return !slices.Contains(names, f.name) })
}

func micros(d time.Duration) float64 { return float64(d) / 1000 }

// count is a whole number.
func count(v float64, ok bool) string {
	if !ok || v >= 1000 {
		return number(v, ok)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func most(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	return slices.Max(list)
}
