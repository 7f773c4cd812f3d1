package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// peerMost is up to how many containers LXCFS is measured beside scopefs.
const peerMost = 500

// The daemons of the section: two of each kind, of which one knows the container that reads, the other all.
const (
	lonely  = "1"
	crowded = "all"
)

// runScale reads in one container of few and of many, through a daemon that knows no other and through one that knows
// all, in turn.
func runScale(b *bench) error {
	defer b.closeTo(b.mark())
	sizes := pick(b, []int{1, 100, 500, 2000}, []int{1, 5})
	var ways [2][]way
	for i := range ways {
		var err error
		if ways[i], err = b.startWays(own, ownFresh, lxcfs); err != nil {
			return err
		}
	}
	crowd := ways[1]
	if err := b.recordCrowd(crowd, 0); err != nil {
		return err
	}
	c, err := b.newContainer()
	if err != nil {
		return err
	}
	var sources []source
	for i, known := range []string{lonely, crowded} {
		for _, w := range ways[i] {
			dir, err := w.tree(b, c.id, c.pid())
			if err != nil {
				return err
			}
			s, err := bindIn(c, w.variant, w.variant+"-"+known, dir, Params{"known": known}, mainFiles)
			if err != nil {
				return err
			}
			sources = append(sources, s)
			for _, f := range mainFiles {
				if _, err := c.latency(latencyOrder{Path: filepath.Join(s.dir, f.name), Count: 1, CPUs: allCPUs}); err != nil {
					return err
				}
			}
		}
	}

	h, err := b.startHerd("idle", 1)
	if err != nil {
		return err
	}
	for _, n := range sizes {
		if n > peerMost {
			crowd = slices.DeleteFunc(crowd, func(w way) bool { return w.variant == lxcfs })
			sources = slices.DeleteFunc(sources, func(s source) bool { return s.variant == lxcfs })
		}
		begun := time.Now()
		err := h.grow(b, n-1, func(i *idler) error {
			var paths []string
			for _, w := range crowd {
				dir, err := w.tree(b, i.id, i.pid())
				if err != nil {
					return err
				}
				paths = append(paths, below(dir, firstReads)...)
			}
			return i.read(paths...)
		})
		if err != nil {
			return fmt.Errorf("with %d containers: %w", n, err)
		}
		b.logf("%d containers after %.1f s", n, time.Since(begun).Seconds())
		if err := b.recordCrowd(crowd, n); err != nil {
			return err
		}
		for _, placement := range placements {
			for _, w := range slices.Concat(ways[0], crowd) {
				if err := w.pin(cpusOf(placement)); err != nil {
					return err
				}
			}
			for _, f := range filesNamed("meminfo", "stat", "loadavg") {
				err := b.p50Rounds(sources, f, placement, pick(b, 9, 2), pick(b, 400, 10), Params{"containers": strconv.Itoa(n)})
				if err != nil {
					return err
				}
			}
		}
		if err := b.checkFallbacks(crowd); err != nil {
			return fmt.Errorf("with %d containers: %w", n, err)
		}
	}
	return nil
}

// recordCrowd records what the daemons hold that know all containers.
func (b *bench) recordCrowd(crowd []way, containers int) error {
	for _, w := range crowd {
		if w.variant == ownFresh {
			continue // as own
		}
		if err := b.recordFootprint(w.daemon, Params{"containers": strconv.Itoa(containers), "variant": w.variant}); err != nil {
			return err
		}
	}
	return nil
}

// scaleParams are those of a latency in one of n containers.
func scaleParams(n, f, variant, placement, knows string) Params {
	return Params{"containers": n, "file": f, "variant": variant, "placement": placement, "known": knows}
}

// scaleRatio is the p50 with a daemon that knows all containers, divided by that with one that knows no other.
func scaleRatio(r *Result, n, f, variant, placement string) (float64, bool) {
	return r.ratio("scale", "p50", scaleParams(n, f, variant, placement, crowded), scaleParams(n, f, variant, placement, lonely))
}

func reportScale(r *Result, p *page) {
	p.text("p50 in µs in one of many containers, each with cgroups, a pid namespace and an idle process of its own; each was announced and has read the main files once. "+
		"×: the p50 divided by that with a daemon that knows no other container, of the same rounds. LXCFS is measured up to %d.", peerMost)
	sizes := r.values("scale", "containers")
	t := p.table(append([]string{"file", "variant", "placement"}, sizes[1:]...)...)
	for _, f := range r.values("scale", "file") {
		for _, v := range r.values("scale", "variant") {
			for _, placement := range r.values("scale", "placement") {
				row := []string{f, v, placement}
				for _, n := range sizes[1:] { // the first is of no container
					us, ok := r.value("scale", "p50", scaleParams(n, f, v, placement, crowded))
					ratio, _ := scaleRatio(r, n, f, v, placement)
					cell := number(us, ok)
					if ok {
						cell += ", " + times(ratio, ok)
					}
					row = append(row, cell)
				}
				t.row(row...)
			}
		}
	}
	plotScale(r, p)
	p.text("What the daemons hold once all containers have read. Threads stand for goroutines, which a daemon does not tell.")
	t = p.table(append([]string{"containers", "daemon"}, footprintColumns...)...)
	for _, m := range r.Measurements {
		if m.Section == "scale" && m.Name == "RSS" {
			t.row(append([]string{m.Params["containers"], m.Params["variant"]}, footprintCells(r, "scale", m.Params)...)...)
		}
	}
}

func scaleBudgets(r *Result) []Budget {
	var list []Budget
	sizes := r.values("scale", "containers")
	last := sizes[len(sizes)-1]
	for _, f := range r.values("scale", "file") {
		// Where the scheduler places freely, the p50 of a whole round is that of one CPU or that of two.
		if ratio, ok := scaleRatio(r, last, f, own, sameCPU); ok {
			list = append(list, budget(fmt.Sprintf("p50 of %s, %s, at %s containers ÷ at 1", f, sameCPU, last), ratio, 1.1, "×"))
		}
	}
	for _, of := range []struct {
		containers string
		limit      float64
	}{{"0", 14}, {"500", 20}} {
		if mb, ok := r.value("scale", "RSS", Params{"containers": of.containers, "variant": own}); ok {
			list = append(list, budget("resident memory at "+of.containers+" containers", mb, of.limit, " MB"))
		}
	}
	return list
}
