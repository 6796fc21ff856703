#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs the cases of cases/ in the test VM: run.sh KERNEL [--only PATTERN] [--results DIR] ...
# KERNEL is iommufd (both backends) or debian-6.1 (type1). BUILD is what is tested.
set -eu -o pipefail

here=$(dirname "$(readlink -f "$0")")
cd "$here/../.."
build=${BUILD:-build/sanitized}
# Each look at a session starts it, so where it is tested otherwise it need not be the slower one.
tool=${TOOL:-$build/vfio-cprctl}
kernel=$1
shift
backends=type1
[ "$kernel" = debian-6.1 ] || backends="type1 iommufd"

list=$(mktemp)
trap 'rm -f "$list"' EXIT
# shellcheck disable=SC2086 # a list of words
BUILD=/tests/build /usr/bin/python3 tests/vm/cases --list $backends >"$list"
tests/vm/harness/run.sh --kernel "$kernel" --list "$list" "$@" \
	"$build/vfio-cprd:/tests/build/vfio-cprd" \
	"$tool:/tests/build/vfio-cprctl" \
	"$build/edu:/tests/build/edu" \
	"$build/libvfio-cpr.so.0:/tests/build/libvfio-cpr.so.0" \
	"$build/tests/vmm:/tests/build/tests/vmm" \
	"$build/tests/killpoint.so:/tests/build/tests/killpoint.so" \
	"tests/lib:/tests/lib" \
	"tests/vm/cases:/tests/vm/cases"
