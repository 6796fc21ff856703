# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for vfio-cprctl(1)
#
# Needs nothing of the package bash-completion, which may not be loaded. PCI addresses and session
# names have colons, at which bash breaks words, as at '=' and '@': COMP_WORDS is put together again,
# and what of the last word readline keeps is taken off the answers. Candidates are only compared,
# never expanded as compgen -W does: other users choose the names of sessions.

# The words of the command line up to the cursor, as the program would get them, into words.
_vfio_cprctl_words()
{
	local rest=${COMP_LINE:0:COMP_POINT} blank word i
	words=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		blank=${rest%%[![:space:]]*}
		rest=${rest#"$blank"}
		word=${COMP_WORDS[i]}
		# The cursor may be within the last one.
		((i < COMP_CWORD)) || word=$rest
		if [[ $i == 0 || -n $blank ]]; then
			words+=("$word")
		else
			words[${#words[@]} - 1]+=$word
		fi
		rest=${rest#"$word"}
	done
}

# What the program may be asked for: the names of sessions and the devices that they hold. Names are
# chosen by other users; the daemon takes no others, and a shell has no use for them here.
_vfio_cprctl_held()
{
	"$@" --json list 2>/dev/null | awk -F '"' '
		/^    "name": / && $4 ~ /^[-A-Za-z0-9:._@]+$/ { print $4 }
		/^    "devices": \[$/ { devices = 1; next }
		/^    \]/ { devices = 0 }
		devices && $2 ~ /^[-A-Za-z0-9:._@]+$/ { print $2 }'
}

# The PCI devices but for bridges, which no VM gets.
_vfio_cprctl_pci()
{
	local dir class
	for dir in "${_vfio_cprctl_sysfs:-/sys/bus/pci/devices}"/*; do
		[[ -r $dir/class ]] && read -r class <"$dir/class" && [[ $class != 0x06* ]] &&
			printf '%s\n' "${dir##*/}"
	done
}

_vfio_cprctl_units()
{
	systemctl list-units --all --plain --no-legend --no-pager --type=service 2>/dev/null |
		awk '{ print $1 }'
}

# Those lines of standard input that begin with the current word; PCI addresses also without the
# domain 0000. What readline keeps of the word, up to its last break, is left out.
_vfio_cprctl_reply()
{
	local cur=$1 kept='' mark part line short=()
	for mark in : = @; do
		[[ $COMP_WORDBREAKS == *"$mark"* && $cur == *"$mark"* ]] || continue
		part=${cur%"${cur##*"$mark"}"}
		# A host name's @ belongs to what follows.
		[[ $mark != @ ]] || part=${part%@}
		((${#part} <= ${#kept})) || kept=$part
	done
	while IFS= read -r line; do
		if [[ $line == "$cur"* ]]; then
			COMPREPLY+=("${line#"$kept"}")
		elif [[ $line == 0000:"$cur"* ]]; then
			line=${line#0000:}
			short+=("${line#"$kept"}")
		fi
	done
	[[ ${#COMPREPLY[@]} != 0 ]] || COMPREPLY=("${short[@]}")
}

_vfio_cprctl_files()
{
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_vfio_cprctl()
{
	local words=() program verb='' argument='' i cur
	local options=(--json --socket --no-legend --help --version)
	_vfio_cprctl_words
	cur=${words[${#words[@]} - 1]}
	program=("${words[0]}")
	COMPREPLY=()

	for ((i = 1; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		--socket | -s)
			((i + 1 < ${#words[@]} - 1)) && program+=(--socket "${words[i + 1]}")
			((i++))
			;;
		--socket=*) program+=("${words[i]}") ;;
		--uid | -u | --unit | --user) ((i++)) ;;
		-*) ;;
		*) if [[ -z $verb ]]; then verb=${words[i]}; else argument=${words[i]}; fi ;;
		esac
	done

	case ${words[${#words[@]} - 2]} in
	--socket | -s) _vfio_cprctl_files "$cur" && return ;;
	--uid | -u | --user)
		_vfio_cprctl_reply "$cur" < <(compgen -u)
		return
		;;
	--unit)
		_vfio_cprctl_reply "$cur" < <(_vfio_cprctl_units)
		return
		;;
	esac
	case $cur in
	--socket=*) _vfio_cprctl_files "${cur#*=}" && return ;;
	--uid=* | --user=*)
		_vfio_cprctl_reply "$cur" < <(compgen -P "${cur%%=*}=" -u)
		return
		;;
	--unit=*)
		_vfio_cprctl_reply "$cur" < <(_vfio_cprctl_units | sed 's/^/--unit=/')
		return
		;;
	-*)
		case $verb in
		show) options+=(--uid --mappings) ;;
		monitor) options+=(--uid) ;;
		release) options+=(--uid --yes --force --when-dead) ;;
		check) options+=(--unit --user) ;;
		esac
		_vfio_cprctl_reply "$cur" < <(printf '%s\n' "${options[@]}")
		return
		;;
	esac

	case $verb in
	'') _vfio_cprctl_reply "$cur" < <(printf '%s\n' list show monitor release check) ;;
	show | monitor | release)
		[[ -n $argument ]] || _vfio_cprctl_reply "$cur" < <(_vfio_cprctl_held "${program[@]}")
		;;
	check) _vfio_cprctl_reply "$cur" < <(_vfio_cprctl_pci) ;;
	esac
}

complete -F _vfio_cprctl vfio-cprctl
