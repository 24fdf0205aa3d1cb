#!/bin/sh
# Sourced before an emergency shell: what is missing, and which setting wants it.

if [ -e /tmp/nbdctl.plan ]; then
    . /lib/nbdctl-lib.sh
    . /tmp/nbdctl.plan
    /usr/sbin/nbdctl boot report $nbdctl_names
    nbdctl_tell_of_dhcp
fi
