#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make check: installs what is missing, builds with the sanitizers, runs the suites given (all,
# unit, proto, vm, tree), and ends with one line that counts their tests.
set -u -o pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit

export BUILD=build/sanitized
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONDONTWRITEBYTECODE=1
passed=0 failed=0 skipped=0
logs=build/check
mkdir -p "$logs"

# count LOG NAME STATUS: adds a suite's lines to the counts. A suite that failed must have said so.
count() {
	local bad
	bad=$(grep -cE '^(FAIL|HANG|LOST) ' "$1")
	passed=$((passed + $(grep -c '^PASS ' "$1")))
	skipped=$((skipped + $(grep -c '^SKIP ' "$1")))
	if [ "$3" != 0 ] && [ "$bad" = 0 ]; then
		echo "FAIL suite $2 ended with status $3"
		bad=1
	elif ! grep -q '^PASS ' "$1"; then
		echo "FAIL suite $2 ran no test"
		bad=1
	fi
	failed=$((failed + bad))
}

# run NAME COMMAND...
run() {
	local name=$1 status=0
	shift
	echo "== $name"
	"$@" 2>&1 | tee "$logs/$name.log" || status=$?
	count "$logs/$name.log" "$name" "$status"
}

# Check's TAP lines "ok 1 - file.c:case:test: Passed", as everybody else's.
unit() {
	local program status=0
	for program in "$BUILD"/tests/test-*; do
		[ -x "$program" ] || continue
		CK_TAP_LOG_FILE_NAME="$logs/tap" CK_VERBOSITY=silent "$program" >"$logs/output" 2>&1 ||
			{
				status=1
				cat "$logs/output"
			}
		sed -nE -e "s/^ok [0-9]+ - ([^:]*):([^:]*):([^:]*):.*/PASS \2: \3/p" \
			-e "s/^not ok [0-9]+ - (.*)/FAIL \1/p" "$logs/tap"
		rm -f "$logs/tap"
	done
	return $status
}

# Both kernels at once: the machines are emulated, and each leaves processors idle.
vm() {
	tests/vm/run.sh debian-6.1 --results "$logs/debian-6.1" >"$logs/vm-debian-6.1.log" 2>&1 &
	local debian=$!
	run vm-iommufd tests/vm/run.sh iommufd --results "$logs/iommufd"
	local status=0
	wait "$debian" || status=$?
	echo "== vm-debian-6.1"
	cat "$logs/vm-debian-6.1.log"
	count "$logs/vm-debian-6.1.log" vm-debian-6.1 "$status"
}

packages=(tests/packages)
case $1 in
all | vm) packages+=(tests/vm/harness/packages) ;;
esac
tests/install-packages.sh "${packages[@]}" || exit
make -s -j"$(nproc)" SANITIZE=1 test-programs >"$logs/build.log" 2>&1 || {
	cat "$logs/build.log"
	echo "0 passed, 1 failed"
	exit 1
}

case $1 in
all)
	run tree tests/tree.sh
	run unit unit
	run proto /usr/bin/python3 tests/lib/runner.py tests/proto/test_*.py
	run harness tests/vm/harness/run-selftest.sh
	vm
	;;
tree) run tree tests/tree.sh ;;
unit) run unit unit ;;
proto) run proto /usr/bin/python3 tests/lib/runner.py tests/proto/test_*.py ;;
vm) vm ;;
esac

summary="$passed passed, $failed failed"
[ "$skipped" = 0 ] || summary+=", $skipped skipped"
echo "$summary"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
