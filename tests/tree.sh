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

# An install makes files that depend on where it goes; another suite may install at the same time.
make() {
	flock build/making make "$@"
}

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

# A stranger's build: from a clean install, by pkg-config alone, with the library of either kind. The
# folder has a space in its name.
installs_whole() {
	local root=$work/root file
	make -s install DESTDIR="$root" PREFIX="/a prefix" &&
		mv "$root/a prefix" "$work/a prefix" &&
		sed -i "s|/a prefix|$work/a prefix|" "$work/a prefix/lib/pkgconfig/libvfio-cpr.pc" || return
	export PKG_CONFIG_LIBDIR="$work/a prefix/lib/pkgconfig"
	# Nothing of those who are behind it, and none of their files needed.
	[ "$(pkg-config --cflags --libs libvfio-cpr | wc -w)" = 5 ] || return
	eval "gcc -D_GNU_SOURCE $(pkg-config --cflags libvfio-cpr) examples/edu.c -o $work/edu \
		$(pkg-config --libs libvfio-cpr)" || return
	LD_LIBRARY_PATH="$work/a prefix/lib" "$work/edu" || [ $? = 2 ] || return
	eval "gcc -static -D_GNU_SOURCE $(pkg-config --cflags libvfio-cpr) examples/edu.c \
		-o $work/edu-static $(pkg-config --static --libs libvfio-cpr)" || return
	unset PKG_CONFIG_LIBDIR
	"$work/edu-static" || [ $? = 2 ] || return
	for file in sbin/vfio-cprd bin/vfio-cprctl; do
		"$work/a prefix/$file" --version || return
	done
	grep -q 'ExecStart="/a prefix/sbin/vfio-cprd"' \
		"$work/a prefix/lib/systemd/system/vfio-cprd.service"
}

# Into a folder with a space in its name; a second install over the first changes nothing.
uninstalls_whole() {
	local where=(DESTDIR="$work/dest dir" PREFIX=/usr)
	make -s install "${where[@]}" && find "$work/dest dir" ! -type d | sort >"$work/once" &&
		make -s install "${where[@]}" && find "$work/dest dir" ! -type d | sort >"$work/twice" &&
		diff "$work/once" "$work/twice" && grep -q 'bin/vfio-cprctl$' "$work/once" &&
		echo "somebody else's" >"$work/dest dir/usr/share/man/man3/other.3" &&
		make -s uninstall "${where[@]}" || return
	find "$work/dest dir" ! -type d >"$work/left"
	[ "$(cat "$work/left")" = "$work/dest dir/usr/share/man/man3/other.3" ] || {
		cat "$work/left"
		return 1
	}
	[ ! -e "$work/dest dir/usr/share/doc/vfio-cprd" ]
}

# install_here PROGRAM...: installs as on this host, but into a folder, and with these programs in
# the place of those that change the host.
install_here() {
	local program
	mkdir -p "$work/bin"
	for program in systemd-sysusers systemd-tmpfiles systemctl ldconfig id; do
		printf '%s\n' '#!/bin/sh' "echo \"$program \$*\" >>$work/called" >"$work/bin/$program"
		chmod +x "$work/bin/$program"
	done
	for program in "$@"; do
		printf '%s\n' '#!/bin/sh' "${program#*:}" >"$work/bin/${program%%:*}"
	done
	rm -f "$work/called"
	PATH=$work/bin:$PATH make -s install PREFIX="$work/here" >"$work/told"
}

