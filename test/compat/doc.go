// Package compat runs the programs that people run in containers, in a container with the view bound over the kernel's
// files, and checks what each of them prints: the container's numbers, or the machine's where no file can help.
//
//	go test ./test/compat            fails when a program prints another's numbers, or docs/compat.md says otherwise
//	go test ./test/compat -update    writes docs/compat.md
//
// Each program runs in two containers, as a number of CPUs can be the machine's by chance. Root file systems are made by mmdebstrap from Debian's packages and kept in ~/.cache/scopefs/compat. It
// needs root and runc, and no VM.
package compat
