# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for vfio-cprctl(1)

_vfio_cprctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local global='--json --socket --no-legend --help --version'
	local socket=() verb='' argument='' i

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--socket | -s)
			socket=(--socket "${COMP_WORDS[++i]}")
			;;
		--socket=*)
			socket=("${COMP_WORDS[i]}")
			;;
		--uid | -u)
			((i++))
			;;
		-* | =) ;;
		*)
			if [[ -z $verb ]]; then
				verb=${COMP_WORDS[i]}
			else
				argument=${COMP_WORDS[i]}
			fi
			;;
		esac
	done

	COMPREPLY=()
	case $prev in
	--socket | -s)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--uid | -u)
		mapfile -t COMPREPLY < <(compgen -W "$(id -u)" -- "$cur")
		return
		;;
	esac

	local words=''
	if [[ $cur == -* ]]; then
		case $verb in
		show) words="$global --uid --mappings" ;;
		monitor) words="$global --uid" ;;
		release) words="$global --uid --yes" ;;
		*) words=$global ;;
		esac
	elif [[ -z $verb ]]; then
		words='list show monitor release check'
	else
		case $verb in
		show | monitor | release)
			[[ -n $argument ]] || words=$("${COMP_WORDS[0]}" "${socket[@]}" --no-legend \
				list 2>/dev/null | awk '{ print $1 }')
			;;
		check)
			words=$(cd /sys/bus/pci/devices 2>/dev/null && echo *)
			;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	# PCI addresses and some session names have colons, at which bash breaks words.
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}

complete -F _vfio_cprctl vfio-cprctl
