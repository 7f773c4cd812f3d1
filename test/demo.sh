#!/bin/bash
# Show that it works: host and container side by side, under load. As root, after
# `make build`; it takes 12 s and leaves nothing behind. MEMORY=256M and CPUS=1.5
# in the environment set other limits.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
SECONDS_OF_LOAD=7

# Both sides run the same commands at the same time, each into a file.
# free's columns 7 and 8 are blank; without them it fits half of 160.
commands() {
	free -m | cut -c1-6,9- >"$1.free"
	{ nproc --all; getconf _NPROCESSORS_ONLN; } >"$1.nproc"
	# The first of top's two rounds is about all the time since boot, the second about one second.
	top -b -d 1 -n 2 -w 80 | awk '/^top -/ {rounds++} rounds == 2 && lines++ < 10' >"$1.top"
	uptime >"$1.uptime"
	# Not `| head`: lscpu would see a closed pipe. Two of its lines vary from CPU to CPU.
	lscpu | awk '!/^(Address sizes|Byte Order)/ && lines++ < 10' >"$1.lscpu"
}

# The part inside of the container: `demo.sh inside DIR`, as its pid 1.
if [[ ${1:-} == inside ]]; then
	dir=$2
	trap 'exit 0' TERM INT HUP # pid 1 is killed by no signal that it does not ask for
	for _ in 1 2; do
		while :; do :; done &
	done
	# dd fills 100 MiB and is then stuck, as nobody reads the pipe.
	dd if=/dev/zero bs=100M count=1 2>/dev/null > >(exec sleep 60) &
	dd if=/dev/zero of="$dir/written" bs=1M count=40 2>/dev/null
	sleep "$SECONDS_OF_LOAD" &
	wait $! # a trap interrupts wait, but not sleep
	: >"$dir/go"
	commands "$dir/container" &
	wait $!
	exit 0
fi

scopefs=$PWD/bin/scopefs
if [[ ! -x $scopefs ]]; then
	echo "demo: no bin/scopefs here: make build" >&2
	exit 1
fi
if ((EUID != 0)); then
	echo "demo: making a container needs root: sudo test/demo.sh" >&2
	exit 1
fi
test/lib/deps.sh demo

# A quota that gives the container fewer CPUs than this machine has, where that is possible.
mapfile -t cpus < <(awk -F: '/^processor/ {print $2 + 0}' /proc/cpuinfo)
memory=${MEMORY:-256M} limits=()
if ((${#cpus[@]} > 2)); then
	quota=${CPUS:-1.5}
	limits=(--cpuset "${cpus[0]},${cpus[1]}")
else
	quota=${CPUS:-0.75}
fi
limits=(--memory "$memory" --cpus "$quota" "${limits[@]}")

dir=$(mktemp -d /var/tmp/scopefs-demo.XXXXXX)
run=
finish() {
	trap '' INT TERM HUP
	if [[ -n $run ]]; then
		kill -TERM "$run" 2>/dev/null || true
		wait "$run" 2>/dev/null || true
	fi
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

echo "scopefs run ${limits[*]}: two busy loops, 100 MiB touched, a file of 40 MiB written."
echo "No daemon is needed for it: scopefs run starts one of its own on a mount of its own."
read -r load _ </proc/loadavg
if ((${load%.*} >= ${#cpus[@]})); then
	echo "This machine is busy with other work (load $load on ${#cpus[@]} CPUs): the container gets less, and top calls that idle."
fi
echo "${SECONDS_OF_LOAD} s of load first …"
# No daemon answers on that socket, so the container gets a private one, whatever else runs here.
"$scopefs" run --socket "$dir/none.sock" "${limits[@]}" -- bash "$PWD/test/demo.sh" inside "$dir" &
run=$!
while [[ ! -e $dir/go ]]; do
	if ! kill -0 "$run" 2>/dev/null; then
		wait "$run" || true
		run=
		echo "demo: the container ended before it was measured" >&2
		exit 1
	fi
	sleep 0.05
done
commands "$dir/host"
wait "$run" || { echo "demo: the container's part failed" >&2; run=; exit 1; }
run=

# The terminal's width; two columns of 79 and a line between them need 160.
width=160
if [[ -t 1 ]]; then
	read -r _ width < <(stty size 2>/dev/null </dev/tty || echo 0 0)
	((width > 0)) || width=160
fi

block() { # NAME COMMAND WHAT TO LOOK AT
	local left=$dir/host.$1 right=$dir/container.$1
	echo
	echo "── $2"
	fold -s -w "$((width > 160 ? 157 : width > 20 ? width - 3 : 77))" <<<"$3" | sed 's/^/   /'
	if ((width >= 160)); then
		paste -d $'\x1f' <(echo HOST; cat "$left") <(echo CONTAINER; cat "$right") |
			awk -F $'\x1f' '{printf "%-79.79s| %.79s\n", $1, $2}'
	else
		echo HOST
		cat "$left"
		echo CONTAINER
		cat "$right"
	fi
}

block free 'free -m' \
	"total is the limit of $memory, not the machine's memory. used holds the 100 MiB that were touched, buff/cache the 40 MiB of the file."
block nproc 'nproc --all; getconf _NPROCESSORS_ONLN' \
	"The second number is the container's: a quota of $quota CPUs, rounded up. nproc --all reads /sys/devices/system/cpu/possible, which stays the machine's on purpose: allocators index arrays of that size by physical CPU number."
block top 'top -b -d 1 -n 2 | second round' \
	"Tasks, MiB Mem and %Cpu(s) are the container's own. us is what its CPUs did, st the time for which the quota held the two loops back. id is 0, unless other load takes this machine's CPUs from them."
block uptime 'uptime' \
	"up since the container started; its load rises to 2, from its own two loops alone."
block lscpu 'lscpu | head' \
	"CPU(s), the on-line list, threads, cores and sockets are of the container's CPUs."
