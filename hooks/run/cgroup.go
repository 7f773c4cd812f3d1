package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// rootGroup holds the cgroups of all runs that name no other parent.
const rootGroup = "/scopefs"

// group is the container's cgroup in every hierarchy that is mounted.
type group struct {
	path    string
	v1      cgroup1.Cgroup   // nil on a host with cgroup v2 alone
	v2      *cgroup2.Manager // nil on a host with cgroup v1 alone
	v2dir   string
	unified bool // cgroup v2 alone
}

// createGroup makes the cgroup path and sets its limits. What a failure leaves is removed by removeGroup.
func createGroup(path string, l Limits) (*group, error) {
	g := &group{path: path}
	mode := cgroups.Mode()
	var legacy, v2 []string
	switch mode {
	case cgroups.Unavailable:
		return nil, fmt.Errorf("no cgroups are mounted on %s", cgroupRoot)
	case cgroups.Unified:
		g.unified, g.v2dir = true, cgroupRoot
	case cgroups.Hybrid:
		g.v2dir = filepath.Join(cgroupRoot, "unified")
	}
	if g.v2dir != "" {
		b, err := os.ReadFile(filepath.Join(g.v2dir, "cgroup.controllers"))
		if err != nil {
			return nil, err
		}
		for c := range strings.FieldsSeq(string(b)) {
			if slices.Contains([]string{"cpu", "cpuset", "io", "memory", "pids"}, c) {
				v2 = append(v2, c)
			}
		}
	}
	var subsystems []cgroup1.Subsystem
	if !g.unified {
		subsystems = legacySubsystems()
		for _, s := range subsystems {
			legacy = append(legacy, string(s.Name()))
		}
	}
	if err := checkControllers(l, legacy, v2); err != nil {
		return nil, err
	}
	if len(subsystems) > 0 {
		if err := g.createLegacy(subsystems, l); err != nil {
			return nil, fmt.Errorf("cgroup %s: %w", path, err)
		}
	}
	if g.v2dir != "" {
		if err := g.createV2(v2, l); err != nil {
			return nil, fmt.Errorf("cgroup %s: %w", path, err)
		}
	}
	return g, nil
}

// checkControllers says which limit no mounted hierarchy can set.
func checkControllers(l Limits, legacy, v2 []string) error {
	for _, n := range []struct {
		flag, controller string
		set              bool
	}{
		{"--memory", "memory", l.Memory != 0},
		{"--swap", "memory", l.Swap != nil},
		{"--cpus", "cpu", l.CPUs != 0},
		{"--cpuset", "cpuset", l.Cpuset != ""},
		{"--pids", "pids", l.Pids != 0},
	} {
		if n.set && !slices.Contains(legacy, n.controller) && !slices.Contains(v2, n.controller) {
			return fmt.Errorf("%s: this host has no %s controller (see /proc/cgroups; a kernel may need cgroup_enable=%[2]s)", n.flag, n.controller)
		}
	}
	return nil
}

// legacySubsystems returns the mounted v1 controllers that a container gets a cgroup in. The library's own list is not
// used: it would also enter systemd's named hierarchy, and fail where a kernel lacks a rare controller.
func legacySubsystems() []cgroup1.Subsystem {
	all := []cgroup1.Subsystem{
		cgroup1.NewMemory(cgroupRoot), cgroup1.NewCpu(cgroupRoot), cgroup1.NewCpuacct(cgroupRoot), cgroup1.NewCpuset(cgroupRoot),
		cgroup1.NewPids(cgroupRoot), cgroup1.NewBlkio(cgroupRoot), cgroup1.NewFreezer(cgroupRoot), cgroup1.NewDevices(cgroupRoot),
	}
	return slices.DeleteFunc(all, func(s cgroup1.Subsystem) bool {
		_, err := os.Stat(filepath.Join(cgroupRoot, string(s.Name()), "cgroup.procs"))
		return err != nil
	})
}

func (g *group) createLegacy(subsystems []cgroup1.Subsystem, l Limits) error {
	res := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: l.Cpuset}}
	memory := filepath.Join(cgroupRoot, "memory")
	hasMemory := slices.ContainsFunc(subsystems, func(s cgroup1.Subsystem) bool { return s.Name() == cgroup1.Memory })
	if hasMemory {
		if err := makeHierarchical(filepath.Join(memory, filepath.Dir(g.path))); err != nil {
			return err
		}
		res.Memory = &specs.LinuxMemory{}
		if l.Memory != 0 {
			res.Memory.Limit = &l.Memory
		}
		if l.Swap != nil {
			if l.Memory == 0 {
				return errors.New("--swap: cgroup v1 limits memory and swap together, so it needs --memory")
			}
			if _, err := os.Stat(filepath.Join(memory, "memory.memsw.limit_in_bytes")); err != nil {
				return errNoSwap
			}
			both := l.Memory + *l.Swap
			res.Memory.Swap = &both
		}
	}
	if l.CPUs != 0 {
		quota, p := l.quota(), uint64(period)
		res.CPU.Quota, res.CPU.Period = &quota, &p
	}
	if l.Pids != 0 {
		res.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	var err error
	g.v1, err = cgroup1.New(cgroup1.StaticPath(g.path), res, cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) { return subsystems, nil }))
	return explain(err, l)
}

var errNoSwap = errors.New("--swap: this kernel does not account swap: boot it with swapaccount=1")

