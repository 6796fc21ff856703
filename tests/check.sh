#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make check: installs what is missing, builds with the sanitizers, runs the suites given (all,
# unit, patience, proto, attack, completion, journal, harness, vm, systemd, tree, lint, install, docs,
# demo), and ends with what each has cost and one line that counts their tests.
set -u -o pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit

export BUILD=build/sanitized
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONDONTWRITEBYTECODE=1
# Here a warning is an error; whoever only builds may have a compiler that knows more of them.
export WERROR=1
passed=0 failed=0 skipped=0
logs=build/check beside=() suites=()
mkdir -p "$logs"

# count LOG NAME STATUS: adds a suite's lines to the counts. A suite that failed must have said so.
count() {
	local bad
	suites+=("$2")
	bad=$(grep -cE '^(FAIL|HANG|LOST) ' "$1")
	passed=$((passed + $(grep -c '^PASS ' "$1")))
	skipped=$((skipped + $(grep -c '^SKIP ' "$1")))
	if [ "$3" != 0 ] && [ "$bad" = 0 ]; then
		echo "FAIL suite $2 ended with status $3" | tee -a "$1"
		bad=1
	elif ! grep -q '^PASS ' "$1"; then
		echo "FAIL suite $2 ran no test" | tee -a "$1"
		bad=1
	fi
	failed=$((failed + bad))
}

# measured NAME COMMAND...: runs it; what it has cost, with its children, is in NAME.time.
measured() {
	local TIMEFORMAT='%U %S %R'
	{ time "${@:2}" 2>&1; } 2>"$logs/$1.time"
}

# The seconds of the processors (which a busy host changes little) and of the wall of each suite.
tell_times() {
	local name user system wall
	for name in "${suites[@]}"; do
		read -r user system wall <"$logs/$name.time"
		echo "$name $user $system $wall"
	done | awk '
		{ cpu = $2 + $3; sum += cpu; printf "TIME %-14s %7.1f s of processors, %7.1f s\n", $1, cpu, $4 }
		END { printf "TIME %-14s %7.1f s of processors\n", "all", sum }'
}

# Names again what did not pass, at the end, where it is looked for. One that a new machine began AGAIN
# may have passed there; it is told since something made it necessary.
tell_failures() {
	local name
	for name in "${suites[@]}"; do
		grep -E '^(FAIL|HANG|LOST|AGAIN) ' "$logs/$name.log" | sed "s/^/$name: /"
	done
}

# run NAME COMMAND...
run() {
	local name=$1 status=0
	shift
	echo "== $name"
	measured "$name" "$@" | tee "$logs/$name.log" || status=$?
	count "$logs/$name.log" "$name" "$status"
}

# tell_skips OUTPUT: of the tests that pass by their TAP, those that say they were not run (suite_skip()).
tell_skips() {
	awk -v output="$1" '
		BEGIN {
			while ((getline line < output) > 0)
				if (sub(/^SKIP /, "", line)) {
					name = line
					sub(/_fn:.*/, "", name)
					sub(/_fn:/, ":", line)
					why[name] = line
				}
		}
		$1 == "PASS" && $3 in why { print "SKIP " why[$3]; next }
		{ print }'
}

# Check's TAP lines "ok 1 - file.c:case:test: Passed", as everybody else's. T=object: that one alone.
unit() {
	local program status=0
	for program in "$BUILD"/tests/test-${T:-*}; do
		[ -x "$program" ] || continue
		# Check's own limit for a test counts a busy host
		CK_DEFAULT_TIMEOUT=0 CK_TAP_LOG_FILE_NAME="$logs/tap" CK_VERBOSITY=silent \
			tests/lib/patience.py --seconds 120 "$program" >"$logs/output" 2>&1 || {
			status=1
			cat "$logs/output"
		}
		sed -nE -e "s/^ok [0-9]+ - ([^:]*):([^:]*):([^:]*):.*/PASS \2: \3/p" \
			-e "s/^not ok [0-9]+ - (.*)/FAIL \1/p" "$logs/tap" | tell_skips "$logs/output"
		rm -f "$logs/tap"
	done
	return $status
}

# run_beside NAME PID COMMAND...: like run, in the background, once that process has ended (if any is
# named); its output is shown by finish.
run_beside() {
	{
		[ -z "$2" ] || tail --pid="$2" -f /dev/null
		measured "$1" "${@:3}"
	} >"$logs/$1.log" 2>&1 &
	beside+=("$1" $!)
}

