package cgroup

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// hugePage is a huge page size of the machine. The kernel fixes them at boot.
type hugePage struct {
	size uint64 // bytes
	name string // as in the controller's file names, such as "2MB"
}

// maxHugePages is more sizes than any architecture has. Kinds have room for them.
const maxHugePages = 16

const _ = math.MaxInt8 - (kinds + maxHugePages*hugetlbFiles) // a kind must fit an int8

// findHugePages lists /sys/kernel/mm/hugepages/hugepages-<n>kB, the sizes that the hugetlb controller has files for.
func findHugePages(root string) []hugePage {
	entries, err := os.ReadDir(root + "/sys/kernel/mm/hugepages")
	if err != nil {
		return nil // a kernel without huge pages
	}
	var found []hugePage
	for _, e := range entries {
		number, isSize := strings.CutPrefix(e.Name(), "hugepages-")
		number, isKiB := strings.CutSuffix(number, "kB")
		kib, err := strconv.ParseUint(number, 10, 50)
		if isSize && isKiB && err == nil && kib > 0 {
			found = append(found, hugePage{kib << 10, hugePageName(kib)})
		}
	}
	slices.SortFunc(found, func(a, b hugePage) int { return int(a.size>>10) - int(b.size>>10) })
	return found[:min(len(found), maxHugePages)]
}

// hugePageName is what the kernel's mem_fmt (mm/hugetlb_cgroup.c) makes of a size.
func hugePageName(kib uint64) string {
	switch {
	case kib >= 1<<20:
		return strconv.FormatUint(kib>>20, 10) + "GB"
	case kib >= 1<<10:
		return strconv.FormatUint(kib>>10, 10) + "MB"
	}
	return strconv.FormatUint(kib, 10) + "KB"
}

// hugetlbKind is one of the files of a page size, by the size's place in FS.hugePages: those of hugePage.names.
func hugetlbKind(page int, file kind) kind { return kinds + hugetlbFiles*kind(page) + file }

const (
	hugetlbLimit kind = iota
	hugetlbUsage
	hugetlbReserved
	hugetlbFiles
)

// names are the files of the size.
func (p *hugePage) names(version Version) [hugetlbFiles]string {
	name := "hugetlb." + p.name
	if version == V2 {
		return [...]string{name + ".max", name + ".current", name + ".rsvd.current"}
	}
	return [...]string{name + ".limit_in_bytes", name + ".usage_in_bytes", name + ".rsvd.usage_in_bytes"}
}

// readHugetlb appends the page sizes that are limited to m. That none is may be as old as recheck.
func (g *Group) readHugetlb(s *scratch, m *Memory) error {
	if g.own[hugetlb] == nil || s.now < g.hugeUnlimited.Load() {
		return nil
	}
	for page := range g.fs.hugePages {
		if err := g.readHugePage(page, s, m); err != nil {
			return err
		}
	}
	if len(m.Hugetlb) == 0 {
		g.hugeUnlimited.Store(s.now + int64(recheck))
	}
	return nil
}

// readHugePage appends one page size to m if a level limits it. Usage is that of the nearest level with the controller.
func (g *Group) readHugePage(page int, s *scratch, m *Memory) error {
	h := Hugetlb{PageSize: g.fs.hugePages[page].size, Limit: Unlimited}
	var own *dir
	for d := g.own[hugetlb]; d != nil; d = d.parent {
		limit, ok, err := d.number(hugetlbKind(page, hugetlbLimit), s, parseLimit)
		if err != nil {
			return err
		}
		if ok && own == nil {
			own = d
		}
		if ok && limit < h.Limit {
			h.Limit, h.Path = limit, d.cgroup()
		}
	}
	if h.Limit == Unlimited {
		return nil
	}
	var err error
	if h.Usage, err = own.optional(hugetlbKind(page, hugetlbUsage), s); err != nil {
		return err
	}
	if h.Reserved, err = own.optional(hugetlbKind(page, hugetlbReserved), s); err != nil {
		return err
	}
	m.Hugetlb = append(m.Hugetlb, h)
	return nil
}
