#!/bin/sh
# Sourced once the command line is to be read, and by netroot.sh once DHCP has answered.

command -v getcmdline > /dev/null || . /lib/dracut-lib.sh
. /lib/nbdctl-lib.sh

if [ -n "$new_root_path" ]; then
    nbdctl_parse --root-path="$new_root_path" \
        --root-server="${new_next_server:-$new_dhcp_server_identifier}"
    nbdctl_start
else
    nbdctl_parse
fi
