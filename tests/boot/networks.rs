//! Who manages the network on the running system would take the root's address away: when it
//! begins, when it is restarted, and at a shutdown, with the root's last writes still to
//! come. The root does not notice anything of it; and it would, were nothing set up.

use crate::machine::{Dracut, Ended, Initramfs, InitramfsTools, Machine};

/// Who manages the network, as an administrator sets it up.
#[derive(Clone, Copy)]
enum Who {
    /// With dhcpcd, which Debian 13 has for it.
    Ifupdown,
    /// By udev: what Debian's installer writes.
    IfupdownHotplug,
    Networkd,
    NetworkManager,
}
use Who::{Ifupdown, IfupdownHotplug, NetworkManager, Networkd};

const NETWORK: &str = "/etc/systemd/network/20-wired.network";

impl Who {
    /// The unit that is restarted.
    fn unit(self) -> &'static str {
        match self {
            Ifupdown => "networking.service",
            IfupdownHotplug => "ifup@eth0.service",
            Networkd => "systemd-networkd.service",
            NetworkManager => "NetworkManager.service",
        }
    }

    fn machine(self, initramfs: Initramfs) -> Machine {
        let loopback = "auto lo\niface lo inet loopback\n";
        let interfaces = |how| format!("{loopback}{how} eth0\niface eth0 inet dhcp\n");
        let (wanted, path, text) = match self {
            Ifupdown => (
                "networking.service",
                "/etc/network/interfaces",
                interfaces("auto"),
            ),
            IfupdownHotplug => (
                "networking.service ifup@eth0.service",
                "/etc/network/interfaces",
                interfaces("allow-hotplug"),
            ),
            Networkd => (
                "systemd-networkd.service systemd-networkd-wait-online.service",
                NETWORK,
                "[Match]\nName=e*\n[Network]\nDHCP=yes\n".to_owned(),
            ),
            NetworkManager => (
                "NetworkManager.service NetworkManager-wait-online.service",
                "/etc/NetworkManager/conf.d/wired.conf",
                String::new(),
            ),
        };
        let order = format!("[Unit]\nWants={wanted}\nAfter={wanted}\n");
        Machine::plain(initramfs)
            .file(path, &text)
            .file("/etc/systemd/system/rig.service.d/network.conf", &order)
            // As Debian has it.
            .file("/etc/dhcpcd.conf", "duid\npersistent\n")
    }
}

/// Restarts it under a writer, and powers off under it.
fn assert_kept(initramfs: Initramfs, manager: Who) {
    let unit = manager.unit();
    let ended = manager.machine(initramfs).keep("/var/file").run(&format!(
        "writer /var/file & sleep 2
        systemctl restart {unit}; event restarted; sleep 4; systemctl is-active {unit}
        ip -4 address show eth0; nbdctl status --json
        nbdctl doctor | grep 'eth0 of the root' || :"
    ));
    ended.assert_good();
    ended.assert_written("/var/file");
    let restarted = ended.at("restarted");
    let after = |(at, said): &&(f64, String)| *at > restarted && said.starts_with("wrote ");
    assert!(
        ended.events.iter().filter(after).count() > 2,
        "{}",
        ended.story()
    );
    for said in ["active\n", "inet 10.0.2.15/", r#""reconnects": 0"#] {
        assert!(ended.output.contains(said), "{said}\n{}", ended.story());
    }
    assert!(!ended.output.contains("PROBLEM"), "{}", ended.story());
    assert_eq!(outages(&ended), Vec::<&str>::new(), "{}", ended.story());
    // 3 to 8 s on a quiet machine.
    assert!(ended.down < ended.up.max(30.0), "{}", ended.story());
}

