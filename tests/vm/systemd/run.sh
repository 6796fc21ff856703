#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs the cases of cases/ in a test VM whose PID 1 is systemd, with vfio-cprd installed as a
# package installs it: run.sh [--only PATTERN] [--results DIR] [--interactive] ...
#
# The VM is the harness's, and the options are those of ../harness/run.sh. Its kernel starts initrd
# instead of the harness's init, and that changes to Debian's systemd, which starts runner.py.
# BUILD is what is tested: build/sanitized, or build.
set -eu -o pipefail

here=$(dirname "$(readlink -f "$0")")
cd "$here/../../.."
build=${BUILD:-build/sanitized}
sanitize=0
[ "$build" = build ] || sanitize=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rootfs=$("$here/rootfs.sh")
# For the guest's systemd, not for this host's: others who install now wait with what they make for it
flock "$build/making" make -s install SANITIZE=$sanitize SYSTEMD_VERSION=257 DESTDIR="$work/product" PREFIX=/usr >&2
if [ $sanitize = 1 ]; then
	# Leaks are looked for by ptrace, which the sandbox forbids
	mkdir "$work/product/usr/lib/systemd/system/vfio-cprd.service.d"
	printf '%s\n' '[Service]' 'Environment=ASAN_OPTIONS=detect_leaks=0' \
		>"$work/product/usr/lib/systemd/system/vfio-cprd.service.d/sanitizer.conf"
fi
BUILD=/tests/build /usr/bin/python3 "$here/cases" --list >"$work/list"

# The root file system travels in the initramfs, so it takes its size in memory
tests/vm/harness/run.sh --kernel iommufd --list "$work/list" --mem 2048 "$@" \
	"$here/initrd:/init" \
	"$rootfs:/rootfs.sqfs" \
	"$work/product:/product" \
	"$build/vfio-cprctl:/tests/build/vfio-cprctl" \
	"$build/edu:/tests/build/edu" \
	"$build/libvfio-cpr.so.0:/tests/build/libvfio-cpr.so.0" \
	"$build/tests/vmm:/tests/build/tests/vmm" \
	"$build/tests/killpoint.so:/tests/build/tests/killpoint.so" \
	"tests/lib:/tests/lib" \
	"tests/vm/cases:/tests/vm/cases" \
	"$here/cases:/tests/vm/systemd/cases" \
	"$here/runner.py:/tests/vm/systemd/runner.py" \
	"systemd/50-vm-example.conf:/tests/systemd/50-vm-example.conf" \
	"$here/units:/tests/vm/systemd/units"
