#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds and runs the fuzzers: FUZZ_SECONDS each (60), or FUZZ_RUNS inputs each, always the same.
# What they find new is kept in build/fuzz, and a crash too.
set -eu
cd "$(dirname "$0")/../.."
packages="libsystemd libevent libevent_pthreads glib-2.0 jansson"
mkdir -p build/fuzz
sh common/embed.sh common/*.varlink > build/fuzz/interfaces.c
for target in frame table; do
	# shellcheck disable=SC2046 # words are meant
	clang -std=gnu11 -D_GNU_SOURCE -I. -Iinclude -Wall -Wextra \
		-Wno-gnu-variable-sized-type-not-at-end -O1 -g -fno-omit-frame-pointer \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -pthread \
		$(pkg-config --cflags $packages) "tests/fuzz/fuzz-$target.c" \
		$(ls daemon/*.c | grep -v '^daemon/main\.c$') common/*.c build/fuzz/interfaces.c \
		-o "build/fuzz/fuzz-$target" $(pkg-config --libs $packages)
	if [ -n "${FUZZ_RUNS:-}" ]; then
		# A corpus that was kept would make it another run.
		corpus=$(mktemp -d)
		limit="-runs=$FUZZ_RUNS -seed=1"
	else
		corpus=build/fuzz/corpus-$target
		mkdir -p "$corpus"
		limit="-max_total_time=${FUZZ_SECONDS:-60}"
	fi
	# shellcheck disable=SC2086 # words are meant
	if "build/fuzz/fuzz-$target" $limit -artifact_prefix=build/fuzz/ \
		"$corpus" "tests/fuzz/corpus-$target" > "build/fuzz/$target.log" 2>&1; then
		echo "PASS fuzz-$target: $(tail -n 1 "build/fuzz/$target.log")"
	else
		cat "build/fuzz/$target.log"
		echo "FAIL fuzz-$target"
		exit 1
	fi
	[ -z "${FUZZ_RUNS:-}" ] || rm -rf "$corpus"
done