/// What the monitor tells of a connection that is none any more, since the command began.
fn outages(ended: &Ended) -> Vec<&str> {
    let told = ["the server is gone", " is cut: ", "cannot connect: "];
    let is_since = |line: &str| {
        let stamp = line.trim_start_matches('[').split(']').next();
        let stamp = stamp.and_then(|it| it.trim().parse::<f64>().ok());
        stamp.is_some_and(|it| it > ended.up)
    };
    let lines = ended.console.lines().filter(|line| is_since(line));
    lines
        .filter(|line| line.contains("nbdctl[") && told.iter().any(|it| line.contains(it)))
        .collect()
}

/// What is set up can be taken back by files in /etc; the root is lost on the way down then,
/// and doctor has said so.
fn assert_lost(machine: Machine) {
    let ended = machine
        .option("--patience", "30")
        .run("nbdctl doctor | grep 'eth0 of the root'; sleep 2");
    assert!(ended.output.contains("PROBLEM"), "{}", ended.story());
    let off = ended.how == "poweroff" && ended.unmounted;
    assert!(!off, "it is set up in vain\n{}", ended.story());
}

/// The cable is out for long enough that whoever watches the carrier has acted.
fn assert_survives_cable(machine: Machine) {
    let ended = machine
        .when("away", "cable out; sleep 12; cable in; say back")
        .keep("/var/file")
        .limit(300)
        .run(
            "writer /var/file & sleep 2; event away; hear back; event back
            # It waits for the root: that may take as long as silence is borne, and a grace.
            dd if=/dev/zero of=/var/probe bs=4096 count=1 conv=fsync 2>/dev/null; echo written $?
            sleep 3",
        );
    assert_eq!(ended.output, "written 0\n", "{}", ended.story());
    ended.assert_good();
    ended.assert_written("/var/file");
    let back = ended.at("back");
    let after = |(at, said): &&(f64, String)| *at > back && said.starts_with("wrote ");
    assert!(
        ended.events.iter().any(|it| after(&it)),
        "{}",
        ended.story()
    );
}

fn empty(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}.d/50-nbdctl-root.conf")
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_and_ifupdown() {
    assert_kept(InitramfsTools, Ifupdown);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_and_ifupdown_by_udev() {
    assert_kept(InitramfsTools, IfupdownHotplug);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_networkd() {
    assert_kept(Dracut, Networkd);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_and_networkd() {
    assert_kept(InitramfsTools, Networkd);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_network_manager() {
    assert_kept(Dracut, NetworkManager);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_and_network_manager() {
    assert_kept(InitramfsTools, NetworkManager);
}

#[test]
#[ignore = "make test-boot-all"]
fn unplugged_under_networkd() {
    assert_survives_cable(Networkd.machine(InitramfsTools));
}

/// dhcpcd takes the address away, and then waits for a program on the root: the monitor puts
/// it back.
#[test]
#[ignore = "make test-boot-all"]
fn unplugged_under_ifupdown() {
    assert_survives_cable(Ifupdown.machine(InitramfsTools));
}

/// What dracut got by DHCP does not run out where nobody renews it.
#[test]
#[ignore = "make test-boot-all"]
fn nobody_manages_what_dracut_set_up() {
    let ended = Machine::plain(Dracut).run("ip -4 address show eth0");
    ended.assert_good();
    for said in ["inet 10.0.2.15/", "valid_lft forever"] {
        assert!(ended.output.contains(said), "{}", ended.story());
    }
}

#[test]
#[ignore = "make test-boot-all"]
fn ifupdown_as_it_was_loses_the_root() {
    let machine = Ifupdown.machine(InitramfsTools);
    assert_lost(machine.file(&empty("networking.service"), ""));
}

#[test]
#[ignore = "make test-boot-all"]
fn networkd_as_it_was_loses_the_root() {
    let machine = Networkd
        .machine(Dracut)
        .file(&empty("systemd-networkd.service"), "")
        .file(
            &format!("{NETWORK}.d/mine.conf"),
            "[Network]\nKeepConfiguration=no\nIgnoreCarrierLoss=no\n",
        );
    assert_lost(machine);
}
