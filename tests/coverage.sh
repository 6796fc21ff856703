#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make coverage: how many lines of daemon/ and common/ all tests together run, those in the VMs left
# out: builds for gcov, runs the suites and the fuzzers' corpora, and prints each file's share.
set -eu -o pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

folder=build/coverage
rm -rf $folder
# What a test kills counts nothing, and most daemons are ended by a signal that they handle. They run
# as several users, who all have to write their counts.
# The static library has gcov's functions in it, and who links it has them once more.
make -s -j"$(nproc)" B=$folder CFLAGS="-O0 -g --coverage -fprofile-update=atomic" \
	LDFLAGS=-Wl,-z,muldefs test-programs
find $folder -type d -exec chmod 1777 {} +
find $folder -type f -exec chmod a+r {} +
umask 0

status=0
runner=(env BUILD="$folder" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/lib/runner.py)
for program in "$folder"/tests/test-*; do
	[ -x "$program" ] || continue
	CK_DEFAULT_TIMEOUT=0 "$program" >$folder/log 2>&1 && continue
	# The sandbox lets gcov write its files, which the test of it sees.
	[ "${program##*/}" = test-sandbox ] || { cat $folder/log; status=1; }
done
for suite in ${SUITES:-proto journal attack}; do
	"${runner[@]}" -j 4 --timeout 600 tests/"$suite"/test_*.py >$folder/log || status=1
	grep -v '^PASS \|others wait' $folder/log || true
done
# The fuzzers' corpora, by their own build (clang's), are not in these counts.
/usr/bin/python3 tests/coverage.py $folder daemon common
exit $status
