#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs the commands of README.md and the manual pages in a test VM whose PID 1 is systemd: a clean
# Debian 13 with what README.md installs, and the source, built there by the README's make:
# run.sh [--only PATTERN] [--results DIR] [--interactive] ...
#
# The VM is the harness's, and the options are those of ../vm/harness/run.sh.
set -eu -o pipefail

here=$(dirname "$(readlink -f "$0")")
cd "$here/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$(tests/install/root.sh trixie)
tree=$(/usr/bin/python3 tests/install/roots.py tree trixie)
/usr/bin/python3 "$here/typed.py" --list /root/vfio-cprd >"$work/list"

# The root file system travels in the initramfs, so it takes its size in memory. Another machine could
# not go on where this one is lost: each command builds on what those before it have done.
tests/vm/harness/run.sh --kernel iommufd --list "$work/list" --mem 3072 --machines 1 "$@" \
	"$here/initrd:/init" "$root:/rootfs.sqfs" "$tree:/source.tar"