install_sets_up() {
	install_here "id:echo 0" &&
		grep -q "^systemd-sysusers $work/here/lib/sysusers.d/vfio-cprd.conf\$" "$work/called" &&
		grep -q "^systemd-tmpfiles --create $work/here/lib/tmpfiles.d/vfio-cprd.conf\$" \
			"$work/called" && grep -q '^ldconfig' "$work/called" &&
		grep -q 'systemctl enable --now vfio-cprd.socket' "$work/told" &&
		grep -q 'systemctl link' "$work/told" || return
	# What fails is told, fails the install, and keeps nothing else from being done.
	! install_here "id:echo 0" "systemd-sysusers:exit 3" && grep -q '^ldconfig' "$work/called" ||
		return
	# Who is not root is told what is root's to do; for a package, nothing is done here.
	install_here "id:echo 1000" && test ! -e "$work/called" &&
		grep -q "systemd-sysusers '$work/here" "$work/told" || return
	PATH=$work/bin:$PATH make -s install DESTDIR="$work/package" >"$work/told" &&
		test ! -e "$work/called" && grep -q 'systemd-sysusers vfio-cprd.conf' "$work/told"
}

# man finds each function by its name, without a data base.
functions_have_pages() {
	local name
	make -s install DESTDIR="$work/man" PREFIX=/usr || return
	cd "$work/man/usr/share/man" || return
	for name in $(cd "$OLDPWD" && header_functions); do
		mandoc -T ascii "man3/$name.3" | sed "s/.\x08//g" | grep -q "^ *$name" || {
			echo "man $name finds nothing"
			cd "$OLDPWD" && return 1
		}
	done
	cd "$OLDPWD" || return
}

# The service is made for one systemd, and it understands each line. This host's is asked; that
# another one's keys are there is told by the file.
service_suits_its_systemd() {
	local unit=$work/units/vfio-cprd.service
	mkdir -p "$work/units"
	cp systemd/vfio-cprd.socket "$work/units" || return
	make -s B="$work/units" SYSTEMD_VERSION=257.9 "$unit" && ! grep '^@\|@$' "$unit" &&
		grep -qx RestartSteps=20 "$unit" && grep -qx Type=notify-reload "$unit" || return
	make -s B="$work/units" SYSTEMD_VERSION=252 "$unit" && ! grep 'RestartSteps=\|^@' "$unit" &&
		grep -qx RestartSec=2s "$unit" && grep -qx Type=notify "$unit" || return
	make -s B="$work/units" SBINDIR=/usr/bin "$unit" && ln -sf /bin/true "$work/vfio-cprd" &&
		sed -i "s|/usr/bin/vfio-cprd|$work/vfio-cprd|" "$unit" || return
	systemd-analyze verify --man=no "$unit" >"$work/verify" 2>&1
	cat "$work/verify"
	# It keeps the store over a stop from 254 on; before, it says that it ignores the line.
	! grep -v 'FileDescriptorStorePreserve' "$work/verify"
}

# The version is one: the header's, as text and as number, the library's, pkg-config's, the programs'.
version_is_one() {
	local version
	cat >"$work/version.c" <<-'END'
		#include <stdio.h>
		#include <string.h>
		#include <vfio-cpr.h>
		int main(void)
		{
			int major = 0, minor = 0, patch = 0;

			puts(VFIO_CPR_VERSION);
			sscanf(VFIO_CPR_VERSION, "%d.%d.%d", &major, &minor, &patch);
			return strcmp(VFIO_CPR_VERSION, vfio_cpr_version()) != 0 ||
			       VFIO_CPR_VERSION_NUMBER != 10000 * major + 100 * minor + patch;
		}
	END
	make -s -j2 all && gcc -Iinclude "$work/version.c" -o "$work/version" -Lbuild -lvfio-cpr \
		-Wl,-rpath,"$PWD/build" && version=$("$work/version") &&
		[ "$(PKG_CONFIG_LIBDIR=build pkg-config --modversion libvfio-cpr)" = "$version" ] &&
		[ "$(build/vfio-cprd --version)" = "vfio-cprd $version" ] &&
		[ "$(build/vfio-cprctl --version)" = "vfio-cprctl $version" ] &&
		grep -q "VFIO_CPR_VERSION .*$version" docs/libvfio-cpr.3
}

