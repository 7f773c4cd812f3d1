#!/bin/bash
# kernel.sh 6.1 DIR: fetch a Debian kernel into DIR, once:
#	DIR/vmlinux      decompressed, which saves qemu 2 to 4 s per boot
#	DIR/modules.cpio the few modules that the guest loads, and their order
#	DIR/release      what uname -r will say
# Packages come from the mirror this machine uses, through an apt configuration
# of our own below DIR: the system's lists and packages stay as they are.
set -euo pipefail

kernel=$1 dir=$2
# The cloud flavour: small, and the one that most virtual machines run.
package=linux-image-cloud-amd64
case $kernel in
5.10) suite=bullseye ;;
6.1) suite=bookworm ;;
6.12) suite=trixie ;;
7) suite=forky ;;
*) echo "kernel.sh: no kernel $kernel (5.10, 6.1, 6.12, 7)" >&2; exit 2 ;;
esac
modules="fuse overlay zram lzo lzo-rle loop"

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
# A kernel stays until this script changes or somebody deletes DIR.
stamp=$(sha256sum <"$0")
[[ -f $dir/stamp && $(<"$dir/stamp") == "$stamp" ]] && exit 0
rm -f "$dir/stamp"

work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
log=$work/apt.log

# The archive that serves this machine's own release serves the others too.
mirror=${DEBIAN_MIRROR:-}
if [[ -z $mirror ]]; then
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # apt expands these
	mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v r="$codename" '$1 == r && $2 == "main" { print $3; exit }')
fi
if [[ -z $mirror ]]; then
	echo "kernel.sh: no Debian archive in this machine's apt sources; set DEBIAN_MIRROR" >&2
	exit 1
fi

mkdir -p "$work"/{state/lists/partial,cache/archives/partial,deb,root}
: >"$work/status"
echo "deb [arch=amd64 target=Packages signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
	>"$work/sources.list"
apt=(-q -o "Dir::State=$work/state" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
	-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
	-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
	-o APT::Architecture=amd64 -o APT::Architectures=amd64
	-o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=root)

fetch() {
	apt-get "${apt[@]}" update
	# The metapackage names the image; from 7.2 on that is split into four packages.
	apt-cache "${apt[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances "$package" |
		grep -E '^linux-(image|modules|binary|base)-[0-9]' | sort -u >"$work/names"
	cd "$work/deb"
	xargs apt-get "${apt[@]}" download <"$work/names"
}
echo "fetching Linux $kernel from Debian $suite" >&2
if ! (set -e; fetch) >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "kernel.sh: could not fetch $package of $suite" >&2
	exit 1
fi
for deb in "$work"/deb/*.deb; do
	dpkg-deb -x "$deb" "$work/root"
done

vmlinuz=$(find "$work/root" -name 'vmlinuz*' | head -n 1)
release=$(basename "$(find "$work/root" -path '*/lib/modules/*' -prune -type d)")
# bzImage = a small loader and the compressed ELF file. Its magic may occur by
# chance too, and what follows the stream makes the decompressor complain: only
# the ELF magic of the result decides.
unpack() { # magic, command…
	local at
	# shellcheck disable=SC2013 # numbers
	for at in $(LC_ALL=C grep -aobP "$1" "$vmlinuz" | cut -d: -f1); do
		tail -c "+$((at + 1))" "$vmlinuz" | "${@:2}" 2>/dev/null >"$work/vmlinux" || true
		[[ $(head -c 4 "$work/vmlinux" | tr '\177\0' '.?') == .ELF ]] && return
	done
	return 1
}
if ! unpack '\x02\x21\x4c\x18' lz4 -dc && ! unpack '\xfd7zXZ' xz -dc --single-stream &&
	! unpack '\x28\xb5\x2f\xfd' zstd -dcq && ! unpack '\x1f\x8b\x08' gzip -dc; then
	echo "kernel.sh: $release: no vmlinux found in its image" >&2
	exit 1
fi

base=$work/root
[[ -d $base/lib/modules ]] || base=$work/root/usr
tree=$work/tree/lib/modules
mkdir -p "$tree"
depmod -b "$base" "$release"
for module in $modules; do
	# Built in, or not in this kernel: nothing to copy, the guest will say.
	modprobe -d "$base" -S "$release" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
	name=${file##*/}
	case $name in
	*.xz) name=${name%.xz}; xz -dc "$file" >"$tree/$name" ;;
	*.zst) name=${name%.zst}; zstd -dcq "$file" >"$tree/$name" ;;
	*) cp "$file" "$tree/$name" ;;
	esac
	echo "$name" >>"$tree/order"
done
(cd "$work/tree" && find . | cpio -o -H newc --quiet -R 0:0) >"$work/modules.cpio"

echo "$release" >"$work/release"
mv "$work"/{vmlinux,modules.cpio,release} "$dir/"
echo "$stamp" >"$dir/stamp"
