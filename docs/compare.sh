#!/bin/bash
# compare.sh [TEST…]: LXCFS and scopefs side by side on this machine; compare.md says
# what the tests are and what they gave. As root, after `make build`; needs lxcfs,
# busybox and perl. Everything it makes lies in a directory of its own and is removed.
# What is in single quotes is expanded in the container; views are words.
# shellcheck disable=SC2016,SC2086
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
scopefs=$PWD/bin/scopefs
tests=("$@")
((${#tests[@]})) || tests=(cat pread name idle quota swap)

dir=$(mktemp -d /var/tmp/scopefs-compare.XXXXXX)
pids=()
finish() {
	trap '' INT TERM
	((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null
	wait 2>/dev/null || true
	for m in "$dir"/outside/* "$dir/lxcfs" "$dir/scopefs/fs"; do
		umount -l "$m" 2>/dev/null || true
	done
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$dir/lxcfs" "$dir/outside"
# With both of its options that cost something and make its numbers better.
lxcfs --foreground --enable-cfs --enable-loadavg --pidfile="$dir/lxcfs.pid" "$dir/lxcfs" >"$dir/lxcfs.log" 2>&1 &
pids+=($!)
"$scopefs" serve --mount "$dir/scopefs/fs" --config /dev/null 2>"$dir/scopefs.log" &
pids+=($!)
for _ in {1..100}; do
	[[ -e $dir/lxcfs/proc/meminfo && -e $dir/scopefs/control.sock ]] && break
	sleep 0.1
done
# A container of `scopefs run` whose view is bound from one of four places:
#	native   no view
#	lxcfs    LXCFS's mount
#	own      <mount>/c/ID, the container's own subtree
#	compat   <mount>/proc, bound by the container itself
#	outside  <mount>/proc, bound by the host before there was a container
# In the last two the daemon does not know of the container.
box() { # VIEW run's flags… -- COMMAND…
	local view=$1 flags=() source
	shift
	while [[ $1 != -- ]]; do flags+=("$1"); shift; done
	shift
	case $view in
	own) "$scopefs" run --socket "$dir/scopefs/control.sock" "${flags[@]}" -- "$@"; return ;;
	native) source=- ;;
	lxcfs) source=$dir/lxcfs ;;
	compat) source=$dir/scopefs/fs ;;
	outside) source=$dir/outside ;;
	esac

	"$scopefs" run --socket "$dir/none.sock" "${flags[@]}" -- bash -c '
		set -e
		source=$0
		for f in meminfo stat cpuinfo uptime loadavg swaps; do
			umount "/proc/$f"
			if [[ -e $source/proc/$f ]]; then mount --bind "$source/proc/$f" "/proc/$f"; fi
		done
		if [[ -e $source/meminfo ]]; then mount --bind "$source/meminfo" /proc/meminfo; fi
		f=/sys/devices/system/cpu/online
		umount $f
		if [[ -e $source$f ]]; then mount --bind "$source$f" $f; fi
		exec "$@"' "$source" "$@"
}

views="lxcfs compat own"

test_cat() {
	echo "== cat: two containers of 100 and 200 MiB, three loops of 150 busybox cat /proc/meminfo in each: foreign MemTotal"
	# What a runtime would bind that makes its mounts before the container's cgroup is entered.
	: >"$dir/outside/meminfo"
	mount --bind "$dir/scopefs/fs/proc/meminfo" "$dir/outside/meminfo"
	for view in lxcfs outside compat own; do
		for mb in 100 200; do
			box $view --memory ${mb}M -- bash -c '
				: >"$0/ready.$1"
				while [[ ! -e $0/ready.100 || ! -e $0/ready.200 ]]; do sleep 0.05; done
				for w in 1 2 3; do
					for ((i = 0; i < 150; i++)); do
						busybox cat /proc/meminfo | busybox head -n 1
					done >"$0/$1.$w" &
				done
				wait' "$dir" $mb &
			eval "box_$mb=$!"
		done
		# shellcheck disable=SC2154
		wait "$box_100" "$box_200"
		read -r foreign reads < <(awk '/^MemTotal/ {reads++; if ($2 != substr(FILENAME, length(FILENAME) - 4, 3) * 1024) foreign++}
			END {print foreign + 0, reads + 0}' "$dir"/[12]00.[123])
		printf '%-8s %d foreign of %d\n' $view "$foreign" "$reads"
		rm -f "$dir"/[12]00.? "$dir"/ready.*
	done
}

test_pread() {
	echo "== pread: 100 bytes at offset 700 of a fresh descriptor of /proc/meminfo, which is longer: bytes read"
	for view in native $views; do
		printf '%-8s ' $view
		box $view --memory 100M -- perl -e '
			open(F, "<", "/proc/meminfo"); sysseek(F, 700, 0); print 0 + sysread(F, $b, 100), "\n"'
	done
}

test_name() {
	echo "== name: uptime of a container, 2 s old, whose pid 1 is named 'npm start'"
	for view in $views; do
		printf '%-8s ' $view
		box $view -- bash -c 'echo -n "npm start" >/proc/$$/comm; sleep 2; cat /proc/uptime'
	done
}

test_idle() {
	echo "== idle: an idle container for 3 s while the machine burns: idle share of its /proc/stat"
	for _ in $(seq "$(nproc)"); do
		while :; do :; done &
		burn+=($!)
	done
	for view in $views; do
		printf '%-8s ' $view
		box $view --memory 100M --cpus 1 -- bash -c '
			row() { read -r -a r </proc/stat; total=0; for n in "${r[@]:1}"; do ((total += n)); done; }
			row; sleep 1; row; t=$total i=${r[4]}; sleep 3; row
			echo "$((total > t ? 100 * (r[4] - i) / (total - t) : 0)) % of $((total - t)) ticks"'
	done
	kill "${burn[@]}"
	wait "${burn[@]}" 2>/dev/null || true
}

test_quota() {
	echo "== quota: CPUs with --cpus Q on a machine of $(nproc): cpuinfo, cpuN rows of stat, online"
	for q in 0.5 1.5 2.5; do
		for view in $views; do
			printf '%-4s %-8s ' $q $view
			box $view --cpus $q -- bash -c 'echo $(grep -c ^processor /proc/cpuinfo) $(grep -c "^cpu[0-9]" /proc/stat) $(cat /sys/devices/system/cpu/online)'
		done
	done
}

test_swap() {
	if (($(grep -c . /proc/swaps) < 2)); then
		echo "== swap: skipped, this machine has no swap"
		return
	fi
	if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
		echo "== swap: skipped, it lowers memory.swap.max, which is of cgroup v2"
		return
	fi
	echo "== swap: 64 MiB of memory and of swap, 96 MiB touched, then memory.swap.max lowered to 16 MiB"
	for view in $views; do
		box $view --memory 64M --swap 64M -- bash -c '
			group=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
			dd if=/dev/zero bs=96M count=1 2>/dev/null > >(exec sleep 30) &
			sleep 4
			echo 16M >"$group/memory.swap.max"
			echo "used $(($(<"$group/memory.swap.current") / 1024)) kB,"  $(grep -E "^Swap(Total|Free)" /proc/meminfo | tr -s " ")' |
			sed "s/^/$(printf '%-8s' $view) /"
	done
}

echo "Linux $(uname -r), $(nproc) CPUs, cgroup $([[ -e /sys/fs/cgroup/cgroup.controllers ]] && echo v2 || echo 'v1 or hybrid')," \
	"$(lxcfs --version 2>&1 | tail -n 1 | sed 's/^"*\(.*[^"]\)"*$/LXCFS \1/'), scopefs $("$scopefs" --version | awk '{print $NF}')"
for t in "${tests[@]}"; do
	"test_$t"
done
