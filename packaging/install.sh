#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# make install and make uninstall: install.sh install|uninstall. The Makefile gives it the folders
# (PREFIX, BINDIR, ...), DESTDIR, and in BUILD what was built.
#
# Both go through the same list (each), so that what one puts the other removes.
set -eu
umask 022
export PATH="$PATH:/usr/sbin:/sbin"
cd "$(dirname "$0")/.."

# put MODE FILE FOLDER [NAME]
put() {
	[ -d "$DESTDIR$3" ] || install -d "$DESTDIR$3"
	to=$DESTDIR$3/${4:-${2##*/}}
	# By a rename: a program that starts meanwhile finds the old file or the new one, whole.
	install -m "$1" "$2" "$to.new"
	mv -f "$to.new" "$to"
}

put_link() {
	ln -sf "$1" "$DESTDIR$2/$3"
}

put_man_link() {
	rm -f "$DESTDIR$MANDIR/man3/$2.3"
	printf '.so man3/%s\n' "$1" >"$DESTDIR$MANDIR/man3/$2.3"
	chmod 644 "$DESTDIR$MANDIR/man3/$2.3"
}

remove() {
	rm -f "$DESTDIR$3/${4:-${2##*/}}"
}

remove_link() {
	rm -f "$DESTDIR$2/$3"
}

remove_man_link() {
	rm -f "$DESTDIR$MANDIR/man3/$2.3"
}

# each WHAT: does WHAT, WHAT_link and WHAT_man_link for everything that is installed.
each() {
	"$1" 755 "$BUILD/vfio-cprd" "$SBINDIR"
	"$1" 755 "$BUILD/vfio-cprctl" "$BINDIR"
	"$1" 644 "$BUILD/$SONAME" "$LIBDIR"
	"$1_link" "$SONAME" "$LIBDIR" libvfio-cpr.so
	"$1" 644 "$BUILD/libvfio-cpr.a" "$LIBDIR"
	"$1" 644 "$BUILD/libvfio-cpr.pc" "$LIBDIR/pkgconfig"
	"$1" 644 include/vfio-cpr.h "$INCLUDEDIR"
	"$1" 644 common/io.vfiocpr.Session.varlink "$VARLINKDIR"
	"$1" 644 systemd/vfio-cprd.socket "$UNITDIR"
	"$1" 644 "$BUILD/vfio-cprd.service" "$UNITDIR"
	"$1" 644 systemd/vfio-cprd.sysusers "$SYSUSERSDIR" vfio-cprd.conf
	"$1" 644 systemd/vfio-cprd.tmpfiles "$TMPFILESDIR" vfio-cprd.conf
	each_completion "$1"
	each_page "$1"
	for file in systemd/50-vm-example.conf README.md NEWS; do
		[ ! -e "$file" ] || "$1" 644 "$file" "$DOCDIR"
	done
	"$1" 644 examples/edu.c "$DOCDIR/examples"
}

# Each shell looks for a name of its own.
each_completion() {
	for file in completions/*; do
		case $file in
		*.bash) "$1" 644 "$file" "$COMPLETIONDIR" vfio-cprctl ;;
		*.fish) "$1" 644 "$file" "$FISHCOMPLETIONDIR" ;;
		*/_*) "$1" 644 "$file" "$ZSHCOMPLETIONDIR" ;;
		esac
	done
}

# A page of section 3 is of several functions. Each is found by its own name: man's data base knows
# them too, but it is made at night.
each_page() {
	for page in docs/*.[1-8]; do
		"$1" 644 "$page" "$MANDIR/man${page##*.}"
	done
	for page in docs/*.3; do
		sed -nE 's/^\.Nm (vfio_cpr_[a-z0-9_]+)( ,)?$/\1/p' "$page" | while read -r name; do
			[ -e "docs/$name.3" ] || "$1_man_link" "${page##*/}" "$name"
		done
	done
}

have() {
	command -v "$1" >/dev/null
}

is_same() {
	[ "$1" ] && [ "$(readlink -f "$1")" = "$(readlink -f "$2")" ]
}

systemd_runs() {
	[ -d /run/systemd/system ] && have systemctl
}

# run COMMAND...: says so and does it. A failure is told and keeps nothing else from being done.
run() {
	echo "  $*"
	"$@" || {
		echo "'$*' failed with status $?: correct what it says and run it again" >&2
		failed=1
	}
}

# Does systemd look for units in that folder?
systemd_searches() {
	case $UNITDIR in
	/usr/lib/systemd/system | /lib/systemd/system | /usr/local/lib/systemd/system | \
		/etc/systemd/system) ;;
	*) false ;;
	esac
}

