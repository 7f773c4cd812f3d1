package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// pressureFile is what a pressure file looks like: before Linux 5.13 cpu has no line "full", and irq has no "some".
var pressureFile = regexp.MustCompile(`\A((some|full) avg10=\d+\.\d\d avg60=\d+\.\d\d avg300=\d+\.\d\d total=\d+\n){1,2}\z`)

// pressures are the resources whose pressure this kernel counts.
var pressures = func() (list []string) {
	for _, r := range []string{"cpu", "memory", "io", "irq"} {
		if _, err := os.Stat("/proc/pressure/" + r); err == nil {
			list = append(list, r)
		}
	}
	return list
}()

func init() {
	for _, r := range pressures {
		files["proc/pressure/"+r] = pressureFile
	}
}

// countsPressure says whether the machine's cgroups count pressure: those of v2 do.
var countsPressure = sync.OnceValue(func() bool {
	return len(pressures) > 0 && slices.ContainsFunc(hierarchies(), func(h hierarchy) bool { return h.v2 })
})

// pressureOf is the group's own pressure file; "" where there is none.
func (g *group) pressureOf(resource string) string {
	for _, h := range hierarchies() {
		if h.v2 {
			return filepath.Join(h.dir, g.path, resource+".pressure")
		}
	}
	return ""
}

// modeOf is the mode of the kernel's own file.
func modeOf(t *testing.T, file string) fs.FileMode {
	t.Helper()
	if !strings.HasPrefix(file, "proc/pressure/") {
		return 0o444
	}
	fi, err := os.Stat("/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode()
}
