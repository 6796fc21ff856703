# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion for vfio-cprctl(1)

# The verb on the command line, before the cursor; empty if there is none yet.
function __vfio_cprctl_verb
    set -l words (commandline -opc)
    set -l i 2
    while test $i -le (count $words)
        switch $words[$i]
            case -s --socket
                set i (math $i + 1)
            case '-*'
            case '*'
                echo $words[$i]
                return
        end
        set i (math $i + 1)
    end
end

function __vfio_cprctl_is
    contains -- "$(__vfio_cprctl_verb)" $argv
end

# Whether the verb has its one argument already.
function __vfio_cprctl_wants_session
    set -l verb (__vfio_cprctl_verb)
    contains -- "$verb" show monitor release; or return
    set -l words (commandline -opc)
    set -l place (contains -i -- $verb $words)
    set -l skip 0
    for word in $words[(math $place + 1)..]
        if test $skip = 1
            set skip 0
        else if contains -- $word -s --socket -u --uid
            set skip 1
        else if not string match -q -- '-*' $word
            return 1
        end
    end
end

# The names of sessions and the devices that they hold.
function __vfio_cprctl_held
    set -l words (commandline -opc)
    set -l command $words[1]
    for i in (seq 2 (count $words))
        switch $words[$i]
            case -s --socket
                set -q words[(math $i + 1)]
                and set -a command --socket $words[(math $i + 1)]
            case '--socket=*'
                set -a command $words[$i]
        end
    end
    $command --json list 2>/dev/null | awk -F '"' '
        /^    "name": / && $4 ~ /^[-A-Za-z0-9:._@]+$/ { print $4 "\tsession" }
        /^    "devices": \\[$/ { devices = 1; next }
        /^    \\]/ { devices = 0 }
        devices && $2 ~ /^[-A-Za-z0-9:._@]+$/ { print $2 "\tdevice of a session" }'
end

# The PCI devices but for bridges, which no VM gets.
function __vfio_cprctl_pci
    set -l root /sys/bus/pci/devices
    set -q _vfio_cprctl_sysfs; and set root $_vfio_cprctl_sysfs
    for dir in $root/*
        test -r $dir/class; and read -l class <$dir/class
        and not string match -q '0x06*' $class
        and string replace -r '.*/' '' $dir
    end
end

function __vfio_cprctl_units
    systemctl list-units --all --plain --no-legend --no-pager --type=service 2>/dev/null |
        string replace -r ' .*' ''
end

complete -c vfio-cprctl -f
complete -c vfio-cprctl -s h -l help -d 'Print help and exit'
complete -c vfio-cprctl -l version -d 'Print the version and exit'
complete -c vfio-cprctl -s j -l json -d 'Print JSON'
complete -c vfio-cprctl -s s -l socket -rF -d 'The socket of the daemon'
complete -c vfio-cprctl -l no-legend -d 'Print tables without their headings'

complete -c vfio-cprctl -n '__vfio_cprctl_is ""' -a list -d 'Sessions, their holders and devices'
complete -c vfio-cprctl -n '__vfio_cprctl_is ""' -a show -d 'One session, object by object'
complete -c vfio-cprctl -n '__vfio_cprctl_is ""' -a monitor -d 'What happens to sessions'
complete -c vfio-cprctl -n '__vfio_cprctl_is ""' -a release -d 'End a session'
complete -c vfio-cprctl -n '__vfio_cprctl_is ""' -a check \
    -d 'Whether this host, and these devices, can be handed over'

complete -c vfio-cprctl -n __vfio_cprctl_wants_session -a '(__vfio_cprctl_held)'
complete -c vfio-cprctl -n '__vfio_cprctl_is check' -a '(__vfio_cprctl_pci)' -d 'PCI device'

complete -c vfio-cprctl -n '__vfio_cprctl_is show monitor release' -s u -l uid -x \
    -a '(__fish_complete_users)' -d 'The owner of the session'
complete -c vfio-cprctl -n '__vfio_cprctl_is show' -s m -l mappings -d 'List every DMA mapping'
complete -c vfio-cprctl -n '__vfio_cprctl_is release' -s y -l yes -d 'Do not ask'
complete -c vfio-cprctl -n '__vfio_cprctl_is release' -l force \
    -d 'Also if its holder lives and nobody can be asked'
complete -c vfio-cprctl -n '__vfio_cprctl_is release' -l when-dead -d 'Only if no process holds it'
complete -c vfio-cprctl -n '__vfio_cprctl_is check' -l unit -x -a '(__vfio_cprctl_units)' \
    -d 'For a VMM in that systemd unit'
complete -c vfio-cprctl -n '__vfio_cprctl_is check' -l user -x -a '(__fish_complete_users)' \
    -d 'For a VMM of that user'
