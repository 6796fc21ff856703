#!/bin/bash
# Checks the harness itself on one kernel: run-selftest.sh iommufd|debian-6.1
# Runs selftest.list, in which there is a test of each outcome, and compares what run.sh says.

. "$(dirname "$0")/common.sh"

here=$(dirname "$(readlink -f "$0")")
kernel=${1-}
[[ $kernel ]] || usage_error "usage: run-selftest.sh iommufd|debian-6.1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0

# run OUTPUT OPTION...: prints run.sh's exit status
run() {
	local output=$work/$1
	shift
	"$here/run.sh" --kernel "$kernel" --list "$here/selftest.list" --results "$work/results" \
		"$@" "$here/selftest-devices.sh:/tests/devices.sh" >"$output" && echo 0 || echo $?
}

# expect WHAT ACTUAL WANTED
expect() {
	[[ $2 == "$3" ]] && return
	printf '%s:\n  got: %s\n  not: %s\n' "$1" "$2" "$3"
	wrong=1
}

# expect_line FILE PATTERN
expect_line() {
	grep -qxE "$2" "$work/$1" && return
	echo "no line '$2' in:"
	sed 's/^/  /' "$work/$1"
	wrong=1
}

expect "status of a run with failures" "$(run all)" 1
expect_line all 'PASS passing \([0-9.]+ s\)'
expect_line all 'FAIL failing \(status 3, [0-9.]+ s\)'
expect_line all '    reason of the failure'
expect_line all 'SKIP skipping: no such hardware'
expect_line all 'PASS leaving-a-process \([0-9.]+ s\)'
expect_line all 'FAIL killing-itself \(status 137, [0-9.]+ s\)'
expect_line all 'FAIL kernel-warning \(status 0, [0-9.]+ s\)'
expect_line all '    .*WARNING: made up by the self-test'
expect_line all 'HANG hanging \(cut off after [0-9.]+ s\)'
expect_line all '    before it hangs'
expect_line all '    harness: still running: .*sleep 1000.*'
expect_line all 'HANG hanging-in-python \(cut off after [0-9.]+ s\)'
expect_line all '    Fatal Python error: Aborted'
expect_line all 'PASS python .*'
expect_line all 'PASS devices .*'
expect_line all 'AGAIN ending-the-vm: the VM ended while it ran'
expect_line all 'LOST ending-the-vm: the VM ended while it ran'
expect_line all '    the VM is about to end'
expect_line all '    .*Kernel panic.*'
expect_line all 'A new machine goes on with after-the-end: the VM ended before it began'
expect_line all 'PASS after-the-end .*'
expect "summary" "$(cat "$work/results/summary")" "passed 5 failed 4 hung 2 skipped 1"
expect "log of passing" "$(cat "$work/results/passing.log")" $'to stdout\nto stderr'

expect "status of a run without failures" "$(run good --only 'p*' --stream passing)" 0
expect "a streamed run" "$(sed 's/(.*//' "$work/good")" \
	$'to stdout\nto stderr\nPASS passing \nPASS python \npassed 2 failed 0 hung 0 skipped 0'

expect "status of a run cut off" "$(run cut --only hanging --timeout 1)" 1
expect_line cut 'LOST hanging: the VM was cut off after 1 s (before it began|while it ran)'

[[ $wrong == 0 ]] && echo "PASS the harness tells passed, failed, hung, skipped and lost tests apart on $kernel"
exit $wrong
