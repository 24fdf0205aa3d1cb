#!/bin/sh
# What the hooks of this module have in common; to be sourced, with dracut-lib.sh.

# What was found on the command line, as assignments.
nbdctl_saved=/tmp/nbdctl.plan
# What that was found in: without what we add.
nbdctl_cmdline=/tmp/nbdctl.cmdline
# There when what is missing is not waited for any more.
nbdctl_given_up=/tmp/nbdctl.given-up

# Reads the command line, with what DHCP said where it did, and sees to it that what
# that asks for will be there.
nbdctl_parse() {
    getcmdline > $nbdctl_cmdline
    nbdctl_text=$(/usr/sbin/nbdctl boot plan --cmdline $nbdctl_cmdline "$@")
    case $? in
        0) ;;
        3) return 0 ;;
        *) die "nbdctl: the command line cannot be used as it stands; above is which setting, and why" ;;
    esac
    printf '%s\n' "$nbdctl_text" > $nbdctl_saved
    eval "$nbdctl_text"

    modprobe nbd || die "nbdctl: this kernel has no nbd driver: is nbd.ko in the initramfs?"
    if [ -n "$nbdctl_network" ]; then
        mkdir -p /etc/cmdline.d
        echo rd.neednet=1 > /etc/cmdline.d/90nbdctl-network.conf
    fi
    for nbdctl_name in $nbdctl_needed; do
        echo "[ -e $nbdctl_given_up ] || /usr/sbin/nbdctl boot report --quiet $nbdctl_name" \
            > "$hookdir/initqueue/finished/nbdctl-$nbdctl_name.sh"
    done
    if [ -n "$nbdctl_dhcp" ]; then
        # net-lib's netroot.sh comes back with the answer.
        rootok=1
        if [ -z "$netroot" ]; then
            netroot=dhcp
            echo netroot=dhcp > /etc/cmdline.d/90nbdctl-dhcp.conf
        fi
    elif [ $# = 0 ] && [ "${netroot%%:*}" = nbd ]; then
        # Seen to. (With DHCP's answer netroot.sh wants it for its handler.)
        netroot=
    fi
    [ -z "$nbdctl_root" ] || nbdctl_take_root
    [ -n "$DRACUT_SYSTEMD" ] || return 0
    # Runs the generator again, which knows by now what is to be attached.
    systemctl daemon-reload
    # What this target is to wait for was settled when the boot began.
    [ -z "$nbdctl_root" ] || systemctl --no-block start initrd-root-fs.target
}

# Where the root is one of our devices and nothing else says so: a generator saw no root,
# or another.
nbdctl_write_mount() {
    [ -n "$DRACUT_SYSTEMD" ] || return 0
    nbdctl_unit=$(dev_unit_name "$nbdctl_root")
    mkdir -p /run/systemd/system/initrd-root-fs.target.requires
    {
        echo "[Unit]"
        echo "Before=initrd-root-fs.target"
        echo "Requires=systemd-fsck@$nbdctl_unit.service"
        echo "After=systemd-fsck@$nbdctl_unit.service"
        echo "[Mount]"
        echo "Where=/sysroot"
        echo "What=$nbdctl_root"
        [ -z "$nbdctl_fstype" ] || printf 'Type=%s\n' "$nbdctl_fstype"
        [ -z "$nbdctl_flags" ] || printf 'Options=%s\n' "$nbdctl_flags"
    } > /run/systemd/system/sysroot.mount
    ln -sf ../sysroot.mount /run/systemd/system/initrd-root-fs.target.requires/sysroot.mount
}

nbdctl_take_root() {
    root=block:$nbdctl_root
    rootok=1
    unset root_unset
    [ -z "$nbdctl_fstype" ] || fstype=$nbdctl_fstype
    [ -z "$nbdctl_flags" ] || rflags=$nbdctl_flags
    # Without end, as the device unit's own time-out would come first.
    wait_for_dev -n "$nbdctl_root"
    # Where root=/dev/root was said, others wait for that; it is our device.
    mkdir -p /run/udev/rules.d
    printf 'ACTION!="remove", SUBSYSTEM=="block", KERNEL=="%s", ATTRS{backend}=="nbdctl1:*", SYMLINK+="root"\n' \
        "${nbdctl_root#/dev/}" > /run/udev/rules.d/99-nbdctl-root.rules
    # udevd runs once there is an answer of DHCP's. Before, it would be waited for: a minute.
    [ -z "$new_root_path" ] || udevadm control --reload
    nbdctl_write_mount
}

# What is missing is not waited for any more. Where that is the root itself, and by the
# driver's own node, nobody else would see it: the node is there from the beginning, and
# systemd waits for a disk behind it without end. So the boot fails, as at a time-out.
nbdctl_give_up() {
    : > $nbdctl_given_up
    case ${root#block:} in
        /dev/nbd*) nbdctl_node=${root##*/} ;;
        *) return 0 ;;
    esac
    nbdctl_size=$(cat "/sys/class/block/$nbdctl_node/size" 2> /dev/null)
    [ "${nbdctl_size:-0}" = 0 ] || return 0
    /usr/sbin/nbdctl boot report $nbdctl_needed
    [ -z "$DRACUT_SYSTEMD" ] \
        || systemctl --no-block --job-mode=replace-irreversibly start emergency.target
}

# Where DHCP is to say what the root is: why it has not. Its answer without a root-path is
# nothing that anybody comes back with.
nbdctl_tell_of_dhcp() {
    [ -n "$nbdctl_dhcp" ] || return 0
    if [ -n "$(ip -o addr show scope global 2> /dev/null)" ]; then
        /usr/sbin/nbdctl boot plan --dry --cmdline $nbdctl_cmdline --root-path= > /dev/null
    else
        echo "nbdctl: no network yet, and DHCP is to say which export the root is: is ip= right?" >&2
    fi
}

# The same in a loop: after five seconds, and then every 20.
nbdctl_tell_of_dhcp_again() {
    read -r nbdctl_now _ < /proc/uptime
    nbdctl_now=${nbdctl_now%%.*}
    : "${nbdctl_told:=$((nbdctl_now - 15))}"
    [ $((nbdctl_now - nbdctl_told)) -ge 20 ] || return 0
    nbdctl_told=$nbdctl_now
    nbdctl_tell_of_dhcp
}

# Has monitors started, and told on the console what they meet.
nbdctl_start() {
    [ -e $nbdctl_saved ] || return 0
    . $nbdctl_saved
    [ -n "$nbdctl_names" ] || return 0
    # The machine ends in this initramfs again: the root can be unmounted from nowhere else.
    need_shutdown
    if [ -n "$DRACUT_SYSTEMD" ]; then
        for nbdctl_name in $nbdctl_names; do
            systemctl --no-block start "nbdctl@$nbdctl_name.service"
        done
    else
        (umask 077 && /usr/sbin/nbdctl boot start $nbdctl_names)
    fi
    [ -n "$nbdctl_needed" ] || return 0
    (
        /usr/sbin/nbdctl boot wait ${nbdctl_timeout:+--timeout "$nbdctl_timeout"} $nbdctl_needed \
            || nbdctl_give_up
    ) < /dev/null &
}
