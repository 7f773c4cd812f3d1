#!/bin/bash
# run.sh [LANE…]: run the tests in virtual machines of older and newer kernels.
# A lane is a kernel and a cgroup layout: 6.1-v2. Without one, or with "all", all.
#	kernels: 5.10 6.1 6.12 7      (kernel.sh; Debian's 6.12 and newer have no v1 memory controller)
#	layouts: v2 v1 v1-split hybrid (init; v1 joins cpu,cpuacct as systemd does, v1-split does not)
# With -numa behind it (6.1-v2-numa) the machine has two NUMA nodes with 4 CPUs each. That many emulated CPUs are slow, so
# such a lane runs the tests that look at the guest's own nodes, CPUs and policies, unless RUN says which.
# Environment: JOBS VMs at a time, TIMEOUT seconds for each, RUN=regexp and
# PACKAGES="./cgroup ./test/..." select tests, APPEND adds to the kernel's command line.
#
# No KVM needed: qemu's own emulation boots these kernels in 3 s.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

all=(5.10-v1 5.10-v2 6.1-v1-split 6.1-hybrid 6.1-v2 6.12-v2 7-v2 5.10-v1-numa 6.1-v2-numa)
jobs=${JOBS:-2} timeout=${TIMEOUT:-1500}
# Real programs whose numbers tests look at; what this machine lacks is left out.
programs="free top vmstat uptime w ps pgrep lscpu nproc getconf unshare nsenter mount umount runc find slabtop iostat mpstat
	lstopo-no-graphics numactl numastat taskset"
# Packages whose tests look at fixtures alone say the same on every kernel.
fixtures='/(fs/(view|policy|tree|control)|cmd/scopefs|test/compat) '
# What a -numa lane runs, and of which packages: not of those that look at fixtures alone.
numa_tests='NUMA|Sysfs|CPUCount|PolicyCPUs|PolicyFiles|Hotplug' numa_packages='/(cgroup|hooks/run|test/.*)$'

lanes=("$@")
[[ ${lanes[*]:-all} == all ]] && lanes=("${all[@]}")
for lane in "${lanes[@]}"; do
	if [[ ! $lane =~ ^(5\.10|6\.1|6\.12|7)-(v2|v1|v1-split|hybrid)(-numa)?$ ]]; then
		echo "run.sh: no lane $lane; there are: ${all[*]}" >&2
		exit 2
	fi
done

cache=${XDG_CACHE_HOME:-$HOME/.cache}/scopefs/vm
mkdir -p "$cache"
work=$(mktemp -d "$cache/run.XXXXXX")
logs=$work/logs root=$work/root
mkdir -p "$logs" "$root"/{bin,sbin,usr/bin,usr/local/bin,usr/share,etc,dev,proc,sys,tmp,run,mnt,root,var,lib/modules,scopefs/bin}
# Leave no VM behind, and nothing else but a failed run's logs, for a week.
finish() {
	trap - EXIT
	for pid in "$work"/*.pid; do
		if [[ -e $pid ]]; then kill "$(<"$pid")" 2>/dev/null || true; fi
	done
	wait
	rm -rf "$root" "$work"/*.{cpio,initrd,pid}
	if [[ $1 == 0 || -z $(ls "$logs") ]]; then rm -rf "$work"; fi
	find "$cache" -maxdepth 1 -name 'run.*' -mtime +7 -exec rm -rf {} +
	exit "$1"
}
trap 'finish $?' EXIT
trap 'finish 130' INT TERM

kernels=$(printf '%s\n' "${lanes[@]%%-*}" | sort -u)
for kernel in $kernels; do
	"$here/kernel.sh" "$kernel" "$cache/$kernel"
done

# The test binaries lie where `go test` would run them, testdata and bin/ beside them.
export CGO_ENABLED=0 GOARCH=amd64
if [[ -d cmd ]]; then
	make -s build
	find bin -maxdepth 1 -type f -exec cp -t "$root/scopefs/bin" {} +
fi
for tool in "$root"/scopefs/bin/*; do
	[[ -e $tool ]] && ln -s "/scopefs/bin/${tool##*/}" "$root/usr/local/bin/"
done
# shellcheck disable=SC2086 # packages are words
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' ${PACKAGES:-./...} |
	sed "s| $PWD/| |; / test\/bench/d" |
	if [[ -n ${PACKAGES:-} ]]; then cat; else grep -vE "$fixtures"; fi >"$root/scopefs/packages"
if [[ ! -s $root/scopefs/packages ]]; then
	echo "run.sh: no tests in ${PACKAGES:-./...}" >&2
	exit 2
fi
[[ -z ${RUN:-} ]] || echo "-test.run=$RUN" >"$root/scopefs/flags"
[[ -s $root/scopefs/flags ]] || : >"$root/scopefs/flags"
while read -r package dir; do
	mkdir -p "$root/scopefs/$dir"
	go test -c -trimpath -ldflags '-s -w' -o "$root/scopefs/$dir/vm.test" "$package"
