//! What cannot be used, and what is used otherwise than it was perhaps meant.

use super::*;

#[test]
fn an_error_names_the_setting_and_says_what_to_write() {
    for (line, expected) in [
        ("rd.nbdctl=h", "rd.nbdctl=h: not a URI: write nbd://HOST"),
        ("nbdctl=", "nbdctl=: not a URI: write nbd://HOST"),
        (
            "rd.nbdctl=nbd://h/x,bs=4096",
            "rd.nbdctl=nbd://h/x,bs=4096: there is no option \"bs\": there are name, device,",
        ),
        (
            "rd.nbdctl=nbd://h/x,dead_timout=7",
            "there is no option \"dead_timout\": did you mean dead_timeout?",
        ),
        (
            "rd.nbdctl=nbd://h/x,dead_timeout=soon",
            "dead_timeout=soon: give a number of whole seconds",
        ),
        (
            "rd.nbdctl=nbd://h/x,device",
            "device needs a value: write device=VALUE",
        ),
        (
            "rd.nbdctl=nbd://h/x,name=a/b",
            "name: \"a/b\" cannot be a name: use a letter",
        ),
        (
            "rd.nbdctl=nbd://h/x,name=nbd1,device=nbd2",
            "can be /dev/nbd1 only",
        ),
        (
            "rd.nbdctl=nbd://h/x,root=false",
            "there is no option \"root\"",
        ),
        (
            "rd.nbdctl=nbds://h/x",
            "rd.nbdctl=nbds://h/x: nbds:// asks for TLS",
        ),
        ("rd.nbdctl=nbd://h/x,tls-verify", "asks for TLS"),
        (
            "rd.nbdctl=nbd://h/x,path=relay",
            "rd.nbdctl=nbd://h/x,path=relay: path: a relay cannot serve / or",
        ),
        (
            "netroot=nbd:h:x:::path=relay",
            "path: a relay cannot serve / or what an initramfs attaches",
        ),
        (
            "root=nbd:",
            "root=nbd:: it names no server: write nbd:SERVER:EXPORT",
        ),
        ("netroot=nbd::x", "netroot=nbd::x: it names no server"),
        (
            "netroot=nbd:[::1:x",
            "netroot=nbd:[::1:x: the bracket around the address is not closed",
        ),
        (
            "netroot=nbd:[::1]x:y",
            "something behind the ] of the address",
        ),
        (
            "netroot=nbd:h:99999",
            "netroot=nbd:h:99999: \"99999\" is no port: give a number from 1 to 65535",
        ),
        ("netroot=nbd:h:0", "\"0\" is no port"),
        (
            "netroot=nbd:h:x:::bs=7",
            "block_size=7: give a block size of 512",
        ),
        ("netroot=nbd:h:x:::tls", "asks for TLS"),
        ("nbdroot=h:x/vm1", "nbdroot=h:x/vm1: \"x\" is no port"),
        (
            "nbdroot=h/vm1 nbddev=/dev/sda",
            "nbddev=/dev/sda: give /dev/nbdN",
        ),
        ("nbdroot=h,vm1,sda", "the device sda: give /dev/nbdN"),
        (
            "nbdroot=[::1",
            "the bracket around the address is not closed",
        ),
    ] {
        let problem = problem(line);
        assert!(problem.contains(expected), "{line}: {problem}");
        let setting = line.split(' ').next().unwrap();
        assert!(problem.starts_with(setting), "{line}: {problem}");
    }
}

#[test]
fn one_device_is_one_exports() {
    let plan = read(
        "nbdctl=nbd://h/a,device=nbd1 nbdctl=nbd://h/b,device=nbd1",
        None,
    );
    assert_eq!(plan.exports.len(), 1);
    assert_eq!(
        plan.problems,
        ["nbdctl=nbd://h/b,device=nbd1: /dev/nbd1 is another one's: choose another device"]
    );
}

#[test]
fn what_is_not_used_is_told_and_stops_nothing() {
    for (line, expected) in [
        (
            "root=nbd:h:x:::timeout=30",
            "root=nbd:h:x:::timeout=30: timeout=30 is not used: it would cut off",
        ),
        (
            "root=nbd:h:x:::dead-timeout=0",
            "dead-timeout=0 is not used",
        ),
        ("root=nbd:h:x:::nofork", "there is no option \"nofork\""),
        (
            "root=nbd:h:x netroot=nbd:h:y",
            "netroot=nbd:h:y: not used: root= names an export itself",
        ),
        (
            "root=LABEL=x netroot=nbd:h:y:ext4",
            "rootfstype= and rootflags= say them",
        ),
        ("nbdroot=h,10810", "10810 is taken for the port"),
        (
            "nbdctl=nbd://h/a,name=r nbdctl=nbd://g/a,name=r",
            "nbdctl=nbd://h/a,name=r: not used: nbdctl=nbd://g/a,name=r has its name",
        ),
    ] {
        let plan = read(line, None);
        assert!(
            plan.problems.is_empty() && plan.exports.len() == 1,
            "{line}"
        );
        assert_eq!(plan.warnings.len(), 1, "{line}: {:?}", plan.warnings);
        assert!(
            plan.warnings[0].contains(expected),
            "{line}: {:?}",
            plan.warnings
        );
    }
}

/// It would be run by a shell, or change a unit.
#[test]
fn a_mount_is_told_of_in_plain_characters() {
    for (line, path, expected) in [
        (
            "root=dhcp",
            "nbd:a:x:';reboot;'",
            "DHCP's root-path nbd:a:x:';reboot;': a file system type has no \"'\"",
        ),
        (
            "nbdroot=dhcp",
            "nbd:a:x:ext4:noatime\\0047",
            "DHCP's root-path nbd:a:x:ext4:noatime\\0047: mount options have no \"\\\"",
        ),
        (
            "root=dhcp",
            "nbd:a:x:ext4:a\nb",
            "mount options have no \"\\n\"",
        ),
        ("root=dhcp", "nbd:a:x:%n", "a file system type has no \"%\""),
        (
            "root=dhcp",
            "nbd:a:x::$(reboot)",
            "mount options have no \"$\"",
        ),
        (
            "netroot=nbd:a:x::`x`",
            "",
            "netroot=nbd:a:x::`x`: mount options",
        ),
        (
            "rd.nbdctl=nbd://h/x rootflags=a%b",
            "",
            "rootflags=a%b: mount options have no \"%\"",
        ),
        (
            "rd.nbdctl=nbd://h/x rootfstype=a;b",
            "",
            "rootfstype=a;b: a file system type has no \";\"",
        ),
    ] {
        let plan = read(line, Some(&dhcp(path, "")));
        assert_eq!(plan.problems.len(), 1, "{line}: {:?}", plan.problems);
        assert!(plan.problems[0].contains(expected), "{:?}", plan.problems);
        let mount = [plan.mount.fs_type, plan.mount.options];
        let mut mount = mount.iter().flatten();
        assert!(mount.all(|text| text == "ext4"), "{line}");
    }
    let sound = "rd.nbdctl=nbd://h/x rootfstype=btrfs rootflags=subvol=/@root,x-y.z:1+2";
    assert_eq!(
        told(sound, None),
        "nbd0 nbd://h/x; root /dev/nbd0 btrfs subvol=/@root,x-y.z:1+2"
    );
}
