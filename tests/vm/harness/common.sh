# shellcheck shell=bash
# What the harness scripts share: how they fail, what they need on the host, where they cache.
# Sourced, never run.

set -euo pipefail

# shellcheck disable=SC2034 # used by the scripts
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vfio-cprd

say() {
	echo "${0##*/}: $*" >&2
}

die() {
	say "$@"
	exit 1
}

usage_error() {
	say "$@"
	exit 64
}

# need_program PROGRAM PACKAGE, need_file FILE PACKAGE: 69 is EX_UNAVAILABLE of sysexits.h
need_program() {
	command -v "$1" >/dev/null && return
	say "$1 is missing, install the Debian package $2"
	exit 69
}

need_file() {
	[[ -e $1 ]] && return
	say "$1 is missing, install the Debian package $2"
	exit 69
}
