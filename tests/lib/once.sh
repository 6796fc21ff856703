#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Analyzes a C file unless the same analysis has found nothing in the same text before:
# once.sh TOOL-VERSION SETTINGS FILE COMPILER-FLAG... -- COMMAND...
#
# The text is what the preprocessor makes of the file, with the comments (a tool may obey them) and
# the definitions of macros, so that a header that changes counts too. SETTINGS is a file the tool
# reads, or /dev/null. What was clean is kept by the digest of all of these, in
# $XDG_CACHE_HOME/vfio-cprd/clean; what was not is analyzed each time.
set -u -o pipefail

kept=${XDG_CACHE_HOME:-$HOME/.cache}/vfio-cprd/clean
version=$1 settings=$2 file=$3 flags=()
shift 3
while [ "$1" != -- ]; do
	flags+=("$1")
	shift
done
shift

digest=$({
	printf '%s\n' "$version" "$file" "${flags[@]}" -- "$@" && cat "$settings" &&
		${CC:-gcc} "${flags[@]}" -E -C -dD "$file" 2>/dev/null
} | sha256sum) || exec "$@" # which says what is wrong with it
stamp=$kept/${digest%% *}
if [ -e "$stamp" ]; then
	touch "$stamp"
	exit
fi
"$@" || exit
mkdir -p "$kept"
: >"$stamp"