# The compiler's commands, as make would run them with these words before its own.
compiler_commands() {
	env "$@" V=1 B="$work/nothing" CC=a-compiler -n all | grep '^a-compiler '
}

# without WORD COMMANDS: those that lack it.
without() {
	grep -vE -- "(^| )$1( |\$)" <<<"$2"
}

# What the build needs and what the user says are both there, whichever way it is said. The static
# library's object is made of objects alone: it needs neither includes nor sanitizers.
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
	drop_in=$(sed -nE 's/^LimitNOFILE=([0-9]+)$/\1/p' systemd/50-vm-example.conf)
	advised=$(sed -nE 's/^#define NOFILE_WANTED +([0-9]+)$/\1/p' cprctl/limitcheck.c)
	echo "the drop-in: $drop_in; check: $advised"
	test -n "$drop_in" -a "$drop_in" = "$advised"
}

# A circle of two files is found, and told from one that is meant; a list of what is none is told too.
circles_are_found() {
	local name
	mkdir -p "$work/circle" "$work/build/circle"
	echo 'int down(void); int up(void); int up(void) { return down(); }' >"$work/circle/roof.c"
	echo 'int down(void); int up(void); int down(void) { return up(); }' >"$work/circle/ground.c"
	echo 'int down(void); int alone(void); int alone(void) { return down(); }' >"$work/circle/side.c"
	for name in roof ground side; do
		gcc -c "$work/circle/$name.c" -o "$work/build/circle/$name.o" || return 1
	done
	(
		circles=$PWD/tests/circles.py
		cd "$work" || exit
		! "$circles" build circle && "$circles" build circle ground,roof &&
			! "$circles" build circle ground,roof,side && ! "$circles" build circle ground,side
	)
}

no_circles() {
	tests/circles.py "$BUILD" client && tests/circles.py "$BUILD" common &&
		tests/circles.py "$BUILD" cprctl &&
		tests/circles.py "$BUILD" daemon accept,peer,peer-in,peer-out,refusal,server,session
}

# Those that git tracks; without git, all but build/.
files_are_short() {
	{
		git ls-files -- '*.c' '*.h' '*.py' '*.sh' ||
			find . -path ./build -prune -o -type f -regex '.*\.\(c\|h\|py\|sh\)' -print
	} >"$work/sources"
	test -s "$work/sources" || return
	xargs -d '\n' wc -l <"$work/sources" | awk '$1 > 600 && $2 != "total"' >"$work/long"
	cat "$work/long"
	test ! -s "$work/long"
}

holds "no source file has more than 600 lines" files_are_short
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
holds "a circle of files is found" circles_are_found
holds "files call each other in no circle, but for a peer, the server and its sessions" no_circles
# Floors, invariants and names, as docs/hacking.md has them: a line for each.
/usr/bin/python3 tests/lib/runner.py tests/test_house.py || status=1
holds "the header stands alone, in C and in C++" header_stands_alone
holds "an install is whole, and the example builds against it, shared and static" installs_whole
holds "an uninstall removes what an install has put, and nothing else" uninstalls_whole
holds "an install by root sets up what a package's scripts set up" install_sets_up
holds "the version is one, in header, library, pkg-config file, programs and manual" version_is_one
holds "man finds every public function without a data base" functions_have_pages
holds "the service is made for the systemd it is for, which understands all of it" \
	service_suits_its_systemd
holds "the manual pages are well-formed" mandoc -T lint -W warning docs/*.[1-8]
holds "groff renders the manual pages without a warning" pages_render
holds "the VMM's drop-in and vfio-cprctl check name one LimitNOFILE" limits_agree
holds "docs/performance.md has the figures of its JSON files" tests/bench/page.py --check
holds "the manual pages know every state of a session" states_are_documented
holds "the daemon's --help and manual page name its options" help_names_every_option
holds "the fuzzers build, and find nothing in 5,000 inputs each" \
	env FUZZ_RUNS=5000 tests/fuzz/run.sh
exit $status
