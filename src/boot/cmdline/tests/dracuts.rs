//! dracut's forms.

use super::*;

/// The table of dracut's stock module, and of its manual.
#[test]
fn dracuts_forms() {
    for (line, expected) in [
        // Nothing of ours.
        ("root=/dev/sda1 ro quiet", ""),
        ("root=nfs:h:/x netroot=iscsi:h", ""),
        // The third field: a port, a name, both.
        ("root=nbd:h:10810", "nbd0 nbd://h:10810/; root /dev/nbd0"),
        ("root=nbd:h:10809", "nbd0 nbd://h/; root /dev/nbd0"),
        ("root=nbd:h:vm1", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        (
            "root=nbd:h:10810/vm1",
            "nbd0 nbd://h:10810/vm1; root /dev/nbd0",
        ),
        (
            "root=nbd:h:10810/a/b",
            "nbd0 nbd://h:10810/a/b; root /dev/nbd0",
        ),
        ("root=nbd:h:a/b", "nbd0 nbd://h/a/b; root /dev/nbd0"),
        (
            "root=nbd:h:vm1:::port=10810",
            "nbd0 nbd://h:10810/vm1; root /dev/nbd0",
        ),
        (
            "root=nbd:h:10810:::name=vm1",
            "nbd0 nbd://h:10810/vm1; root /dev/nbd0",
        ),
        (
            "root=nbd:h:10810:::-N=vm1",
            "nbd0 nbd://h:10810/vm1; root /dev/nbd0",
        ),
        ("root=nbd:h:a%20b", "nbd0 nbd://h/a%2520b; root /dev/nbd0"),
        // Empty fields.
        ("root=nbd:h", "nbd0 nbd://h/; root /dev/nbd0"),
        ("root=nbd:h:", "nbd0 nbd://h/; root /dev/nbd0"),
        ("root=nbd:h::ext4", "nbd0 nbd://h/; root /dev/nbd0 ext4"),
        (
            "root=nbd:h:vm1::noatime",
            "nbd0 nbd://h/vm1; root /dev/nbd0 noatime",
        ),
        (
            "root=nbd:h:vm1:::bs=4096",
            "nbd0 nbd://h/vm1 block_size=4096; root /dev/nbd0",
        ),
        ("root=nbd:h:vm1::::", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        // All of them.
        (
            "root=nbd:h:vm1:ext4:noatime,ro:bs=1024,conns=2,dead-timeout=30,persist,-swap",
            "nbd0 nbd://h/vm1 connections=2 block_size=1024 dead_timeout=30; \
             root /dev/nbd0 ext4 noatime,ro",
        ),
        (
            "root=nbd:h:vm1:::silence_timeout=7",
            "nbd0 nbd://h/vm1 silence_timeout=7; root /dev/nbd0",
        ),
        // What the kernel's own words say counts, or fills in.
        (
            "rw root=nbd:h:vm1:ext4:ro,x",
            "nbd0 nbd://h/vm1; root /dev/nbd0 ext4 x,rw",
        ),
        (
            "root=nbd:h:vm1 ro rootfstype=xfs rootflags=y",
            "nbd0 nbd://h/vm1; root /dev/nbd0 xfs y,ro",
        ),
        (
            "root=nbd:h:vm1:ext4:z rootfstype=xfs rootflags=y",
            "nbd0 nbd://h/vm1; root /dev/nbd0 ext4 z",
        ),
        // Addresses.
        (
            "root=nbd:10.0.0.5:vm1",
            "nbd0 nbd://10.0.0.5/vm1; root /dev/nbd0",
        ),
        (
            "root=nbd:[2001:db8::1]:10810",
            "nbd0 nbd://[2001:db8::1]:10810/; root /dev/nbd0",
        ),
        (
            "root=nbd:[2001:db8::1]:vm1:ext4",
            "nbd0 nbd://[2001:db8::1]/vm1; root /dev/nbd0 ext4",
        ),
        (
            "root=nbd:[fe80::1%eth0]:10810/vm1",
            "nbd0 nbd://[fe80::1%25eth0]:10810/vm1; root /dev/nbd0",
        ),
        ("root=nbd:[::1]", "nbd0 nbd://[::1]/; root /dev/nbd0"),
        // Another root on it.
        ("root=LABEL=x netroot=nbd:h:vm1", "nbd0 nbd://h/vm1"),
        ("netroot=nbd:h:vm1 root=UUID=x", "nbd0 nbd://h/vm1"),
        (
            "root=/dev/mapper/luks netroot=nbd:h:vm1",
            "nbd0 nbd://h/vm1",
        ),
        (
            "root=/dev/vg/root netroot=nbd:[::1]:vm1",
            "nbd0 nbd://[::1]/vm1",
        ),
        ("root=/dev/nbd0p1 netroot=nbd:h:vm1", "nbd0 nbd://h/vm1"),
        ("root=/dev/nbd5 netroot=nbd:h:vm1", "nbd5 nbd://h/vm1"),
        (
            "root=/dev/root netroot=nbd:h:vm1",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        (
            "root=dhcp netroot=nbd:h:vm1",
            "nbd0 nbd://h/vm1; awaits DHCP; root /dev/nbd0",
        ),
        ("netroot=nbd:h:vm1", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        // More than one.
        (
            "root=LABEL=x netroot=nbd:h:a netroot=nbd:g:b",
            "nbd0 nbd://h/a; nbd1 nbd://g/b",
        ),
        (
            "root=/dev/nbd1p2 netroot=nbd:h:a netroot=nbd:g:b",
            "nbd1 nbd://h/a; nbd0 nbd://g/b",
        ),
        (
            "root=/dev/sda1 root=nbd:h:vm1",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        // A URI will do.
        (
            "root=nbd://h/vm1,io_timeout=200",
            "nbd0 nbd://h/vm1 io_timeout=200; root /dev/nbd0",
        ),
        (
            "netroot=nbd+unix:///x?socket=/s",
            "nbd0 nbd+unix:///x?socket=/s; root /dev/nbd0",
        ),
        // DHCP is yet to say.
        ("root=dhcp", "awaits DHCP"),
        ("netroot=dhcp root=/dev/root", "awaits DHCP"),
        ("netroot=dhcp root=LABEL=x", "awaits DHCP"),
        ("netroot=dhcp6", "awaits DHCP"),
    ] {
        assert_eq!(told(line, None), expected, "{line}");
    }
}
