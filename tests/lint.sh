#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make lint: formatting, shell scripts, static analysis, both compilers. Says what to install if a
# tool is missing.
set -u
cd "$(dirname "$(readlink -f "$0")")/.." || exit
status=0
for tool in clang-format cppcheck shellcheck clang; do
	command -v $tool >/dev/null || {
		echo "$tool is missing: apt-get install $tool"
		exit 69
	}
done
mapfile -t sources < <(git ls-files '*.c' '*.h')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run tests/vm/harness/init tests/vm/systemd/initrd \
	tests/docs/initrd)
clang-format --dry-run -Werror "${sources[@]}" || status=1
shellcheck -x -P SCRIPTDIR "${scripts[@]}" || status=1
# It reads no header of the system, and is told of the macros that look like something else.
cppcheck -q --enable=warning,portability --inline-suppr --error-exitcode=1 \
	--suppress=missingIncludeSystem -D_GNU_SOURCE -I. -Iinclude \
	'-DG_GNUC_PRINTF(format,first)=' '-Djson_array_foreach(array,index,value)=while((index=0,value=array))' \
	"${sources[@]}" || status=1
# Both compilers, warnings as errors.
for compiler in gcc clang; do
	make -s -j"$(nproc)" WERROR=1 CC=$compiler B=build/$compiler all || status=1
done
exit $status
