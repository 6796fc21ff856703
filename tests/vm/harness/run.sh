#!/bin/bash
# Boots the test VM and runs a list of tests in it; see init for what a list holds.
#
# The machine is emulated by TCG with a VT-d IOMMU, so that its kernel has real VFIO without any
# hardware. Status 0 means that every listed test passed or was skipped. A test without a result,
# because the VM died or hung, is begun AGAIN in another one, and is LOST at the second time, which
# counts as failed. follow.py says what hangs.

. "$(dirname "$0")/common.sh"

usage="usage: run.sh --kernel NAME --list FILE [OPTION...] SRC:DEST...
  --kernel NAME     iommufd or debian-6.1, see kernel.sh
  --list FILE       the tests: lines of NAME TIMEOUT_SECONDS COMMAND..., see follow.py
  --only PATTERN    run only the tests whose names match this shell pattern
  --results DIR     leave NAME.log of every test, console.log and summary there
  --stream NAME     print this test's output as it comes
  --timeout SECONDS cut the VM off, whatever it does, and start no other (default: each test has its
                    own timeout)
  --machines N      how many VMs there may be, as the next goes on where one is lost (default 3)
  --mem MB          the guest's memory (default 1536)
  --edu N           how many edu devices, each in its own IOMMU group (default 4)
  --interactive     a shell in the VM instead of the tests; ends with exit, or Ctrl-A x
SRC:DEST are files and folders for the guest, see image.sh"

here=$(dirname "$(readlink -f "$0")")
kernel_name='' list='' only='*' results='' stream='' total='' machines=3 mem=1536 edu=4 interactive=''

parse_arguments() {
	while [[ ${1-} == --* ]]; do
		case $1 in
		--interactive)
			interactive=1
			shift
			continue
			;;
		--help)
			echo "$usage"
			exit 0
			;;
		esac
		[[ $# -ge 2 ]] || usage_error "$1 needs a value"$'\n'"$usage"
		case $1 in
		--kernel) kernel_name=$2 ;;
		--list) list=$2 ;;
		--only) only=$2 ;;
		--results) results=$2 ;;
		--stream) stream=$2 ;;
		--timeout) total=$2 ;;
		--machines) machines=$2 ;;
		--mem) mem=$2 ;;
		--edu) edu=$2 ;;
		*) usage_error "unknown option $1"$'\n'"$usage" ;;
		esac
		shift 2
	done
	items=("$@")
	[[ $kernel_name && ($list || $interactive) ]] || usage_error "$usage"
}

# Writes the lines of the wanted tests to $work/list
read_list() {
	local name timeout command
	while read -r name timeout command; do
		[[ -z $name || $name == '#'* ]] && continue
		[[ $name =~ ^[A-Za-z0-9._-]+$ && $timeout =~ ^[0-9]+$ && $command ]] ||
			die "$list: not NAME TIMEOUT COMMAND: $name $timeout $command"
		# shellcheck disable=SC2053 # a pattern
		[[ $name == $only ]] || continue
		echo "$name $timeout $command"
	done <"${list:-/dev/null}" >"$work/list"
	[[ -s $work/list || $interactive ]] || die "$list has no test $only"
}

# KVM where the processor really has it (a /dev/kvm alone may be unable to run a stock kernel)
accelerator() {
	if grep -qwE 'vmx|svm' /proc/cpuinfo && (: <>/dev/kvm) 2>/dev/null; then
		echo -machine q35,kernel-irqchip=split -accel kvm
	else
		echo -machine q35 -accel tcg,thread=multi
	fi
}

# Sets machine to QEMU's command line, without the serial ports
build_machine() {
	# On a busy host the emulated timer can be late, which the kernel's check takes for a broken one
	local kernel append="console=ttyS0 rdinit=/init intel_iommu=on no_timer_check panic=-1 log_buf_len=1M" i
	# QEMU translates code anew where it comes to lie elsewhere: each program that starts would pay
	append+=" norandmaps"
	# The emulated processors' TSCs are the host's. Debian's kernel would not believe that of two, and ask
	# the HPET each time instead; and it would guard against speculation, which nothing here does
	append+=" tsc=reliable mitigations=off"
	kernel=$("$here/kernel.sh" "$kernel_name")
	"$here/image.sh" -o "$work/initramfs.cpio" "$kernel" "$work/list:/tests/list" "${items[@]}"
	truncate -s 16M "$work/nvme.img"
	# At the NMI which a VM gets before it is cut off, the kernel shows where each processor is
	append+=" unknown_nmi_panic panic_print=0x40"
	[[ $interactive ]] && append+=" interactive=1"

	read -ra machine < <(accelerator)
	# shellcheck disable=SC2054 # QEMU's commas
	machine+=(
		-nodefaults -no-user-config -display none -no-reboot
		-cpu max -smp 2 -m "$mem"
		-kernel "$kernel/vmlinuz" -initrd "$work/initramfs.cpio" -append "$append"
		-device intel-iommu,intremap=on
		-drive "id=nvme0,file=$work/nvme.img,format=raw,if=none"
		-device nvme,serial=test,drive=nvme0
	)
	for ((i = 0; i < edu; i++)); do
		machine+=(-device edu)
	done
}

parse_arguments "$@"
need_program qemu-system-x86_64 qemu-system-x86

work=$(mktemp -d)
vm=
trap '[[ $vm ]] && kill "$vm" 2>/dev/null && wait "$vm"; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
results=${results:-$work/results}
mkdir -p "$results"
read_list
build_machine

if [[ $interactive ]]; then
	qemu-system-x86_64 "${machine[@]}" -serial mon:stdio -serial null
	exit
fi

# Waited for, so that a signal ends it and leaves nothing
/usr/bin/python3 "$here/follow.py" --list "$work/list" --results "$results" --stream "$stream" \
	--timeout "${total:-0}" --machines "$machines" --monitor "$work/monitor" \
	qemu-system-x86_64 "${machine[@]}" -serial "file:$results/console.log" -serial stdio \
	-monitor "unix:$work/monitor,server=on,wait=off" &
vm=$!
status=0
wait "$vm" || status=$?
vm=
exit "$status"
