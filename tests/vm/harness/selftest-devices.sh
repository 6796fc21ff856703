#!/bin/sh
# Runs in the test VM: fails unless the machine has the devices which the tests rely on.

status=0

check() {
	if ! "$@"; then
		echo "not true: $*"
		status=1
	fi
}

edu_groups() {
	for device in /sys/bus/pci/drivers/vfio-pci/*:*; do
		readlink "$device/iommu_group"
	done
}

check [ -c /dev/vfio/vfio ]
check [ "$(edu_groups | wc -l)" -eq 4 ]
check [ "$(edu_groups | sort -u | wc -l)" -eq 4 ]
for group in $(edu_groups); do
	check [ -c "/dev/vfio/${group##*/}" ]
done
# shellcheck disable=SC3045 # busybox has it
check [ "$(ulimit -n)" -eq 200000 ]
check ping -q -c 1 127.0.0.1

case $(uname -r) in
6.1.*-amd64) ;; # Debian's kernel has none of the below
*)
	check [ -c /dev/iommu ]
	check [ -c /dev/vfio/devices/vfio3 ]
	check [ -e /sys/class/mdev_bus/mtty ]
	check dd if=/dev/kvm count=0
	;;
esac
exit $status
