//! Debian's forms, and ours.

use super::*;

/// The table of Debian's README, and of what its script does.
#[test]
fn debians_forms() {
    for (line, expected) in [
        ("nbdroot=h/vm1", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        (
            "nbdroot=h:10810/vm1",
            "nbd0 nbd://h:10810/vm1; root /dev/nbd0",
        ),
        ("nbdroot=h:/vm1", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        ("nbdroot=h:10810", "nbd0 nbd://h:10810/; root /dev/nbd0"),
        ("nbdroot=h", "nbd0 nbd://h/; root /dev/nbd0"),
        ("nbdroot=h/a/b", "nbd0 nbd://h/a/b; root /dev/nbd0"),
        (
            "nbdroot=[::1]:10810/vm1",
            "nbd0 nbd://[::1]:10810/vm1; root /dev/nbd0",
        ),
        ("nbdroot=[::1]:/vm1", "nbd0 nbd://[::1]/vm1; root /dev/nbd0"),
        ("nbdroot=[::1]/vm1", "nbd0 nbd://[::1]/vm1; root /dev/nbd0"),
        ("nbdroot=h,vm1,nbd2", "nbd2 nbd://h/vm1; root /dev/nbd2"),
        (
            "nbdroot=h,vm1,/dev/nbd2",
            "nbd2 nbd://h/vm1; root /dev/nbd2",
        ),
        ("nbdroot=h,vm1", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        ("nbdroot=h,10810", "nbd0 nbd://h:10810/; root /dev/nbd0"),
        (
            "nbdroot=h,10810,nbd1",
            "nbd1 nbd://h:10810/; root /dev/nbd1",
        ),
        (
            "nbdroot=h/vm1 nbddev=/dev/nbd4",
            "nbd4 nbd://h/vm1; root /dev/nbd4",
        ),
        (
            "nbdroot=h/vm1 nbddev=nbd4p2",
            "nbd4 nbd://h/vm1; root /dev/nbd4p2",
        ),
        (
            "nbdroot=h,vm1,nbd2 nbddev=/dev/nbd4",
            "nbd4 nbd://h/vm1; root /dev/nbd4",
        ),
        ("nbdroot=h/vm1 root=/dev/nbd3p1", "nbd3 nbd://h/vm1"),
        ("nbdroot=h/vm1 root=/dev/nbd3", "nbd3 nbd://h/vm1"),
        ("nbdroot=h/vm1 root=UUID=x", "nbd0 nbd://h/vm1"),
        ("nbdroot=dhcp", "awaits DHCP"),
        ("nbdroot=", "awaits DHCP"),
        ("nbdroot=:/vm1 root=/dev/nbd0", "awaits DHCP"),
        ("nbdroot=/vm1", "awaits DHCP"),
        ("nbddev=/dev/nbd0 root=/dev/sda1", "awaits DHCP"),
        ("root=/dev/nbd0", "awaits DHCP"),
        ("root=/dev/nbd1p2 nbddev=", "awaits DHCP"),
        ("nbddev= root=/dev/sda1", ""),
        ("root=/dev/nbd0 netroot=iscsi:h::::x", ""),
    ] {
        assert_eq!(told(line, None), expected, "{line}");
    }
}

#[test]
fn our_form() {
    for (line, expected) in [
        ("rd.nbdctl=nbd://h/vm1", "nbd0 nbd://h/vm1; root /dev/nbd0"),
        ("nbdctl=nbd://h/vm1 root=LABEL=x", "nbd0 nbd://h/vm1"),
        (
            "rd.nbdctl=nbd://h/vm1,device=/dev/nbd7,ro",
            "nbd7 nbd://h/vm1 read_only=true; root /dev/nbd7",
        ),
        (
            "rd.nbdctl=nbd://h/vm1,dead-timeout=60,io_timeout=250",
            "nbd0 nbd://h/vm1 dead_timeout=60 io_timeout=250; root /dev/nbd0",
        ),
        (
            "rd.nbdctl=nbd://h/vm1,dead_timeout=600",
            "nbd0 nbd://h/vm1 dead_timeout=600; root /dev/nbd0",
        ),
        (
            "rd.nbdctl=nbd://h/vm1,read_only=false,,",
            "nbd0 nbd://h/vm1; root /dev/nbd0",
        ),
        (
            "rd.nbdctl=nbd+unix:///x?socket=/s root=/dev/vg/x",
            "nbd0 nbd+unix:///x?socket=/s",
        ),
        (
            "\"rd.nbdctl=nbd://h/vm1,connections=2\" root=LABEL=\"a b\"",
            "nbd0 nbd://h/vm1 connections=2",
        ),
        (
            "rd.nbdctl=nbd://h/a rd.nbdctl=nbd://h/b,device=nbd0 root=LABEL=x",
            "nbd1 nbd://h/a; nbd0 nbd://h/b",
        ),
        (
            "rd.nbdctl=nbd://h/a rd.nbdctl=nbd://h/b root=/dev/nbd1",
            "nbd1 nbd://h/a; nbd0 nbd://h/b",
        ),
        (
            "rd.nbdctl=nbd://h/a,name=nbd3",
            "nbd3 nbd://h/a; root /dev/nbd3",
        ),
        // The later counts, of two with one name; 0 is none of those before.
        (
            "rd.nbdctl=nbd://h/a,name=r rd.nbdctl=nbd://g/a,name=r",
            "nbd0 nbd://g/a; root /dev/nbd0",
        ),
        ("rd.nbdctl=nbd://h/a rd.nbdctl=0", ""),
        (
            "rd.nbdctl=nbd://h/a rd.nbdctl=0 rd.nbdctl=nbd://g/b",
            "nbd0 nbd://g/b; root /dev/nbd0",
        ),
        // The stock forms' device is the first, as it always was.
        (
            "rd.nbdctl=nbd://h/a netroot=nbd:h:b root=LABEL=x",
            "nbd1 nbd://h/a; nbd0 nbd://h/b",
        ),
        (
            "rd.nbdctl=nbd://h/a netroot=nbd:h:b",
            "nbd1 nbd://h/a; nbd0 nbd://h/b; root /dev/nbd0",
        ),
        (
            "rd.nbdctl=nbd://h/a root=nbd:h:b",
            "nbd1 nbd://h/a; nbd0 nbd://h/b; root /dev/nbd0",
        ),
        // For init, not for us.
        ("root=/dev/sda1 -- rd.nbdctl=nbd://h/a", ""),
    ] {
        assert_eq!(told(line, None), expected, "{line}");
    }
}

#[test]
fn names_are_given_or_made_of_the_uri() {
    let plan = read(
        "rd.nbdctl=nbd://h/a,name=disk netroot=nbd:h:b root=LABEL=x",
        None,
    );
    let names: Vec<_> = plan
        .exports
        .iter()
        .map(|one| one.settings.name.as_str())
        .collect();
    assert_eq!(names, ["disk", "h-b"]);
}
