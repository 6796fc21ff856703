#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2317 # holds calls the functions
# shellcheck disable=SC2046 # what pkg-config prints is to be split
# shellcheck disable=SC1112 # the quotes that groff prints
# What must hold of the tree and of what it installs, beyond any one program's behaviour.
set -u
cd "$(dirname "$(readlink -f "$0")")/.." || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

# holds SENTENCE COMMAND...
holds() {
	local sentence=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "PASS $sentence"
	else
		echo "FAIL $sentence"
		sed 's/^/    /' "$work/log"
		status=1
	fi
}

header_functions() {
	grep -oE '\bvfio_cpr_[a-z0-9_]+\(' include/vfio-cpr.h | tr -d '(' | sort -u
}

map_is_exact() {
	nm -D --defined-only "$BUILD/libvfio-cpr.so.0" | sed -nE 's/.* [TDB] ([a-z_0-9]+)(@.*)?$/\1/p' |
		grep -v '^LIBVFIO' | sort -u >"$work/exported"
	sed -nE 's/^\t+(vfio_cpr_[a-z0-9_]+);.*/\1/p' client/libvfio-cpr.map | sort -u >"$work/map"
	header_functions >"$work/header"
	diff "$work/map" "$work/exported" && diff "$work/header" "$work/map"
}