loader_finds_library() {
	ldconfig -p | sed -n 's/.*libvfio-cpr[.]so[.0-9]* .*=> //p' | while read -r path; do
		! is_same "$path" "$LIBDIR/$SONAME" || echo yes
	done | grep -q yes
}

# What a package's scripts do, done here.
set_up() {
	if have systemd-sysusers; then
		run systemd-sysusers "$SYSUSERSDIR/vfio-cprd.conf"
	else
		echo "install: there is no systemd-sysusers: make the system user vfio-cprd yourself" >&2
	fi
	if have systemd-tmpfiles; then
		run systemd-tmpfiles --create "$TMPFILESDIR/vfio-cprd.conf"
	fi
	if have ldconfig; then
		run ldconfig
		loader_finds_library || echo "install: the loader does not search $LIBDIR: name it in a" \
			"file of /etc/ld.so.conf.d and run ldconfig" >&2
	fi
	if systemd_runs; then
		run systemctl daemon-reload
	fi
}

tell_the_rest() {
	if ! systemd_searches; then
		echo "systemd does not search $UNITDIR. To have it there:"
		echo "  systemctl link '$UNITDIR/vfio-cprd.socket' '$UNITDIR/vfio-cprd.service'"
	fi
	echo "Left to do, once:"
	echo "  systemctl enable --now vfio-cprd.socket"
	echo "After an upgrade (a daemon that runs is the old program until then; nothing that it holds"
	echo "is lost, no VMM notices, and the socket needs no restart):"
	echo "  systemctl try-restart vfio-cprd.service"
}

tell_packager() {
	cat <<-'END'
		The package's scripts are to run, after the files are in place:
		  systemd-sysusers vfio-cprd.conf
		  systemd-tmpfiles --create vfio-cprd.conf
		  ldconfig
		  systemctl daemon-reload
		  systemctl try-restart vfio-cprd.service       at an upgrade; nothing is lost by it
		They must not stop or restart vfio-cprd.socket at an upgrade: see vfio-cprd(8).
	END
}

tell_user() {
	cat <<-'END'
		Not root, so nothing was set up. As root:
	END
	printf '  %s\n' "systemd-sysusers '$SYSUSERSDIR/vfio-cprd.conf'" \
		"systemd-tmpfiles --create '$TMPFILESDIR/vfio-cprd.conf'" ldconfig \
		"systemctl daemon-reload"
}

install_all() {
	each put
	if [ "$DESTDIR" ]; then
		tell_packager
	elif [ "$(id -u)" = 0 ]; then
		set_up
		tell_the_rest
	else
		tell_user
		tell_the_rest
	fi
}

# Is the daemon of this host the one that was installed here?
is_ours() {
	[ -z "$DESTDIR" ] && systemd_runs &&
		is_same "$(systemctl show -P FragmentPath vfio-cprd.service)" "$UNITDIR/vfio-cprd.service"
}

# Without its unit file systemd forgets how many descriptors it is to keep.
refuse_if_held() {
	held=$(systemctl show -P NFileDescriptorStore vfio-cprd.service)
	[ "${held:-0}" != 0 ] || return 0
	cat >&2 <<-END
		uninstall: vfio-cprd holds sessions (systemd keeps $held descriptors for it); without its unit
		they would be lost, and devices be reset, at any time. Nothing was removed. First either
		  vfio-cprctl list; vfio-cprctl release NAME...
		or, which resets all devices whose VMM is dead,
		  systemctl stop vfio-cprd.socket vfio-cprd.service
		  systemctl clean --what=fdstore vfio-cprd.service
	END
	exit 1
}

uninstall_all() {
	ours=no
	if is_ours; then
		ours=yes
		refuse_if_held
		run systemctl disable --now vfio-cprd.socket
		run systemctl stop vfio-cprd.service
	fi
	each remove
	rmdir "$DESTDIR$DOCDIR/examples" "$DESTDIR$DOCDIR" 2>/dev/null || true
	[ "$DESTDIR" ] || [ "$(id -u)" != 0 ] || ! have ldconfig || run ldconfig
	[ "$ours" = no ] || run systemctl daemon-reload
	[ "$DESTDIR" ] || cat <<-'END'
		Left, if they were there: the user vfio-cprd (userdel vfio-cprd), drop-ins in
		/etc/systemd/system, the folder /run/vfio-cprd until the next boot, and folders that
		others use too.
	END
}

failed=0
case $1 in
install) install_all ;;
uninstall) uninstall_all ;;
esac
[ "$failed" = 0 ]
