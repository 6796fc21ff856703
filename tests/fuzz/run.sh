#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds and runs the fuzzers: FUZZ_SECONDS each (60), or FUZZ_RUNS inputs each, always the same.
# What they find new is kept in build/fuzz, and a crash too.
set -eu -o pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

folder=build/fuzz
make -s -j"$(nproc)" B=$folder CC=clang CFLAGS="-O1 -g -fno-omit-frame-pointer \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" fuzzers

for target in frame call table; do
	if [ -n "${FUZZ_RUNS:-}" ]; then
		# A corpus that was kept would make it another run.
		corpus=$(mktemp -d)
		limit=("-runs=$FUZZ_RUNS" -seed=1)
	else
		corpus=$folder/corpus-$target
		mkdir -p "$corpus"
		limit=("-max_total_time=${FUZZ_SECONDS:-60}")
	fi
	if "$folder/tests/fuzz-$target" "${limit[@]}" -artifact_prefix=$folder/ \
		"$corpus" "tests/fuzz/corpus-$target" >"$folder/$target.log" 2>&1; then
		echo "PASS fuzz-$target: $(tail -n 1 "$folder/$target.log")"
	else
		cat "$folder/$target.log"
		echo "FAIL fuzz-$target"
		exit 1
	fi
	[ -z "${FUZZ_RUNS:-}" ] || rm -rf "$corpus"
done