// explain says in the user's words why the kernel refused a limit.
func explain(err error, l Limits) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		switch filepath.Base(pe.Path) {
		case "cpuset.cpus":
			return fmt.Errorf("--cpuset %s: not within the CPUs that the parent cgroup may use: %w", l.Cpuset, err)
		case "cpu.cfs_quota_us":
			return fmt.Errorf("--cpus %v: perhaps more than the parent cgroup may use: %w", l.CPUs, err)
		}
	}
	return err
}

// makeHierarchical makes dir account for its children: kernels before 5.11 otherwise treat each level of the v1 memory
// hierarchy alone, and take the switch only while there are no children. A parent that exists is left as it is.
func makeHierarchical(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, "memory.use_hierarchy")
	b, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(b)) == "1" {
		return nil // a kernel that knows nothing else
	}
	return os.WriteFile(file, []byte("1"), 0)
}

func (g *group) createV2(controllers []string, l Limits) error {
	dir := filepath.Join(g.v2dir, g.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var err error
	if g.v2, err = cgroup2.Load(g.path, cgroup2.WithMountpoint(g.v2dir)); err != nil {
		return err
	}
	if len(controllers) == 0 {
		return nil // hybrid: the cgroup is there for its pressure files
	}
	// All controllers, not only those with a limit: a view reads the usage from them.
	if err := g.v2.ToggleControllers(controllers, cgroup2.Enable); err != nil {
		return fmt.Errorf("the controllers %s cannot be enabled in its parent; a cgroup that has processes of its own cannot hand any down: %w",
			strings.Join(controllers, ", "), err)
	}
	res := &cgroup2.Resources{CPU: &cgroup2.CPU{}, Memory: &cgroup2.Memory{}}
	if has := slices.Contains(controllers, "memory"); has && l.Memory != 0 {
		res.Memory.Max = &l.Memory
	}
	if has := slices.Contains(controllers, "memory"); has && l.Swap != nil {
		if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err != nil {
			return errNoSwap
		}
		res.Memory.Swap = l.Swap
	}
	if slices.Contains(controllers, "cpu") && l.CPUs != 0 {
		quota, p := l.quota(), uint64(period)
		res.CPU.Max = cgroup2.NewCPUMax(&quota, &p)
	}
	if slices.Contains(controllers, "cpuset") {
		res.CPU.Cpus = l.Cpuset
	}
	if slices.Contains(controllers, "pids") && l.Pids != 0 {
		res.Pids = &cgroup2.Pids{Max: l.Pids}
	}
	return explain(g.v2.Update(res), l)
}

// dir opens the cgroup for CLONE_INTO_CGROUP, which knows cgroup v2 alone; nil where that does not do.
func (g *group) dir() *os.File {
	if !g.unified {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(g.v2dir, g.path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	return f
}

// add moves process pid, all its threads, into the cgroup.
func (g *group) add(pid int) error {
	if g.v1 != nil {
		if err := untilTaken(func() error { return g.v1.AddProc(uint64(pid)) }); err != nil {
			return err
		}
	}
	if g.v2 != nil {
		return untilTaken(func() error { return g.v2.AddProc(uint64(pid)) })
	}
	return nil
}

// untilTaken calls add again where the kernel refused a process for a thread that it was just making, which Go's runtime
// does at any time: the cpu controller takes none that has not run yet (cpu_cgroup_can_attach, kernel/sched/core.c).
func untilTaken(add func() error) (err error) {
	for range 100 {
		if err = add(); !errors.Is(err, unix.EINVAL) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// groupDirs returns where the cgroup path may be.
func groupDirs(path string) []string {
	if cgroups.Mode() == cgroups.Unified {
		return []string{filepath.Join(cgroupRoot, path)}
	}
	var dirs []string
	for _, s := range legacySubsystems() {
		dirs = append(dirs, filepath.Join(cgroupRoot, string(s.Name()), path))
	}
	return append(dirs, filepath.Join(cgroupRoot, "unified", path))
}

// removeGroup kills what is left in the cgroup path and in those that the container made below it, and removes them. A
// process that dies keeps its cgroup busy for a moment, so it tries for a while.
func removeGroup(path string) error {
	const patience = 5 * time.Second
	pause := time.Millisecond
	for start := time.Now(); ; {
		var errs []error
		for _, dir := range groupDirs(path) {
			if err := removeTree(dir); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) == 0 {
			return nil
		}
		if time.Since(start) > patience {
			return errors.Join(errs...)
		}
		for _, dir := range groupDirs(path) {
			killTree(dir)
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// removeRootGroup removes the cgroup of all runs if none uses it. The caller holds the lock under which runs make theirs.
func removeRootGroup() {
	for _, dir := range groupDirs(rootGroup) {
		_ = unix.Rmdir(dir) // EBUSY: another run uses it
	}
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// killTree kills every process of a cgroup and of those below it. What fails here fails to be removed, which is reported.
func killTree(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			killTree(path)
		case e.Name() == "freezer.state":
			_ = os.WriteFile(path, []byte("THAWED"), 0) // a frozen process does not die
		case e.Name() == "cgroup.kill":
			_ = os.WriteFile(path, []byte("1"), 0) // cgroup.procs below does the same, slower
		case e.Name() == "cgroup.procs":
			b, _ := os.ReadFile(path)
			for line := range strings.FieldsSeq(string(b)) {
				var pid int
				// 0 is a process that this pid namespace cannot see: killing that would kill us.
				if _, err := fmt.Sscan(line, &pid); err == nil && pid > 1 {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
		}
	}
}
