#!/bin/bash
# dracut's module for exports that are attached in the initramfs: the root, or what the
# root is on. It reads rd.nbdctl=, and every form of the stock module (nbd), whose place
# it takes; `nbdctl boot` does the reading.

# Exit status 255: only where it is asked for, or the root is on a device of nbdctl's.
check() {
    require_binaries /usr/sbin/nbdctl || return 1
    [[ $hostonly ]] || [[ $mount_needs ]] || return 0
    [[ $(nbdctl_devices) ]] || return 255
    return 0
}

depends() {
    echo network rootfs-block
}

# The devices of nbdctl's that what is mounted at boot is on, a line each.
nbdctl_devices() {
    nbdctl_print() {
        local sys
        sys=$(readlink -f "/sys/dev/block/$1") || return 1
        [[ ! -e $sys/partition ]] || sys=${sys%/*}
        [[ $(cat "$sys/backend" 2> /dev/null) == nbdctl1:* ]] || return 1
        echo "/dev/${sys##*/}"
        # As if it were none, or the others would not be looked at.
        return 1
    }
    for_each_host_dev_and_slaves_all nbdctl_print | sort -u
}

# What this machine's next boot needs, in host-only mode.
cmdline() {
    local device word address
    for device in $(nbdctl_devices); do
        word=$(/usr/sbin/nbdctl boot cmdline "$device") || continue
        printf ' %s' "$word"
        address=$(/usr/sbin/nbdctl boot cmdline --address "$device")
        [[ ! $address ]] || printf ' %s' "$(nbdctl_network "$address")"
    done
}

# How this machine has the network that leads to an address: by DHCP, or as it stands.
nbdctl_network() {
    local route interface mac
    route=$(ip -o route get "$1" 2> /dev/null) || return 0
    interface=${route#* dev }
    interface=${interface%% *}
    [[ $interface != lo ]] || return 0
    # An address that nbdctl has made live for ever is DHCP's, too.
    if [[ -e /run/nbdctl/.dhcp-$interface ]] ||
        ip -o addr show dev "$interface" | grep -q dynamic; then
        mac=$(cat "/sys/class/net/$interface/address" 2> /dev/null)
        echo "${mac:+ifname=$interface:$mac }ip=$interface:dhcp"
    else
        ip_params_for_remote_addr "$1"
    fi
}

installkernel() {
    # Whatever this machine has loaded: the driver is needed.
    hostonly='' instmods nbd
}

install() {
    local words unit folder
    inst_multiple /usr/sbin/nbdctl
    inst_multiple -o /usr/lib/modprobe.d/nbdctl.conf ip
    inst_rules 59-nbdctl.rules 65-nbdctl.rules 69-nbdctl-lvm.rules
    inst_hook cmdline 90 "$moddir/parse-nbdctl.sh"
    inst_hook pre-trigger 90 "$moddir/nbdctl-start.sh"
    inst_hook initqueue/settled 90 "$moddir/nbdctl-settled.sh"
    inst_hook emergency 50 "$moddir/nbdctl-emergency.sh"
    inst_hook pre-shutdown 50 "$moddir/nbdctl-take-over.sh"
    # Behind those of what may be stacked on a device.
    inst_hook shutdown 95 "$moddir/nbdctl-detach.sh"
    inst_script "$moddir/nbdroot.sh" /sbin/nbdroot
    inst_script "$moddir/nbdctl-lib.sh" /lib/nbdctl-lib.sh
    if dracut_module_included systemd-initrd; then
        for folder in /usr/local/lib/systemd/system "$systemdsystemunitdir"; do
            for unit in nbdctl@.service nbdctl@.service.d/10-order.conf; do
                inst_multiple -o "$folder/$unit"
            done
            inst_multiple -o "$folder-generators/nbdctl-generator"
        done
        inst_simple "$moddir/initrd.conf" "$systemdsystemunitdir/nbdctl@.service.d/50-initrd.conf"
    fi
    if [[ $hostonly_cmdline == yes ]]; then
        words=$(cmdline)
        [[ ! $words ]] || echo "$words" > "$initdir/etc/cmdline.d/95nbdctl.conf"
    fi
    dracut_need_initqueue
}
