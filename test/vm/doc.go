// Package vm runs the project's tests in virtual machines, on kernels and
// cgroup layouts that this machine does not have.
//
// run.sh builds every package's tests as static binaries, puts them with
// busybox and a few real programs into an initramfs, and boots it on Debian's
// kernels under qemu. In the guest SCOPEFS_VM is 1, SCOPEFS_LANE names the
// lane and SCOPEFS_CGROUPS its cgroup layout; binaries lie in bin/ of a tree
// like the repository's and in PATH.
//
// This package's own tests check that the guest is the machine it claims to be,
// so that a test which finds something missing there has found a fault.
package vm
