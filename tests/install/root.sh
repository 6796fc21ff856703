#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Prints the path of a clean Debian as a squashfs, making it first when the cache does not have it:
#
#   root.sh bookworm   the essential packages, apt, and what the README's commands install
#   root.sh trixie     the same, and before that trixie.packages: what the test VM boots
#
# The README's own commands run in the root as it is made, since only then there is a network.
# Packages come from the mirror that the host uses; neither the host's package lists nor its
# installed packages change. Once a root is cached, neither network nor apt is used.

. "$(dirname "$(readlink -f "$0")")/../vm/harness/common.sh"

# Part of the cache key: raise it when a change below makes a different root
recipe=1

here=$(dirname "$(readlink -f "$0")")
roots=$cache/rootfs
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Nothing in a test reads them
left_out='/usr/share/doc/* /usr/share/info/* /usr/share/lintian/* /usr/share/locale/*
	/usr/share/man/* /usr/lib/udev/hwdb.d/*'

own_packages() {
	local list=$here/$release.packages
	[[ -e $list ]] || return 0
	sed -e 's/#.*//' "$list" | xargs | tr ' ' ,
}

# In the finished root there is no network, so apt is left without lists and sources: it then says
# of each package that it is there.
make_root() {
	local uri options=() path
	# shellcheck disable=SC2016 # $(REPO_URI) is apt's
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' |
		head -n 1)
	[[ $uri ]] || die "apt lists no Debian mirror: run apt-get update"
	set -f
	for path in $left_out; do
		options+=(--dpkgopt="path-exclude=$path")
	done
	set +f
	[[ ! $(own_packages) ]] || options+=(--include="$(own_packages)")
	say "making a clean Debian $release with what README.md installs, a minute or two"
	# shellcheck disable=SC2016 # $1 is the hooks'
	mmdebstrap --variant=apt "${options[@]}" --format=tar \
		--customize-hook='cp "$WORK/readme" "$1/root/readme"' \
		--customize-hook='chroot "$1" env DEBIAN_FRONTEND=noninteractive bash /root/readme' \
		--customize-hook='rm -f "$1/root/readme" && : >"$1/etc/apt/sources.list"' \
		"$release" "$work/root.tar" \
		"deb [signed-by=$keyring] $uri $release main" >"$work/log" 2>&1 || {
		tail -n 40 "$work/log" >&2
		die "mmdebstrap failed"
	}
	mksquashfs - "$work/root.sqfs" -tar -quiet -no-progress -no-xattrs -comp zstd \
		-Xcompression-level 3 <"$work/root.tar" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		die "mksquashfs failed"
	}
}

release=${1-}
[[ $release == bookworm || $release == trixie ]] || usage_error "usage: root.sh bookworm|trixie"
need_program mmdebstrap mmdebstrap
need_program mksquashfs squashfs-tools
need_file "$keyring" debian-archive-keyring

WORK=$(mktemp -d)
export WORK
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
/usr/bin/python3 "$here/../docs/commands.py" --install "$WORK/readme"

key=$( (echo "$recipe" && own_packages && cat "$WORK/readme") | sha256sum | cut -c 1-12)
final=$roots/readme-$release-$key.sqfs
if [[ ! -e $final ]]; then
	mkdir -p "$roots"
	exec {lock}>"$roots/readme-$release.lock"
	flock -n "$lock" || say "waiting for another build of the root file system"
	flock "$lock"
fi
if [[ ! -e $final ]]; then
	work=$(mktemp -d "$roots/.making-XXXXXX")
	trap 'rm -rf "$WORK" "$work"' EXIT
	make_root
	mv -T "$work/root.sqfs" "$final"
fi
echo "$final"
