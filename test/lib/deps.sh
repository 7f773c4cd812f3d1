#!/bin/bash
# Install the Debian packages that a purpose needs and this machine lacks:
#	test/lib/deps.sh build e2e compat demo bench vm
# Silent when nothing is missing. Go is not among them: Debian 12 has an older one.
set -euo pipefail

# What is needed → the Debian package that has it. A path or command decides,
# not dpkg, so that a tool that came another way is left alone.
build="
gcc:gcc
/usr/include/stdlib.h:libc6-dev
git:git
shellcheck:shellcheck
/etc/ssl/certs/ca-certificates.crt:ca-certificates
"
e2e="
runc:runc
busybox:busybox-static
free:procps
lscpu:util-linux
mpstat:sysstat
lstopo-no-graphics:hwloc-nox
/usr/lib/python3/dist-packages/psutil:python3-psutil
/sbin/ip:iproute2
"
compat="
runc:runc
mmdebstrap:mmdebstrap
/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
numactl:numactl
taskset:util-linux
"
demo="
free:procps
top:procps
lscpu:util-linux
"
bench="
lxcfs:lxcfs
strace:strace
"
vm="
qemu-system-x86_64:qemu-system-x86
/usr/share/seabios/bios-256k.bin:seabios
busybox:busybox-static
cpio:cpio
modprobe:kmod
lz4:lz4
zstd:zstd
xz:xz-utils
flock:util-linux
numactl:numactl
lstopo-no-graphics:hwloc-nox
taskset:util-linux
/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
"

PATH=$PATH:/usr/sbin:/sbin
missing=()
for purpose in "$@"; do
	case $purpose in
	build) list=$build ;;
	e2e) list=$e2e ;;
	compat) list=$compat ;;
	demo) list=$demo ;;
	bench) list=$bench ;;
	vm) list=$vm ;;
	*) echo "deps: no such purpose: $purpose (build, e2e, compat, demo, bench, vm)" >&2; exit 2 ;;
	esac
	for need in $list; do
		what=${need%%:*} package=${need#*:}
		case $what in
		/*) [[ -e $what ]] && continue ;;
		*) command -v "$what" >/dev/null && continue ;;
		esac
		[[ " ${missing[*]} " == *" $package "* ]] || missing+=("$package")
	done
done

if ! command -v go >/dev/null; then
	echo "deps: no go in PATH: install the version that go.mod names from https://go.dev/dl/" >&2
	exit 1
fi
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: missing for $*: ${missing[*]} (Debian's names); no apt-get here, install them your way" >&2
	exit 1
fi
if ((EUID != 0)); then
	echo "deps: missing for $*: ${missing[*]}; run as root, or: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "deps: installing for $*: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=
trap 'rm -f "$log" $policy' EXIT
# The benchmark starts LXCFS itself. The package's service is not to run here, neither
# now (invoke-rc.d asks policy-rc.d) nor from the next boot on.
if [[ " ${missing[*]} " == *" lxcfs "* && ! -e /usr/sbin/policy-rc.d ]]; then
	policy=/usr/sbin/policy-rc.d
	install -m 755 <(printf '#!/bin/sh\nexit 101\n') "$policy"
fi
# qemu's recommended packages are 400 MB of displays and sound: not wanted.
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get could not install ${missing[*]}" >&2
	exit 1
fi
if [[ " ${missing[*]} " == *" lxcfs "* ]] && command -v systemctl >/dev/null; then
	systemctl -q disable lxcfs.service || echo "deps: lxcfs.service could not be disabled" >&2
fi
