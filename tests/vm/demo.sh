#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make demo: builds, boots the test VM and shows demo.py in it.
set -eu -o pipefail
here=$(dirname "$(readlink -f "$0")")
cd "$here/../.."

tests/install-packages.sh tests/packages tests/vm/harness/packages
make -s -j"$(nproc)" all >&2
list=$(mktemp)
trap 'rm -f "$list"' EXIT
echo "demo 300 env BUILD=/tests/build python3 /tests/vm/demo.py" >"$list"
echo "Booting a machine with real VFIO, emulated (a kernel is built first if there is none: 10 minutes)."
tests/vm/harness/run.sh --kernel iommufd --list "$list" --stream demo \
	build/vfio-cprd:/tests/build/vfio-cprd \
	build/vfio-cprctl:/tests/build/vfio-cprctl \
	build/edu:/tests/build/edu \
	build/libvfio-cpr.so.0:/tests/build/libvfio-cpr.so.0 \
	tests/lib:/tests/lib \
	tests/vm/cases:/tests/vm/cases \
	tests/vm/demo.py:/tests/vm/demo.py
