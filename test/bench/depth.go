package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// runDepth reads in containers whose cgroups lie at several depths below the root, every second level with limits.
func runDepth(b *bench) error {
	defer b.closeTo(b.mark())
	depths := pick(b, []int{1, 5, 10}, []int{1, 3})
	ways, err := b.startWays(floor, own, compat, ownFresh, lxcfs)
	if err != nil {
		return err
	}
	var sources []source
	for _, depth := range depths {
		g, err := b.newDeepGroup(depth)
		if err != nil {
			return err
		}
		c, err := b.startContainer(g)
		if err != nil {
			return err
		}
		for _, w := range ways {
			dir, err := w.tree(b, c.id, c.pid())
			if err != nil {
				return err
			}
			s, err := bindIn(c, w.variant, w.variant, dir, Params{"depth": strconv.Itoa(depth)}, mainFiles)
			if err != nil {
				return err
			}
			sources = append(sources, s)
		}
	}
	for _, w := range ways {
		if err := w.pin(cpusOf(sameCPU)); err != nil {
			return err
		}
	}
	for _, f := range filesNamed("meminfo", "stat", "loadavg") {
		if err := b.p50Rounds(sources, f, sameCPU, pick(b, 9, 2), pick(b, 400, 10), Params{}); err != nil {
			return err
		}
	}
	return b.checkFallbacks(ways)
}

// newDeepGroup makes a cgroup so many levels below the root, the first, third and so on with limits.
func (b *bench) newDeepGroup(depth int) (g *group, err error) {
	for level := range depth {
		if g, err = b.newGroup(g); err != nil {
			return nil, err
		}
		if level%2 == 0 {
			if err := g.limitMemory(int64(4<<30 - level<<24)); err != nil {
				return nil, err
			}
			if err := g.limitCPUs(2); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

// limitCPUs sets the quota, where a controller for it exists.
func (g *group) limitCPUs(n int) error {
	h, ok := controllerOf("cpu")
	if !ok {
		return nil
	}
	const period = 100000
	file, value := "cpu.cfs_quota_us", strconv.Itoa(n*period)
	if h.v2 {
		file, value = "cpu.max", fmt.Sprint(n*period, " ", period)
	}
	return os.WriteFile(filepath.Join(h.dir, g.path, file), []byte(value), 0)
}

func reportDepth(r *Result, p *page) {
	depths := r.values("depth", "depth")
	p.text("p50 in µs, reader and daemon on one CPU, in containers whose cgroup lies so many levels below the root, every second level with limits of memory and CPU. "+
		"×: divided by that at depth %s, of the same rounds. The floor's is the scheduler's: it counts a switch between reader and daemon at every level.", depths[0])
	t := p.table(append([]string{"file", "variant"}, depths...)...)
	for _, f := range r.values("depth", "file") {
		for _, v := range r.values("depth", "variant") {
			row := []string{f, v}
			for i, n := range depths {
				cell := number(r.value("depth", "p50", depthParams(f, v, n)))
				if i > 0 {
					cell += ", " + times(r.ratio("depth", "p50", depthParams(f, v, n), depthParams(f, v, depths[0])))
				}
				row = append(row, cell)
			}
			t.row(row...)
		}
	}
}

func depthParams(f, variant, depth string) Params {
	return Params{"file": f, "variant": variant, "depth": depth, "placement": sameCPU}
}

func depthBudgets(r *Result) []Budget {
	var list []Budget
	depths := r.values("depth", "depth")
	first, last := depths[0], depths[len(depths)-1]
	for _, v := range []string{own, ownFresh, compat} {
		for _, f := range r.values("depth", "file") {
			if ratio, ok := r.ratio("depth", "p50", depthParams(f, v, last), depthParams(f, v, first)); ok {
				list = append(list, budget(fmt.Sprintf("p50 of %s, %s, at depth %s ÷ at %s", f, v, last, first), ratio, 1.5, "×"))
			}
		}
	}
	return list
}