# Every function is in the SYNOPSIS of a manual page.
functions_are_documented() {
	local name missing=0
	for name in $(header_functions); do
		grep -qs "^\.Fo* .*\b$name\b\|^\.Fo $name\|^\.Fn $name\|^\.Fn .*$name" docs/*.3 || {
			echo "$name has no manual page"
			missing=1
		}
	done
	return "$missing"
}

header_stands_alone() {
	echo '#include "vfio-cpr.h"' >"$work/alone.c"
	cp "$work/alone.c" "$work/alone.cc"
	gcc -std=gnu11 -Wall -Wextra -Wstrict-prototypes -Werror -Iinclude -fsyntax-only "$work/alone.c" &&
		g++ -Wall -Wextra -Werror -Iinclude -fsyntax-only "$work/alone.cc"
}

# A stranger's build: from a clean install, by pkg-config alone, with the library of either kind.
installs_whole() {
	local root=$work/root
	make -s install DESTDIR="$root" PREFIX=/usr &&
		sed -i "s|^prefix=.*|prefix=$root/usr|; s|=/usr/|=$root/usr/|" \
			"$root/usr/lib/pkgconfig/libvfio-cpr.pc" &&
		export PKG_CONFIG_PATH=$root/usr/lib/pkgconfig &&
		gcc -D_GNU_SOURCE $(pkg-config --cflags libvfio-cpr) examples/edu.c -o "$work/edu" \
			$(pkg-config --libs libvfio-cpr) &&
		{ LD_LIBRARY_PATH=$root/usr/lib "$work/edu" || [ $? = 2 ]; } &&
		gcc -D_GNU_SOURCE $(pkg-config --cflags libvfio-cpr) examples/edu.c -o "$work/edu-static" \
			"$root/usr/lib/libvfio-cpr.a" $(pkg-config --libs glib-2.0 jansson) &&
		{ "$work/edu-static" || [ $? = 2 ]; } &&
		test -x "$root/usr/sbin/vfio-cprd" -a -x "$root/usr/bin/vfio-cprctl" &&
		"$root/usr/sbin/vfio-cprd" --version && "$root/usr/bin/vfio-cprctl" --version &&
		grep -q "ExecStart=/usr/sbin/vfio-cprd" "$root/usr/lib/systemd/system/vfio-cprd.service"
}

static_library_hides_the_rest() {
	nm --defined-only -g "$BUILD/libvfio-cpr.a" | sed -nE 's/.* [TDB] (.*)/\1/p' |
		grep -v '^vfio_cpr_' >"$work/leaked"
	cat "$work/leaked"
	test ! -s "$work/leaked"
}

help_names_every_option() {
	local option
	for option in --socket --mode --fdstore-max --version; do
		"$BUILD/vfio-cprd" --help | grep -q -- "$option" && grep -q -- "${option#--}" docs/vfio-cprd.8 ||
			return 1
	done
}

# groff warns with status 0. Its mdoc also renders what mandoc takes: nested quotes, foreign headings.
# What it cannot adjust (from 1.23 on) are prototypes, which its own macros break into lines.
pages_render() {
	local page bad=0
	for page in docs/*.[1-8]; do
		! grep -q '^\.so ' "$page" || continue # another page's second name
		LC_ALL=C.UTF-8 groff -ww -mdoc -Tutf8 "$page" 2>"$work/said" |
			sed 's/.\x08//g' >"$work/page"
		grep -v 'cannot adjust line' "$work/said" >"$work/warnings"
		if [ -s "$work/warnings" ] || ! [ -s "$work/page" ] ||
			LC_ALL=C.UTF-8 grep -nE '’’|‘‘|‘[^’]*‘|BSD .*Manual' "$work/page"; then
			sed 's/^/troff: /' "$work/warnings"
			echo "$page is not rendered as it is meant"
			bad=1
		fi
	done
	return "$bad"
}

# The same states, and the same words on the one that is not in use, wherever they are told.
states_are_documented() {
	local state page missing=0
	for page in docs/vfio-cprd.8 docs/vfio-cprctl.1 docs/vfio-cpr-protocol.7; do
		for state in $(sed -n 's/^type State (\(.*\))$/\1/p' common/io.vfiocpr.Session.varlink |
			tr -d ,); do
			grep -qE "^\.(It|Pq) Sy .*\b$state\b" "$page" || {
				echo "$page says nothing of the state $state"
				missing=1
			}
		done
		tr '\n' ' ' <"$page" |
			grep -qE 'detached (is r|R)eserved: nothing gets into it in this version' || {
			echo "$page describes the state detached in other words"
			missing=1
		}
	done
	return "$missing"
}

# A VMM's limit, as the drop-in sets it and as vfio-cprctl check advises it. The daemon's is another.
limits_agree() {
	local drop_in advised
	drop_in=$(grep -oE '^LimitNOFILE=[0-9]+' systemd/50-vm-example.conf)
	advised=$(grep -aohE 'LimitNOFILE=[0-9]+' "$BUILD/vfio-cprctl" | sort -u)
	echo "the drop-in: $drop_in; check: $advised"
	test -n "$drop_in" -a "$drop_in" = "$advised"
}

has_fuzzer() {
	echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
		clang -fsanitize=fuzzer,address -x c - -o "$work/fuzzer" 2>/dev/null
}

holds "the library exports what the header declares and the version map names" map_is_exact
holds "the static library shows nothing else" static_library_hides_the_rest
holds "every public function has a manual page" functions_are_documented
holds "the header stands alone, in C and in C++" header_stands_alone
holds "an install is whole, and the example builds against it, shared and static" installs_whole
holds "the manual pages are well-formed" mandoc -T lint -W warning docs/*.[1-8]
holds "groff renders the manual pages without a warning" pages_render
holds "the VMM's drop-in and vfio-cprctl check name one LimitNOFILE" limits_agree
holds "docs/performance.md has the figures of its JSON files" tests/bench/page.py --check
holds "the manual pages know every state of a session" states_are_documented
holds "the daemon's --help and manual page name its options" help_names_every_option
if command -v clang >/dev/null; then
	holds "clang builds it without a warning" make -s -j2 CC=clang B=build/clang all
else
	echo "SKIP clang builds it without a warning: clang is not installed (apt-get install clang)"
fi
if has_fuzzer; then
	holds "the fuzzers build, and find nothing in 5,000 inputs each" \
		env FUZZ_RUNS=5000 tests/fuzz/run.sh
else
	echo "SKIP the fuzzers build, and find nothing in 5,000 inputs each: clang's fuzzer is not" \
		"installed (apt-get install clang libclang-rt-14-dev)"
fi
exit $status
