#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds and runs the fuzzers: FUZZ_SECONDS each (60), or FUZZ_RUNS inputs each, always the same; of
# T alone if that is given (frame, call, table, conversation, journal). FUZZ_FAST=1 builds without
# sanitizers, for many more inputs: what is found is then a crash or an assertion. What they find new is
# kept in build/fuzz, for both builds, and a crash too.
set -eu -o pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

folder=build/fuzz built=build/fuzz
flags="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=undefined"
if [ "${FUZZ_FAST:-0}" = 1 ]; then
	built=build/fuzz-fast
	flags="-O2 -g -fsanitize=fuzzer-no-link"
fi
mkdir -p "$folder"
make -s -j"$(nproc)" B=$built CC=clang CFLAGS="$flags" fuzzers

# Of the daemon's allocations it is enough to know that one is wrong: a crash is run again by hand.
export ASAN_OPTIONS=detect_leaks=${FUZZ_LEAKS:-1}:malloc_context_size=4:quarantine_size_mb=16
# A symbolizer would have descriptors that the fuzzers count.
# To weigh which input to change next would take more time than an input does.
options=(-print_funcs=0 -entropic=0 "-artifact_prefix=$folder/" -timeout=60 -dict=tests/fuzz/dictionary)

# Whole conversations are slow: shorter ones, and fewer.
limits_of() {
	case $1 in
	conversation) limits=(-max_len=500) share=5 ;;
	journal) limits=(-max_len=1500) share=5 ;;
	*) limits=() share=1 ;;
	esac
}

for target in ${T:-frame call table conversation journal}; do
	limits_of "$target"
	if [ -n "${FUZZ_RUNS:-}" ]; then
		# A corpus that was kept would make it another run.
		corpus=$(mktemp -d)
		limits+=("-runs=$((FUZZ_RUNS / share))" -seed=1)
	else
		corpus=$folder/corpus-$target
		mkdir -p "$corpus"
		limits+=("-max_total_time=${FUZZ_SECONDS:-60}")
	fi
	if "$built/tests/fuzz-$target" "${limits[@]}" "${options[@]}" \
		"$corpus" "tests/fuzz/corpus-$target" >"$folder/$target.log" 2>&1; then
		echo "PASS fuzz-$target: $(tail -n 1 "$folder/$target.log")"
	else
		cat "$folder/$target.log"
		echo "FAIL fuzz-$target"
		exit 1
	fi
	[ -z "${FUZZ_RUNS:-}" ] || rm -rf "$corpus"
done
