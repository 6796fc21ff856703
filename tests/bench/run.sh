#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make bench: vfio-cprd beside its peers and the kernel's own cost, in one table, which
# build/bench.json has too. BENCH_VM=0 leaves the test VM out; --plots draws those of docs/. The page
# docs/performance.md is made by page.py, from the JSON of several machines.
set -eu -o pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

programs=(handback claim mapping journal vm blackout peer-systemd)
results=build/bench/results
export PYTHONDONTWRITEBYTECODE=1

# build NAME [LIBRARY...]
build() {
	local name=$1 flags libs
	shift
	read -ra flags < <(pkg-config --cflags glib-2.0 jansson)
	read -ra libs < <(pkg-config --libs glib-2.0 jansson)
	gcc "${flags[@]}" -std=gnu11 -O2 -g -Wall -Wextra -Wshadow -Wmissing-prototypes \
		-Wstrict-prototypes -Werror -D_GNU_SOURCE -I. -Iinclude -Wl,-z,now \
		"tests/bench/$name.c" tests/bench/bench.c build/client/*.o \
		build/common/*.o "$@" "${libs[@]}" -o "build/bench/$name"
}

build_programs() {
	local name
	make -s -j"$(nproc)" all
	mkdir -p build/bench
	for name in "${programs[@]}"; do
		build "$name" -lsystemd
	done
	if [ -n "$(find /usr/include -name fdholder.h -path '*/s6/*' -print -quit)" ]; then
		build peer-s6 -ls6 -lskarnet
	fi
	# The test VM has no compiler; pid1.py finds this one instead.
	gcc -O2 -static -o build/bench/spawn tests/journal/spawn.c
	# shellcheck disable=SC2016 # for the guest's shell
	printf '%s\n' '#!/bin/sh' 'cp /tests/build/bench/spawn "$4"' >build/bench/cc
	chmod 755 build/bench/cc
}

# All in one real-time class, if that may be: else much of a figure is how the scheduler has placed two
# processes on two processors, and how long it lets a third one finish its slice.
run_host() {
	local first=()
	if chrt -r 5 true 2>/dev/null; then
		first=(chrt -r 5)
	else
		echo "without real-time scheduling (chrt), which root may have: figures will vary more"
	fi
	"${first[@]}" /usr/bin/python3 tests/bench/host.py all >"$results/host.log"
	"${first[@]}" /usr/bin/python3 tests/bench/stall.py >"$results/stall.log"
}

run_vm() {
	local name items=()
	cat >build/bench/list <<-'LIST'
		iommufd 900 env BUILD=/tests/build python3 /tests/bench/guest.py iommufd
		type1 900 env BUILD=/tests/build python3 /tests/bench/guest.py type1
		clients 300 env BUILD=/tests/build python3 /tests/bench/host.py claim 5 530 64
		restart-100 300 env BUILD=/tests/build python3 /tests/bench/host.py restart 100 64
		restart-250 300 env BUILD=/tests/build python3 /tests/bench/host.py restart 250 64
		restart-500 600 env BUILD=/tests/build python3 /tests/bench/host.py restart 500 64
		restart-1000 900 env BUILD=/tests/build python3 /tests/bench/host.py restart 1000 64
	LIST
	for name in "${programs[@]}" spawn; do
		items+=("build/bench/$name:/tests/build/bench/$name")
	done
	tests/vm/harness/run.sh --kernel iommufd --list build/bench/list --mem 2048 \
		--results "$results/vm" \
		build/vfio-cprd:/tests/build/vfio-cprd build/bench/cc:/usr/bin/cc \
		tests/lib:/tests/lib tests/journal:/tests/journal tests/bench:/tests/bench \
		"${items[@]}"
}

run_systemd() {
	printf '%s\n' 'systemd 900 env BUILD=/tests/build python3 /tests/bench/systemd.py' \
		>build/bench/list
	make -s vm-programs
	BUILD=build tests/vm/systemd/run.sh --list build/bench/list --results "$results/systemd" \
		build/bench/handback:/tests/build/bench/handback \
		build/bench/peer-systemd:/tests/build/bench/peer-systemd \
		tests/bench:/tests/bench
}

tests/install-packages.sh tests/packages tests/bench/packages tests/vm/harness/packages \
	tests/vm/systemd/packages
build_programs
rm -rf "$results"
mkdir -p "$results"
echo "on the host (some minutes)"
run_host
if [ "${BENCH_VM:-1}" != 0 ]; then
	echo "in the test VM, and in the one with systemd (some minutes)"
	run_vm
	run_systemd
fi
/usr/bin/python3 tests/bench/report.py "$results" build/bench.json
if [ "${1-}" = --plots ]; then
	/usr/bin/python3 tests/bench/plot.py build/bench.json docs
fi
