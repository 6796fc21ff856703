#!/bin/bash
# Packs the test VM's initramfs: image.sh -o OUT.cpio KERNELDIR SRC:DEST...
#
# KERNELDIR comes from kernel.sh. Each SRC (file or folder) appears as DEST in the guest, together
# with the shared libraries its ELF files need. DEST is absolute, and not below /tmp, /run, /dev,
# which init mounts over. Then there are busybox, python3 and ./init.
# The archive is not compressed: unpacking under TCG costs more than QEMU's copy to memory does.
# The part that only changes with the host's packages is cached and put first: the kernel unpacks
# one archive after the other, later files win.

. "$(dirname "$0")/common.sh"

here=$(dirname "$(readlink -f "$0")")

# Debian's python3: its files are where the guest will have them, unlike those of a private python
python=/usr/bin/python3

# What no test imports of python's standard library
python_unused=(__pycache__ config-* dist-packages distutils ensurepip idlelib lib2to3 pydoc_data
	test tkinter turtledemo venv _tkinter.*)

# Makes the guest's empty tree: merged /usr as on the host, so that copied paths stay true
make_tree() {
	local folder
	mkdir -p "$1"/usr/{bin,sbin,lib,lib64}
	for folder in bin sbin lib lib64; do
		ln -s "usr/$folder" "$1/$folder"
	done
}

# Copies the shared libraries and the loader which the ELF files below TREE need
add_libraries() {
	local tree=$1 file magic library
	find "$tree" -type f -print0 | while IFS= read -r -d '' file; do
		magic=
		LC_ALL=C IFS= read -r -N 4 magic 2>/dev/null <"$file" || true
		if [[ $magic == $'\x7fELF' ]]; then
			echo "$file"
		fi
	done | { xargs -r -d '\n' ldd 2>/dev/null || true; } >"$work/ldd"
	if grep 'not found' "$work/ldd" >&2; then
		die "these libraries are not on the host"
	fi
	# "libc.so.6 => /lib/libc.so.6 (0x7f...)" or "/lib64/ld-linux-x86-64.so.2 (0x7f...)"
	sed -nE 's|^\t(.* => )?(/.*) \(0x[0-9a-f]+\)$|\2|p' "$work/ldd" | sort -u |
		while IFS= read -r library; do
			install -D "$library" "$tree$library"
		done
}

# Compiles so that the guest neither compiles again nor compares time stamps
compile_python() {
	"$python" -m compileall -q -j "$(nproc)" --invalidation-mode unchecked-hash "$@"
}

# pack TREE ARCHIVE
pack() {
	(cd "$1" && find . -mindepth 1 -print0 | sort -z |
		cpio --null --quiet -o -H newc -R +0:+0) >"$2"
}

# Busybox with all its applets, and python3 without the sources of its standard library
make_base() {
	local tree=$work/base stdlib name
	make_tree "$tree"
	mkdir -p "$tree"/{dev,etc,proc,root,run,sys,tests,tmp,var} "$tree/lib/modules"
	printf '%s\n' root:x:0:0:root:/root:/bin/sh \
		tester:x:1000:1000:tester:/tmp:/bin/sh \
		nobody:x:65534:65534:nobody:/nonexistent:/bin/sh >"$tree/etc/passwd"
	printf '%s\n' root:x:0: tester:x:1000: nogroup:x:65534: >"$tree/etc/group"
	echo 127.0.0.1 localhost >"$tree/etc/hosts"

	cp "$busybox" "$tree/usr/bin/busybox"
	"$busybox" --list-full | while IFS= read -r name; do
		[[ -e $tree/$name ]] || ln -s /usr/bin/busybox "$tree/$name"
	done

	stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
	mkdir -p "$tree$stdlib"
	tar -c -C "$stdlib" "${python_unused[@]/#/--exclude=}" . | tar -x -C "$tree$stdlib"
	compile_python -b -s "$tree" "$tree$stdlib"
	find "$tree$stdlib" -name '*.py' -delete
	install "$(readlink -f "$python")" "$tree/usr/bin/python3"
	add_libraries "$tree"
	# glibc loads it by name when a thread is cancelled
	install -D -t "$tree/usr/lib/x86_64-linux-gnu" /usr/lib/x86_64-linux-gnu/libgcc_s.so.1
	pack "$tree" "$1"
}

# add_item SRC:DEST TREE
add_item() {
	local src=${1%:*} dest=$2/${1##*:}
	[[ $1 == *:/* ]] || usage_error "$1 is not SRC:DEST"
	[[ -e $src ]] || die "$src does not exist"
	if [[ -d $src ]]; then
		mkdir -p "$dest"
		cp -a "$src/." "$dest/"
	else
		mkdir -p "$(dirname "$dest")"
		cp -L --preserve=mode "$src" "$dest"
	fi
}

[[ ${1-} == -o && $# -ge 3 ]] || usage_error "usage: image.sh -o OUT.cpio KERNELDIR SRC:DEST..."
out=$2
kernel=$3
shift 3

need_program busybox busybox-static
need_program cpio cpio
need_file "$python" python3
busybox=$(command -v busybox)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key=$(cat "$here/image.sh" "$busybox" "$(readlink -f "$python")" /lib/x86_64-linux-gnu/libc.so.6 |
	sha256sum | cut -c 1-12)
base=$cache/guest/base-$key.cpio
if [[ ! -e $base ]]; then
	mkdir -p "$cache/guest"
	say "packing busybox and python3, once"
	make_base "$work/base.cpio"
	unfinished=$(mktemp "$base.XXXXXX")
	cp "$work/base.cpio" "$unfinished"
	mv "$unfinished" "$base"
fi

tree=$work/tree
make_tree "$tree"
mkdir -p "$tree/lib/modules"
cp -t "$tree/lib/modules" "$kernel"/modules/*
install "$here/init" "$tree/init"
for item; do
	add_item "$item" "$tree"
done
add_libraries "$tree"
compile_python -s "$tree" "$tree"
pack "$tree" "$work/items.cpio"
cat "$base" "$work/items.cpio" >"$out"
