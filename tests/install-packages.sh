#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Installs the Debian packages that the files given name, if one is missing. Needs root for that
# alone; without root, or on another system, says what is missing and ends with status 69.
set -eu

wanted=$(sed -e 's/#.*//' "$@" | xargs -n 1 | sort -u)
missing=
for package in $wanted; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "These packages are missing:$missing" >&2
	echo "Install them as root: apt-get install --no-install-recommends$missing" >&2
	exit 69
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
install="apt-get -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends"
# The package lists may be absent or old: then get them anew, once.
# shellcheck disable=SC2086 # lists of words
if ! $install $missing >/dev/null 2>&1; then
	apt-get -qq update
	$install $missing >/dev/null
fi
