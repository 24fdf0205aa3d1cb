#!/bin/sh
# Sourced once udev runs, which names devices. The monitors dial until there is a
# network, so they need not wait for it.

command -v getcmdline > /dev/null || . /lib/dracut-lib.sh
. /lib/nbdctl-lib.sh
nbdctl_start
