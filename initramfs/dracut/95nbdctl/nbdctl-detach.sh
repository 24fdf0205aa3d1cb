#!/bin/sh
# Sourced, again and again until it succeeds, in the initramfs that the machine ends in: the
# root is unmounted by then, and what is stacked on the devices is taken apart beside this.

nbdctl_said=$(timeout -k 2 30 /usr/sbin/nbdctl detach --all 2>&1)
nbdctl_status=$?
# 5: in use, as long as something is on it.
[ $nbdctl_status != 5 ] || [ -n "$final" ] || return 1
[ -z "$nbdctl_said" ] || info "nbdctl detach: $nbdctl_said"
[ $nbdctl_status != 5 ]
