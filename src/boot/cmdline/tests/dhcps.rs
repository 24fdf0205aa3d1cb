//! What DHCP says.

use super::*;

#[test]
fn dhcp_says_it() {
    for (line, path, server, expected) in [
        (
            "root=dhcp",
            "nbd:h:vm1",
            "",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        (
            "root=/dev/root netroot=dhcp",
            "nbd:h:10810:ext4:noatime",
            "",
            "nbd0 nbd://h:10810/; root /dev/nbd0 ext4 noatime",
        ),
        (
            "root=/dev/root netroot=dhcp",
            "nbd:[::1]:vm1:ext4::bs=512",
            "",
            "nbd0 nbd://[::1]/vm1 block_size=512; root /dev/nbd0 ext4",
        ),
        (
            "netroot=dhcp",
            "nbd::vm1",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9/vm1; root /dev/nbd0",
        ),
        (
            "netroot=dhcp",
            "nbd://h/vm1",
            "",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        (
            "root=LABEL=x netroot=dhcp",
            "nbd:h:vm1",
            "",
            "nbd0 nbd://h/vm1",
        ),
        (
            "root=/dev/nbd3p1 netroot=dhcp",
            "nbd:h:vm1",
            "",
            "nbd3 nbd://h/vm1",
        ),
        // Another kind of root is another module's.
        ("root=dhcp", "iscsi:h::::x", "", ""),
        ("root=dhcp", "", "", ""),
        // Debian's.
        (
            "nbdroot=dhcp",
            "h/vm1",
            "",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=",
            "h:10810/vm1",
            "",
            "nbd0 nbd://h:10810/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=dhcp",
            "h,vm1,nbd2",
            "",
            "nbd2 nbd://h/vm1; root /dev/nbd2",
        ),
        (
            "nbdroot=dhcp",
            "/vm1",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=dhcp",
            ":/vm1",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=/vm1",
            "",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=:/vm1",
            "/nfs/x",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=:10810/vm1",
            "",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9:10810/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=dhcp/vm1",
            "",
            "10.0.0.9",
            "nbd0 nbd://10.0.0.9/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=dhcp,vm1,nbd1",
            "",
            "10.0.0.9",
            "nbd1 nbd://10.0.0.9/vm1; root /dev/nbd1",
        ),
        (
            "nbdroot=dhcp",
            "nbd:h:vm1",
            "",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        (
            "nbdroot=dhcp",
            "nbdserver:/vm1",
            "",
            "nbd0 nbd://nbdserver/vm1; root /dev/nbd0",
        ),
        // A device without an export is as nbdroot=.
        ("root=/dev/nbd0", "h/vm1", "", "nbd0 nbd://h/vm1"),
        ("root=/dev/nbd2p1 ro", "nbd:h:vm1", "", "nbd2 nbd://h/vm1"),
        (
            "nbddev=/dev/nbd4",
            "/vm1",
            "10.0.0.9",
            "nbd4 nbd://10.0.0.9/vm1; root /dev/nbd4",
        ),
        ("root=/dev/nbd0 netroot=dhcp", "iscsi:h::::x", "", ""),
        (
            "nbdroot=dhcp",
            "nbd://h:10810/vm1,ro",
            "",
            "nbd0 nbd://h:10810/vm1 read_only=true; root /dev/nbd0",
        ),
    ] {
        let dhcp = dhcp(path, server);
        assert_eq!(told(line, Some(&dhcp)), expected, "{line} and {path:?}");
    }
}

#[test]
fn what_dhcp_leaves_out_is_told() {
    for (line, path, expected) in [
        (
            "nbdroot=dhcp",
            "",
            "nbdroot=dhcp: asks DHCP for the export; DHCP's answer had no root-path: set option root-path at the DHCP server, or write",
        ),
        (
            "nbdroot=/vm1",
            "",
            "nbdroot=/vm1: it leaves the host to DHCP, whose answer named none: write HOST/EXPORT",
        ),
        (
            "netroot=dhcp",
            "nbd:",
            "DHCP's root-path nbd:: it names no server",
        ),
        (
            "nbdroot=dhcp",
            "nbds://h/x",
            "DHCP's root-path nbds://h/x: nbds:// asks for TLS",
        ),
    ] {
        let plan = read(line, Some(&dhcp(path, "")));
        assert!(
            plan.problems[0].starts_with(expected),
            "{line}: {:?}",
            plan.problems
        );
    }
}

/// The boot may have another root yet.
#[test]
fn no_root_path_is_told_where_it_is_no_error() {
    for (line, expected) in [
        (
            "root=dhcp",
            "root=dhcp: DHCP's answer had no root-path: set",
        ),
        (
            "netroot=dhcp",
            "netroot=dhcp: DHCP's answer had no root-path",
        ),
        (
            "root=/dev/nbd0",
            "root=/dev/nbd0: neither nbdctl= nor nbdroot= says of which export; DHCP's answer had no root-path",
        ),
        (
            "nbddev=nbd1 root=/dev/sda1",
            "nbddev=nbd1: neither nbdctl= nor nbdroot= says of which export; DHCP's",
        ),
    ] {
        let plan = read(line, Some(&dhcp("", "")));
        assert!(plan.is_empty(), "{line}: {:?}", plan.problems);
        assert_eq!(plan.warnings.len(), 1, "{line}");
        assert!(
            plan.warnings[0].starts_with(expected),
            "{:?}",
            plan.warnings
        );
    }
}
