#!/bin/sh
# Sourced in the loop that waits for devices. It ends after rd.retry, which is meant for
# disks that are not there; a server may come back, so it is waited for without end,
# unless the command line says how long.

if [ -e /tmp/nbdctl.plan ] && [ ! -e /tmp/nbdctl.given-up ] && ! getarg rd.retry= > /dev/null; then
    . /tmp/nbdctl.plan
    /usr/sbin/nbdctl boot report --quiet $nbdctl_needed || main_loop=0
fi
if [ -e /tmp/nbdctl.plan ]; then
    . /lib/nbdctl-lib.sh
    . /tmp/nbdctl.plan
    nbdctl_tell_of_dhcp_again
fi
