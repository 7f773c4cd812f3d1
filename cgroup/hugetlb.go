package cgroup

import (
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
	return found
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

// hugetlbFiles are the files of one page size along a Group's path.
type hugetlbFiles struct {
	page   hugePage
	levels []hugetlbLevelFiles
}

type hugetlbLevelFiles struct {
	path                   string
	limit, usage, reserved *file
}

func newHugetlbFiles(levels []level, version Version, pages []hugePage) []hugetlbFiles {
	if len(levels) == 0 {
		return nil
	}
	limit, usage, reserved := ".max", ".current", ".rsvd.current"
	if version == V1 {
		limit, usage, reserved = ".limit_in_bytes", ".usage_in_bytes", ".rsvd.usage_in_bytes"
	}
	var found []hugetlbFiles
	for _, page := range pages {
		h := hugetlbFiles{page: page}
		for _, l := range levels {
			name := "hugetlb." + page.name
			h.levels = append(h.levels, hugetlbLevelFiles{
				path:     l.path,
				limit:    l.dir.file(name + limit),
				usage:    l.dir.file(name + usage),
				reserved: l.dir.file(name + reserved),
			})
		}
		found = append(found, h)
	}
	return found
}

// read appends the page size to m if a level limits it.
func (f *hugetlbFiles) read(s *scratch, m *Memory) error {
	h := Hugetlb{PageSize: f.page.size, Limit: Unlimited}
	own := true
	for i := range f.levels {
		l := &f.levels[i]
		limit, ok, err := parse(l.limit, s, parseLimit)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if own {
			own = false
			if h.Usage, err = optional(l.usage, s, parseNumber); err != nil {
				return err
			}
			if h.Reserved, err = optional(l.reserved, s, parseNumber); err != nil {
				return err
			}
		}
		if limit < h.Limit {
			h.Limit, h.Path = limit, l.path
		}
	}
	if h.Limit != Unlimited {
		m.Hugetlb = append(m.Hugetlb, h)
	}
	return nil
}
