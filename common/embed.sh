#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Prints the Varlink interface files given as C strings, named interface_ and the file's name.
set -eu
for file in "$@"; do
	name=$(basename "$file" .varlink | tr 'A-Z.' 'a-z_')
	printf 'extern const char interface_%s[];\nconst char interface_%s[] =\n' "$name" "$name"
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/\t"/' -e 's/$/\\n"/' "$file"
	printf '\t;\n'
done