done <"$root/scopefs/packages"
find . -type d -name testdata -exec cp -r --parents {} "$root/scopefs/" \;

# The programs, with the libraries that they load.
for program in $programs; do
	path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program") || continue
	cp -L "$path" "$root/usr/bin/$program"
	ldd "$path" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
		[[ -e $root$library ]] || cp -L --parents "$library" "$root"
	done
done
for terminal in d/dumb l/linux v/vt100 x/xterm; do
	[[ -e /lib/terminfo/$terminal ]] && cp -L --parents "/lib/terminfo/$terminal" "$root"
done
cp "$(command -v busybox)" "$root/bin/busybox"
ln -s /bin/busybox "$root/usr/bin/busybox"
ln -s /run "$root/var/run"
ln -s /tmp "$root/var/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf '127.0.0.1 localhost guest\n' >"$root/etc/hosts"
cp "$here/init" "$root/init"
chmod 0755 "$root" "$root/init"
# Archives may follow one another; not compressed, for the guest unpacks slowly.
(cd "$root" && find . | cpio -o -H newc --quiet -R 0:0) >"$work/tests.cpio"
for kernel in $kernels; do
	cat "$work/tests.cpio" "$cache/$kernel/modules.cpio" >"$work/$kernel.initrd"
done

boot() { # lane
	local lane=$1 kernel=${1%%-*} layout=${1#*-} rc=0 start=$EPOCHSECONDS
	local log=$logs/$lane.log machine=(-smp 4 -m 2048) run=
	if [[ $lane == *-numa ]]; then
		layout=${layout%-numa}
		machine=(-smp "8,sockets=2,cores=4" -m 2048)
		for node in 0 1; do
			machine+=(-object "memory-backend-ram,id=node$node,size=1024M"
				-numa "node,nodeid=$node,memdev=node$node,cpus=$((node * 4))-$((node * 4 + 3))")
		done
		machine+=(-numa "dist,src=0,dst=1,val=20")
		[[ -n ${RUN:-} ]] || run="SCOPEFS_RUN=$numa_tests SCOPEFS_PACKAGES=$numa_packages"
	fi
	# -cx16: QEMU 7.2 mistranslates cmpxchg16b, which 6.12 kernels use and then panic.
	# swapaccount: 5.10 counts a cgroup's swap only when told to.
	timeout -k 10 "$timeout" qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max,-cx16 \
		"${machine[@]}" -nodefaults -display none -no-reboot -nic none -serial "file:$log" \
		-kernel "$cache/$kernel/vmlinux" -initrd "$work/$kernel.initrd" \
		-append "console=ttyS0 psi=1 panic=-1 quiet mitigations=off swapaccount=1 SCOPEFS_VM=1 SCOPEFS_LANE=$lane SCOPEFS_CGROUPS=$layout $run ${APPEND:-}" \
		</dev/null >"$logs/$lane.qemu" 2>&1 &
	echo $! >"$work/$lane.pid"
	wait $! || rc=$?
	rm -f "$work/$lane.pid"
	sed -i 's/\r*$//' "$log" 2>/dev/null || : >"$log"
	echo "$rc $((EPOCHSECONDS - start))" >"$logs/$lane.rc"
}

report() { # lane; status 1 when it failed
	local lane=$1 log=$logs/$1.log rc seconds
	read -r rc seconds <"$logs/$lane.rc"
	echo "== $lane, Linux $(<"$cache/${lane%%-*}/release"): $(grep -c '^--- PASS' "$log") passed," \
		"$(grep -c '^--- FAIL' "$log") failed, $(grep -c '^ *--- SKIP' "$log") skipped in ${seconds}s"
	# A test says why it is skipped just before it is.
	awk '/^ *--- SKIP/ { print "skipped " $3 ":" reason } /^    / { sub(/^ +[^ ]+/, ""); reason = $0 }' "$log"
	grep -E '^(ok|FAIL)'$'\t' "$log" || true
	grep -qE '^scopefs-vm: .*exit 0$' "$log" && return
	if ! grep -q '^scopefs-vm: ' "$log"; then
		echo "$lane never reported (qemu's exit status $rc; 124 is the timeout of ${timeout}s)"
		cat "$logs/$lane.qemu"
	fi
	grep -E -B 15 '^ *--- FAIL|^panic:' "$log" || true
	echo "the end of $log:"
	tail -n "${TAIL:-60}" "$log"
	return 1
}

failed=()
pids=()
for lane in "${lanes[@]}"; do
	while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
	boot "$lane" &
	pids+=($!)
done
for i in "${!lanes[@]}"; do
	wait "${pids[i]}" || true
	report "${lanes[i]}" || failed+=("${lanes[i]}")
done
if ((${#failed[@]})); then
	echo "FAIL: ${failed[*]}"
	exit 1
fi
echo "ok: ${lanes[*]}"
