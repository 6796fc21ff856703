#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs a shell command in an unpacked root: chroot.sh ROOT FOLDER COMMAND. It sees neither the
# host's processes, nor a network, nor its environment; what it leaves running ends with it.
set -eu

# shellcheck disable=SC2016 # for the inner shells
exec unshare --mount --pid --net --ipc --fork --kill-child sh -eu -c '
	mount -t proc proc "$1/proc"
	exec chroot "$1" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb MAKEFLAGS="-j$(nproc)" \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		bash -c "cd \"\$1\" && eval \"\$2\"" bash "$2" "$3"
' sh "$1" "$2" "$3"
