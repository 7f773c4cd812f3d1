// Package e2e tests scopefs from outside: a real daemon, real cgroups, real containers and the programs that people run
// in them. Its tests assert on the numbers that a user sees.
//
// It needs root and /dev/fuse, and skips itself with the reason where it has neither (with $CI set it fails instead). It
// runs on cgroup v2, v1 and hybrid machines, also where there is nothing but busybox: a program that is missing skips
// what needs it. The environment decides what is tested and how long may be waited:
//
//	SCOPEFS_BIN         the scopefs to test; without it one is built (in a VM of test/vm: the one in PATH)
//	SCOPEFS_E2E_SCALE   multiplies timeouts; 1, in a VM of test/vm 10, where CPU shares are not asserted closely either
//	SCOPEFS_E2E_REPORT  a file that gets the measured numbers that are no verdicts
//
// A container is this test binary, started again as the init of new namespaces in a cgroup, see role_test.go; or what
// runc or `scopefs run` makes of it.
package e2e
