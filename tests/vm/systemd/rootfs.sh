#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Prints the path of the guest's root file system, making it first when the cache does not have it.
#
# It is Debian trixie with the packages of rootfs.packages, as a squashfs: the oldest Debian whose
# systemd (257) has all that the units use. Nothing of vfio-cprd is in it, so a new build needs no
# new root. The packages come from the mirror that the host uses; neither the host's package lists
# nor its installed packages change. Once a root is cached, neither network nor apt is used.

. "$(dirname "$(readlink -f "$0")")/../harness/common.sh"

# Part of the cache key: raise it when a change below makes a different root
recipe=1

here=$(dirname "$(readlink -f "$0")")
rootfs=$cache/rootfs
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# No documentation, no translations, no hardware data base: nothing in the guest reads them
left_out='/usr/share/doc/* /usr/share/info/* /usr/share/lintian/* /usr/share/locale/*
	/usr/share/man/* /usr/lib/udev/hwdb.d/*'

wanted_packages() {
	sed -e 's/#.*//' "$here/rootfs.packages" | xargs | tr ' ' ,
}

make_rootfs() {
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
	say "making Debian trixie's root file system, about a minute"
	mmdebstrap --variant=essential --include="$(wanted_packages)" "${options[@]}" \
		--format=tar trixie "$work/root.tar" \
		"deb [signed-by=$keyring] $uri trixie main" >"$work/log" 2>&1 || {
		tail -n 40 "$work/log" >&2
		die "mmdebstrap failed"
	}
	sqfstar -quiet -no-progress -no-xattrs -comp zstd "$work/root.sqfs" <"$work/root.tar" >&2
}

need_program mmdebstrap mmdebstrap
need_program sqfstar squashfs-tools
need_file "$keyring" debian-archive-keyring

key=$( (echo "$recipe" && wanted_packages) | sha256sum | cut -c 1-12)
final=$rootfs/trixie-$key.sqfs
if [[ ! -e $final ]]; then
	mkdir -p "$rootfs"
	exec {lock}>"$rootfs/trixie.lock"
	flock -n "$lock" || say "waiting for another build of the root file system"
	flock "$lock"
fi
if [[ ! -e $final ]]; then
	work=$(mktemp -d "$rootfs/.making-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	make_rootfs
	mv -T "$work/root.sqfs" "$final"
fi
echo "$final"
