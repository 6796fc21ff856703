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

# What this make was told is not for those that run here.
unset MAKEFLAGS MAKELEVEL CPPFLAGS CFLAGS LDFLAGS PREFIX DESTDIR

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

# The compiler's commands, as make would run them with these words before its own.
compiler_commands() {
	env "$@" V=1 B="$work/nothing" CC=a-compiler -n all | grep '^a-compiler '
}

# without WORD COMMANDS: those that lack it.
without() {
	grep -vE -- "(^| )$1( |\$)" <<<"$2"
}

# What the build needs and what the user says are both there, whichever way it is said. The object of
# the static library is made of objects alone, and has neither includes nor sanitizers.
flags_add_up() {
	local said=(CPPFLAGS=-DUSER_CPP CFLAGS=-O1 "LDFLAGS=-Wl,-user-ld" SANITIZE=1)
	local commands word
	for commands in "$(compiler_commands "${said[@]}" make)" \
		"$(compiler_commands make "${said[@]}")"; do
		[ "$commands" ] || return
		! without -O1 "$commands" || return
		commands=$(grep -v -- '-fno-sanitize=all' <<<"$commands")
		for word in -fsanitize=address,undefined -fPIC -fvisibility=hidden; do
			! without "$word" "$commands" || return
		done
		! without -DUSER_CPP "$(grep -- ' -c ' <<<"$commands")" || return
		! without -Iinclude "$(grep -- ' -c ' <<<"$commands")" || return
		! without -Wl,-user-ld "$(grep -v -- ' -c ' <<<"$commands")" || return
		! without -Wl,-z,relro,-z,now "$(grep -v -- ' -c ' <<<"$commands")" || return
	done
}

warnings_are_errors_on_demand() {
	! compiler_commands -u WERROR make | grep -- -Werror &&
		! without -Werror "$(compiler_commands make WERROR=1 | grep -- ' -c ')"
}

# One file is enough: _FORTIFY_SOURCE is complained of in each.
fortify_is_the_users() {
	local said
	for said in CPPFLAGS=-D_FORTIFY_SOURCE=3 "CPPFLAGS=-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3" \
		"CFLAGS=-O2 -D_FORTIFY_SOURCE=3" "CFLAGS=-O2 -Wp,-D_FORTIFY_SOURCE=3" CFLAGS=-O0; do
		rm -rf "$work/fortify"
		env "$said" make -s WERROR=1 B="$work/fortify" "$work/fortify/common/fdlist.o" || return
		rm -rf "$work/fortify"
		make -s WERROR=1 B="$work/fortify" "$said" "$work/fortify/common/fdlist.o" || return
	done
	compiler_commands make | grep -q -- -D_FORTIFY_SOURCE=2
}

pkg_config_is_asked_once() {
	printf '%s\n' '#!/bin/sh' "echo \"\$*\" >>$work/asked" 'exec pkg-config "$@"' >"$work/pkg-config"
	chmod +x "$work/pkg-config"
	make -n B="$work/nothing" PKG_CONFIG="$work/pkg-config" test-programs install &&
		test -s "$work/asked" && sort "$work/asked" | uniq -d >"$work/twice" || return
	cat "$work/twice"
	test ! -s "$work/twice"
}

# Without pkg-config, and without a package; what needs neither does without.
missing_packages_are_named() {
	local said
	for said in PKG_CONFIG=no-such-pkg-config PKG_CONFIG_LIBDIR=/nonexistent; do
		! env "$said" make B="$work/nothing" all >"$work/make" 2>&1 || return
		cat "$work/make"
		grep -q 'apt-get install.* libevent-dev' "$work/make" || return
		env "$said" make -n clean || return
	done
}

# As Debian builds a package, and with nothing but link-time optimization's own code in the objects,
# the static library works for a program that knows nothing of that.
builds_as_distributions_do() {
	(
		export DEB_BUILD_MAINT_OPTIONS="hardening=+all optimize=+lto"
		eval "$(dpkg-buildflags --export=sh)" || exit
		export CFLAGS="$CFLAGS -fno-fat-lto-objects"
		grep -q -- -flto <<<"$CFLAGS" || exit
		make -s -j2 WERROR=1 B=build/distribution all || exit
	) && shows_only_its_own build/distribution/libvfio-cpr.a && stranger_builds build/distribution
}

# The static library's object is machine code, and all that it shows is the header's.
shows_only_its_own() {
	nm --defined-only -g "$1" | sed -nE 's/.* [A-Z] (.*)/\1/p' | sort >"$work/shown"
	header_functions | diff - "$work/shown"
}

# A program that links the library of a build's folder, of either kind, and starts.
stranger_builds() {
	gcc -D_GNU_SOURCE -Iinclude examples/edu.c -o "$work/shared" -L"$1" -lvfio-cpr \
		-Wl,-rpath,"$PWD/$1" && { "$work/shared" || [ $? = 2 ]; } &&
		gcc -D_GNU_SOURCE -Iinclude examples/edu.c -o "$work/static" "$1/libvfio-cpr.a" \
			$(pkg-config --libs glib-2.0 jansson) && { "$work/static" || [ $? = 2 ]; }
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
holds "flags of the user are added to the build's own, from the environment and the command line" \
	flags_add_up
holds "a warning is an error for make check, and for nobody else" warnings_are_errors_on_demand
holds "_FORTIFY_SOURCE is the user's if they give one" fortify_is_the_users
holds "pkg-config is asked once for each thing" pkg_config_is_asked_once
holds "a missing pkg-config or package is named, with Debian's packages" missing_packages_are_named
holds "it builds as distributions build, with LTO, and links shared and static" \
	builds_as_distributions_do
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
