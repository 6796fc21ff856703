#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2317 # holds calls the functions
# make lint: formatting, shell scripts, static analysis, both compilers: a line PASS or FAIL for each
# tool, after what it has found. Says what to install if one is missing.
set -u
cd "$(dirname "$(readlink -f "$0")")/.." || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
for tool in clang-format clang-tidy cppcheck shellcheck clang; do
	command -v $tool >/dev/null || {
		echo "$tool is missing: apt-get install $tool"
		exit 69
	}
done
mapfile -t sources < <(git ls-files '*.c' '*.h')
# Of these the two analyzers are asked, which take seconds for some files; what they do not know is
# what a test makes on purpose.
mapfile -t analyzed < <(git ls-files 'common/*.c' 'daemon/*.c' 'client/*.c' 'cprctl/*.c' 'examples/*.c')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run tests/vm/harness/init tests/vm/systemd/initrd \
	tests/docs/initrd)
read -ra flags < <(echo -std=gnu11 -D_GNU_SOURCE -I. -Iinclude \
	"$(pkg-config --cflags libsystemd libevent glib-2.0 jansson libseccomp | xargs)")

# holds SENTENCE COMMAND...
holds() {
	local sentence=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "PASS $sentence"
	else
		sed 's/^/    /' "$work/log"
		echo "FAIL $sentence"
		status=1
	fi
}

# It reads no header of the system, and is told of the macros that look like something else.
cppcheck_finds_nothing() {
	cppcheck -q -j "$(nproc)" --enable=warning,portability --inline-suppr --error-exitcode=1 \
		--suppress=missingIncludeSystem -D_GNU_SOURCE -I. -Iinclude \
		'-DG_GNUC_PRINTF(format,first)=' \
		'-Djson_array_foreach(array,index,value)=while((index=0,value=array))' "${sources[@]}"
}

# each TOOL SETTINGS COMMAND...: runs it for each file that is analyzed, '{}' in its words, unless it has
# found nothing in the same before: seconds each, which the next run need not spend again.
each() {
	local version
	version=$("$1" --version)
	printf '%s\n' "${analyzed[@]}" | xargs -P "$(nproc)" -I '{}' \
		tests/lib/once.sh "$version" "$2" '{}' "${flags[@]}" -- "${@:3}"
}

# Not what it says of g_autofree: gcc 12 takes the view of a char * as a void * for another variable,
# which nobody has set. clang's analyzer looks for the same and knows better.
gcc_finds_nothing() {
	each gcc /dev/null gcc "${flags[@]}" -O1 -fanalyzer -Wno-analyzer-use-of-uninitialized-value \
		-Werror -c '{}' -o /dev/null
}

# It tells of each file how many warnings of the system's headers it has left out.
tidy_finds_nothing() {
	each clang-tidy .clang-tidy clang-tidy --quiet '{}' -- "${flags[@]}" 2>/dev/null
}

# builds COMPILER FOLDER
builds() {
	make -s -j"$(nproc)" WERROR=1 CC="$1" B="$2" all
}

holds "the sources are formatted" clang-format --dry-run -Werror "${sources[@]}"
holds "shellcheck finds nothing" shellcheck -x -P SCRIPTDIR "${scripts[@]}"
holds "cppcheck finds nothing" cppcheck_finds_nothing
holds "gcc builds it without a warning" builds gcc build
holds "clang builds it without a warning" builds clang build/clang
holds "gcc's analyzer finds nothing" gcc_finds_nothing
holds "clang-tidy finds nothing" tidy_finds_nothing
# What once.sh has kept and nobody has asked for since
find "${XDG_CACHE_HOME:-$HOME/.cache}/vfio-cprd/clean" -mtime +30 -delete 2>/dev/null
exit $status
