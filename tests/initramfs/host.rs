//! What dracut's module writes into an initramfs for one machine, with dracut's functions,
//! the machine's devices and nbdctl played.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::text;

/// What is mounted is on a partition of nbd0, on another's nbd1, on an nbd2 that no
/// initramfs can attach, on a disk, and on nbd0 again.
const MACHINE: &str = r#"
mkdir -p $top/sys/nbd0/nbd0p1 $top/sys/nbd1 $top/sys/nbd2 $top/sys/sda
: > $top/sys/nbd0/nbd0p1/partition
echo nbdctl1:vm1:x > $top/sys/nbd0/backend
echo other > $top/sys/nbd1/backend
echo nbdctl1:data:x > $top/sys/nbd2/backend
mkdir -p $top/sys/dev
ln -s ../nbd0/nbd0p1 $top/sys/dev/43:1
ln -s ../nbd1 $top/sys/dev/43:16
ln -s ../nbd2 $top/sys/dev/43:32
ln -s ../sda $top/sys/dev/8:0
ln -s ../nbd0 $top/sys/dev/43:0
for_each_host_dev_and_slaves_all() {
    local device found=1
    for device in 43:1 43:16 43:32 8:0 43:0; do
        ! $1 $device || found=0
    done
    return $found
}
require_binaries() { :; }
inst_multiple() { :; }
inst_rules() { :; }
inst_hook() { :; }
inst_script() { :; }
dracut_module_included() { false; }
dracut_need_initqueue() { :; }
ip_params_for_remote_addr() { echo "ip=static-for-$1"; }
ip() {
    case "$*" in
        "-o route get 10.0.2.2") echo "10.0.2.2 dev eth0 src 10.0.2.15 uid 0";;
        "-o addr show dev eth0") echo "2: eth0 inet 10.0.2.15/24 $lease eth0";;
    esac
}
moddir=/nowhere
initdir=$top/initramfs
mkdir -p $initdir/etc/cmdline.d
"#;

const NBDCTL: &str = r#"#!/bin/sh
case "$*" in
    "boot cmdline /dev/nbd0") echo rd.nbdctl=nbd://10.0.2.2/vm1,name=vm1;;
    "boot cmdline --address /dev/nbd0") echo 10.0.2.2;;
    *) exit 2;;
esac
"#;

/// Runs the module's functions, and gives what is printed and what is in the initramfs.
fn module(variables: &str, call: &str) -> (String, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().display().to_string();
    fs::write(folder.path().join("nbdctl"), NBDCTL).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path().join("nbdctl"), mode).unwrap();
    let module = fs::read_to_string("initramfs/dracut/95nbdctl/module-setup.sh").unwrap();
    let module = module
        .replace("/usr/sbin/nbdctl boot", &format!("{top}/nbdctl boot"))
        .replace("/sys/dev/block", &format!("{top}/sys/dev"))
        .replace("/run/nbdctl/", &format!("{top}/run/"))
        .replace("/sys/class/net", &format!("{top}/net"));
    let script = format!("top={top}\n{MACHINE}\n{module}\n{variables}\n{call}");
    let output = Command::new("bash").arg("-c").arg(script).output().unwrap();
    let words = folder.path().join("initramfs/etc/cmdline.d/95nbdctl.conf");
    (
        text(&output.stdout).trim().to_owned(),
        fs::read_to_string(words).ok(),
    )
}

#[test]
fn an_initramfs_for_one_machine_has_its_words() {
    for (variables, words) in [
        (
            "hostonly_cmdline=yes lease=dynamic; mkdir -p $top/net/eth0; echo 52:54:00:00:00:01 > $top/net/eth0/address",
            Some(
                " rd.nbdctl=nbd://10.0.2.2/vm1,name=vm1 ifname=eth0:52:54:00:00:00:01 ip=eth0:dhcp\n",
            ),
        ),
        (
            // It was DHCP's, and lives for ever by now.
            "hostonly_cmdline=yes; mkdir $top/run; : > $top/run/.dhcp-eth0",
            Some(" rd.nbdctl=nbd://10.0.2.2/vm1,name=vm1 ip=eth0:dhcp\n"),
        ),
        (
            "hostonly_cmdline=yes",
            Some(" rd.nbdctl=nbd://10.0.2.2/vm1,name=vm1 ip=static-for-10.0.2.2\n"),
        ),
        (
            "hostonly_cmdline=yes; rm $top/sys/nbd0/backend $top/sys/nbd2/backend",
            None,
        ),
        ("hostonly_cmdline=no", None),
    ] {
        let (_, written) = module(variables, "install");
        assert_eq!(written.as_deref(), words, "{variables}");
    }
}

#[test]
fn it_is_for_machines_that_are_on_such_a_device() {
    for (variables, status) in [
        ("hostonly=1", "0"),
        (
            "hostonly=1; rm $top/sys/nbd0/backend $top/sys/nbd2/backend",
            "255",
        ),
        ("rm $top/sys/nbd0/backend", "0"),
    ] {
        let (said, _) = module(variables, "check; echo $?");
        assert_eq!(said, status, "{variables}");
    }
}
