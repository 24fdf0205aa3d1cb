//! Every form, and what is made of it.

#![allow(clippy::indexing_slicing, reason = "it is all tests")]

use super::*;
use crate::config::to_toml;

/// What a plan is, in few words: for each export its name, device and URI, then what of
/// its settings is not as by default, and the root.
fn told(line: &str, dhcp: Option<&Dhcp>) -> String {
    let plan = read(line, dhcp);
    assert_eq!(plan.problems, Vec::<String>::new(), "{line}");
    let mut all = Vec::new();
    for one in &plan.exports {
        let settings = &one.settings;
        assert!(settings.root && settings.device.is_some(), "{line}");
        let toml = to_toml(settings);
        let others = toml.lines().filter(|line| {
            !["uri =", "device =", "root ="]
                .iter()
                .any(|key| line.starts_with(key))
        });
        let others: String = others
            .map(|line| format!(" {}", line.replace(" = ", "=")))
            .collect();
        let index = settings.device.unwrap();
        all.push(format!("nbd{index} {}{others}", settings.uri));
    }
    if plan.awaits_dhcp {
        all.push("awaits DHCP".to_owned());
    }
    if let Some(root) = plan.root {
        let mount = [plan.mount.fs_type, plan.mount.options];
        let mount: String = mount
            .into_iter()
            .flatten()
            .map(|x| format!(" {x}"))
            .collect();
        all.push(format!("root {root}{mount}"));
    }
    all.join("; ")
}

fn problem(line: &str) -> String {
    let plan = read(line, None);
    assert_eq!(plan.problems.len(), 1, "{line}: {:?}", plan.problems);
    assert_eq!(plan.exports.len(), 0, "{line}");
    plan.problems[0].clone()
}

fn dhcp(root_path: &str, server: &str) -> Dhcp {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Dhcp {
        root_path: filled(root_path),
        server: filled(server),
    }
}

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
            "nbd://h:10810/vm1,ro",
            "",
            "nbd0 nbd://h:10810/vm1 read_only=true; root /dev/nbd0",
        ),
    ] {
        let dhcp = dhcp(path, server);
        assert_eq!(told(line, Some(&dhcp)), expected, "{line} and {path:?}");
    }
}

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
        ("nbddev=/dev/nbd0 root=/dev/sda1", ""),
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
fn what_dhcp_leaves_out_is_told() {
    for (line, path, expected) in [
        (
            "nbdroot=dhcp",
            "",
            "nbdroot=dhcp: asks DHCP for the export, and the answer had no root-path: set option root-path",
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
    ] {
        let plan = read(line, Some(&dhcp(path, "")));
        assert!(
            plan.problems[0].starts_with(expected),
            "{line}: {:?}",
            plan.problems
        );
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

#[test]
fn a_network_is_asked_for_where_it_is_needed() {
    for (line, needs) in [
        ("root=/dev/sda1", false),
        ("nbdctl=nbd+unix:///x?socket=/s", false),
        ("nbdctl=nbd://h/x", true),
        ("netroot=dhcp", true),
    ] {
        assert_eq!(read(line, None).needs_network(), needs, "{line}");
    }
}

/// What is written is read as what it was.
#[test]
fn the_file_has_all_that_was_said() {
    let line = "rd.nbdctl=nbd://h/x,dead_timeout=9,device_timeout=infinity,nofail,ro,name=disk";
    let plan = read(line, None);
    assert_eq!(
        plan.exports[0].to_toml(),
        format!(
            "# From {line}\nuri = \"nbd://h/x\"\ndevice = \"/dev/nbd0\"\nread_only = true\n\
             dead_timeout = 9\nroot = true\ndevice_timeout = \"infinity\"\nnofail = true\n"
        )
    );
    let folder = tempfile::tempdir().unwrap();
    let places = crate::config::Places::below(folder.path());
    std::fs::create_dir_all(&places.run).unwrap();
    std::fs::write(places.run.join("disk.toml"), plan.exports[0].to_toml()).unwrap();
    let export = crate::config::find(&places, &plan.exports[0].settings.name)
        .unwrap()
        .unwrap();
    assert_eq!(
        (export.settings, export.boot),
        (plan.exports[0].settings.clone(), plan.exports[0].boot)
    );
}

mod any {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_makes_it_panic(
            line in "((root|netroot|nbdroot|nbddev|rd.nbdctl|nbdctl)=(nbd:|nbd://)?[\\[\\]a-z0-9:/,=.% \"-]{0,30} ?){0,4}|\\PC{0,60}",
            path in "(nbd:|nbd://)?[\\[\\]a-z0-9:/,=.%-]{0,20}",
        ) {
            let plan = read(&line, Some(&Dhcp { root_path: Some(path), server: None }));
            let mut devices: Vec<_> = plan.exports.iter().map(|one| one.settings.device).collect();
            devices.sort();
            devices.dedup();
            prop_assert_eq!(devices.len(), plan.exports.len());
            for text in plan.problems.iter().chain(&plan.warnings) {
                prop_assert!(text.chars().all(|c| !c.is_control()), "{}", text);
            }
        }
    }
}
