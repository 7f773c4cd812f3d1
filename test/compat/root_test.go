package compat

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// distribution is a root file system of Debian packages.
type distribution struct {
	suite, title string
	packages     []string
}

var (
	bullseye = distribution{"bullseye", "Debian 11", []string{
		"base-passwd", "coreutils", "dash", "libc-bin", "ncurses-base", "procps", "strace", "util-linux",
	}}
	bookworm = distribution{"bookworm", "Debian 12", []string{
		"base-passwd", "bsdutils", "busybox", "coreutils", "dash", "ecj", "glances", "grep", "htop", "hwloc-nox", "iproute2", "libc-bin",
		"mount", "ncurses-base", "nginx-light", "nodejs", "numactl", "openjdk-17-jre-headless", "procps", "prometheus-node-exporter", "python3",
		"python3-psutil", "strace", "sysstat", "util-linux",
	}}
)

// afterExtract does what the maintainer scripts, which are not run, would have done that programs here need.
const afterExtract = `
cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
[ -e "$1/bin/sh" ] || ln -s dash "$1/bin/sh"
mkdir -p "$1/compat"
chmod 755 "$1"
rm -rf "$1/usr/share/locale" "$1/usr/share/man"`

// root is the directory with the root file system, which is made when the cache does not have it.
func (d distribution) root(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "scopefs", "compat")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	include := strings.Join(d.packages, ",")
	sum := sha256.Sum256([]byte(include + afterExtract))
	root := filepath.Join(cache, fmt.Sprintf("%s-%x", d.suite, sum[:4]))
	if _, err := os.Stat(root); err == nil {
		return root
	}
	old, _ := filepath.Glob(filepath.Join(cache, d.suite+"-*"))
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
	tmp, err := os.MkdirTemp(cache, d.suite+"-new-")
	if err != nil {
		t.Fatal(err)
	}
	// Extracted and not installed: that takes a few seconds instead of a minute.
	out, err := exec.Command("mmdebstrap", "--variant=extract", "--include="+include, "--aptopt=APT::Install-Recommends false",
		d.suite, tmp, "http://deb.debian.org/debian").CombinedOutput()
	if err == nil {
		out, err = exec.Command("sh", "-euc", afterExtract, "sh", tmp).CombinedOutput()
	}
	if err != nil {
		os.RemoveAll(tmp)
		t.Fatalf("mmdebstrap %s: %v\n%s", d.suite, err, out)
	}
	if err := os.Rename(tmp, root); err != nil {
		t.Fatal(err)
	}
	return root
}

var changelogHead = regexp.MustCompile(`^\S+ \((?:\d+:)?([^)]+)\)`)

// version is that of a package in the root, from its changelog: what is extracted only is in no database.
func version(t *testing.T, root, pkg string) string {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(root, "usr/share/doc", pkg, "changelog*.gz"))
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		head, err := bufio.NewReader(z).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if m := changelogHead.FindStringSubmatch(head); m != nil {
			return m[1]
		}
	}
	t.Fatalf("no changelog of %s in %s: %v", pkg, root, paths)
	return ""
}
