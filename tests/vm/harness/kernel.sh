#!/bin/bash
# Prints the folder of a test kernel, making it first when the cache does not have it.
#
#   kernel.sh iommufd      built from Debian's newest linux-source with kernel.config, since no
#                          Debian kernel has CONFIG_IOMMUFD; about ten minutes on two cores
#   kernel.sh debian-6.1   bookworm's stock kernel: what users of type1 run today
#
# The folder holds vmlinuz, version (as uname -r says it), modules/*.ko, and modules/modules.order,
# the modules which the guest's init loads, in that order. Other modules are for tests to load.
# Other suites come from the mirror the host uses, through an apt configuration of our own:
# neither the host's package lists nor its installed packages change.
# Once a kernel is cached, neither network nor apt is used.

. "$(dirname "$0")/common.sh"

# Part of the cache key: raise it when a change below makes a different kernel
recipe=1

# IOMMU_IOAS_CHANGE_PROCESS and IOMMU_IOAS_MAP_FILE came with 6.14
oldest_source=6.14
source_suites="trixie-backports trixie sid"

here=$(dirname "$(readlink -f "$0")")
kernels=$cache/kernels
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the newest cached folder of kernel $name, made by this recipe and configuration
cached_kernel() {
	local folder
	folder=$(printf '%s\n' "$kernels/$name"-*-"$key" | sort -V | tail -n 1)
	[[ -e $folder/version ]] && echo "$folder"
}

# apt_setup SUITE...: points apt at those suites of the host's mirror, all state below $work
apt_setup() {
	local uri suite
	need_file "$keyring" debian-archive-keyring
	# shellcheck disable=SC2016 # $(REPO_URI) is apt's
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' |
		head -n 1)
	[[ $uri ]] || die "apt lists no Debian mirror: run apt-get update"
	mkdir -p "$work"/apt/{lists,cache/archives}/partial
	: >"$work/apt/status"
	for suite; do
		echo "deb [signed-by=$keyring] $uri $suite main"
	done >"$work/apt/sources.list"
	apt_options=(
		-q
		-o "APT::Sandbox::User=$(id -un)"
		-o "Dir::Cache=$work/apt/cache"
		-o "Dir::Etc::SourceList=$work/apt/sources.list"
		-o Dir::Etc::SourceParts=/dev/null
		-o "Dir::State::Lists=$work/apt/lists"
		-o "Dir::State::status=$work/apt/status"
	)
	# A mirror may lack one of the suites: what matters is whether the package is found
	apt-get "${apt_options[@]}" update >&2 || say "not every suite could be read, going on"
}

# download PACKAGE: the package's file becomes $work/PACKAGE.deb
download() {
	mkdir "$work/download"
	(cd "$work/download" && apt-get "${apt_options[@]}" download "$1") >&2
	mv "$work/download/"*.deb "$work/$1.deb"
}

# Fails naming every line of kernel.config which the final configuration does not have
check_config() {
	local lost
	lost=$(grep '^CONFIG_' "$here/kernel.config" | grep -vxFf .config || true)
	[[ -z $lost ]] || die "the kernel does not take these options:"$'\n'"$lost"
}

make_iommufd() {
	local package version log=$work/build.log
	need_program bc bc
	need_program bison bison
	need_program flex flex
	need_program gcc gcc
	need_program make make
	need_program xz xz-utils
	need_file /usr/include/gelf.h libelf-dev

	# shellcheck disable=SC2086 # a list of words
	apt_setup $source_suites
	package=$(apt-cache "${apt_options[@]}" pkgnames linux-source- |
		grep -xE 'linux-source-[0-9]+\.[0-9]+' | sort -V | tail -n 1)
	[[ $package ]] || die "no linux-source package in: $source_suites"
	version=${package#linux-source-}
	printf '%s\n' "$oldest_source" "$version" | sort -VC ||
		die "newest source is $version, at least $oldest_source is needed"
	download "$package"
	say "unpacking $package"
	dpkg-deb --fsys-tarfile "$work/$package.deb" |
		tar -xO "./usr/src/$package.tar.xz" | tar -xJ -C "$work"
	rm "$work/$package.deb"

	cd "$work/$package"
	export KBUILD_BUILD_USER=vfio-cprd KBUILD_BUILD_HOST=tests
	make -s KCONFIG_ALLCONFIG="$here/kernel.config" allnoconfig >&2
	check_config
	say "building Linux $(make -s kernelrelease), about ten minutes on two cores"
	if ! nice make -s -j "$(nproc)" bzImage modules >"$log" 2>&1; then
		tail -n 40 "$log" >&2
		die "the kernel build failed"
	fi
	cp arch/x86/boot/bzImage "$result/vmlinuz"
	find . -name '*.ko' -exec cp -t "$result/modules" {} +
	: >"$result/modules/modules.order"
	make -s kernelrelease >"$result/version"
}

make_debian_6_1() {
	local package version module
	apt_setup bookworm
	package=$(apt-cache "${apt_options[@]}" depends linux-image-amd64 |
		sed -n 's/^ *Depends: \(linux-image-6\.1\..*\)/\1/p')
	[[ $package ]] || die "bookworm's linux-image-amd64 names no 6.1 kernel"
	download "$package"
	dpkg-deb -x "$work/$package.deb" "$work/root"

	version=${package#linux-image-}
	cp "$work/root/boot/vmlinuz-$version" "$result/vmlinuz"
	for module in irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci; do
		find "$work/root/lib/modules/$version/kernel" -name "$module.ko" \
			-exec cp -t "$result/modules" {} +
		[[ -e $result/modules/$module.ko ]] || die "$package has no module $module"
		echo "$module.ko"
	done >"$result/modules/modules.order"
	echo "$version" >"$result/version"
}

name=${1-}
case $name in
iommufd) maker=make_iommufd inputs=$here/kernel.config ;;
debian-6.1) maker=make_debian_6_1 inputs=/dev/null ;;
*) usage_error "usage: kernel.sh iommufd|debian-6.1" ;;
esac
key=$( (echo "$recipe" && cat "$inputs") | sha256sum | cut -c 1-12)
cached_kernel && exit

mkdir -p "$kernels"
exec {lock}>"$kernels/$name.lock"
flock -n "$lock" || say "waiting for another build of $name"
flock "$lock"
cached_kernel && exit

work=$(mktemp -d "$kernels/.making-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
result=$work/result
mkdir -p "$result/modules"
"$maker"
final=$kernels/$name-$(cat "$result/version")-$key
mv -T "$result" "$final"
echo "$final"