# Waits for what runs beside, and shows and counts it.
finish() {
	local status
	while [ ${#beside[@]} -gt 0 ]; do
		status=0
		wait "${beside[1]}" || status=$?
		echo "== ${beside[0]}"
		cat "$logs/${beside[0]}.log"
		count "$logs/${beside[0]}.log" "${beside[0]}" "$status"
		beside=("${beside[@]:2}")
	done
}

# On this one the plain build, which has the whole of the daemon's sandbox and takes half the time.
debian=(env BUILD=build tests/vm/run.sh debian-6.1 --results "$logs/debian-6.1")
# The tool alone is the plain one: the sanitizers see it in proto, and each look at a session starts it.
iommufd=(env TOOL=build/vfio-cprctl tests/vm/run.sh iommufd --results "$logs/iommufd")
# The plain build: under systemd's sandbox the leak sanitizer cannot work.
systemd=(env BUILD=build tests/vm/systemd/run.sh --results "$logs/systemd")
journal=(/usr/bin/python3 tests/lib/runner.py -j 2 --timeout 180 tests/journal/test_*.py)
# The long run of kills is for the plain build, which restarts faster: make check-kills.
kills=(/usr/bin/python3 tests/journal/kill_test.py --kills "${KILLS:-200}")

build_plain() {
	make -s -j"$(nproc)" vm-programs >>"$logs/build.log" 2>&1
}

vm() {
	build_plain
	run_beside vm-debian-6.1 "" "${debian[@]}"
	run vm-iommufd "${iommufd[@]}"
	finish
}

systemd() {
	build_plain
	run vm-systemd "${systemd[@]}"
}

patience() {
	run patience /usr/bin/python3 tests/lib/runner.py tests/lib/test_*.py \
		tests/vm/harness/test_*.py
}

proto() {
	run proto /usr/bin/python3 tests/lib/runner.py -j 4 tests/proto/test_*.py
}

# The daemon is attacked as several users; the figures of how long others wait are for the reader.
attack() {
	as_root attack /usr/bin/python3 tests/lib/runner.py -j 2 --timeout 120 tests/attack/test_*.py
}

completion() {
	run completion /usr/bin/python3 tests/lib/runner.py tests/completion/test_*.py
}

journal() {
	run journal "${journal[@]}"
	run kills "${kills[@]}"
}

# as_root NAME COMMAND...: run, where the suite needs root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		run "$@"
	else
		echo "SKIP suite $1: only root can do what it needs (sudo make check-$1)"
		skipped=$((skipped + 1))
	fi
}

install() {
	as_root install /usr/bin/python3 tests/lib/runner.py --timeout 300 tests/install/test_install.py
}

# The commands of README.md and the manual pages; one of them, make demo, has a VM of its own.
docs() {
	run pages /usr/bin/python3 tests/lib/runner.py tests/docs/test_commands.py
	as_root docs tests/docs/run.sh --results "$logs/docs"
	demo
}

demo() {
	run demo make demo
}

lint() {
	run lint tests/lint.sh
}

# Everything, so that both processors are busy to the end. An emulated machine is busy on one of them: the
# two longest are a lane, one after the other from the very beginning, and all else is another of about
# the same length. What mostly waits, for one that hangs or for what was killed, is a third beside them.
everything() {
	build_plain
	# It starves its own processes for a while, and they have to get a processor after that: it is alone
	patience
	run_beside vm-systemd "" "${systemd[@]}"
	run_beside vm-iommufd $! "${iommufd[@]}"
	run_beside harness "" tests/vm/harness/run-selftest.sh iommufd
	run_beside journal $! "${journal[@]}"
	run_beside kills $! "${kills[@]}"
	run tree tests/tree.sh
	run unit unit
	proto
	attack
	completion
	lint
	run vm-debian-6.1 "${debian[@]}"
	install
	docs
	finish
}

packages=(tests/packages)
case $1 in all | completion) packages+=(tests/completion/packages) ;; esac
case $1 in all | lint | tree) packages+=(tests/fuzz/packages) ;; esac
case $1 in
all | vm | harness) packages+=(tests/vm/harness/packages) ;;&
all | systemd | docs | install)
	packages+=(tests/vm/harness/packages tests/vm/systemd/packages)
	;;
esac
tests/install-packages.sh "${packages[@]}" || exit
programs=test-programs
if [ "$1" = unit ] && [ -n "${T:-}" ]; then
	programs=$BUILD/tests/test-$T
	[ -e "tests/unit/test-$T.c" ] || {
		echo "there is no unit test $T; there are:" tests/unit/test-*.c
		exit 2
	}
fi
make -s -j"$(nproc)" SANITIZE=1 "$programs" >"$logs/build.log" 2>&1 || {
	cat "$logs/build.log"
	echo "0 passed, 1 failed"
	exit 1
}

case $1 in
all)
	# The kernels and the root image come first: where they are not cached, they take their time.
	tests/vm/harness/kernel.sh iommufd >/dev/null
	tests/vm/harness/kernel.sh debian-6.1 >/dev/null
	tests/vm/systemd/rootfs.sh >/dev/null
	everything
	;;
tree) run tree tests/tree.sh ;;
unit) run unit unit ;;
harness) run harness tests/vm/harness/run-selftest.sh iommufd ;;
*) "$1" ;;
esac

tell_times
tell_failures
summary="$passed passed, $failed failed"
[ "$skipped" = 0 ] || summary+=", $skipped skipped"
echo "$summary"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
