//! Power-off when the server is another machine, and is gone: it neither comes back nor
//! ends with the guest, so nothing but nbdctl can end the waiting for it.

use crate::elsewhere::{Program, Server};
use crate::system::{Ended, System};

/// A minute is what a machine may take to be off; and one that is so busy that it takes
/// longer to boot, as long as that.
fn assert_in_time(ended: &Ended) {
    assert!(ended.down < ended.up.max(60.0), "{}", ended.story());
}

fn with_mount(server: &Server) -> System {
    System::on_qemu()
        .file(
            "/etc/nbdctl/data.toml",
            &format!("uri = \"{}\"\n", server.uri()),
        )
        .file(
            "/etc/fstab",
            "/dev/disk/by-id/nbd-data /mnt ext4 _netdev 0 0\n",
        )
}

#[test]
#[ignore = "make kernels"]
fn a_server_that_was_gone_before_holds_no_shutdown_up() {
    let server = Server::of_ext4(Program::Nbdkit, "64M");
    let killed = server.clone();
    let ended = with_mount(&server).when("kill", move || killed.kill()).run(
        r#"findmnt -no TARGET /mnt
            dd if=/dev/zero of=/mnt/file bs=1M count=20 status=none
            echo kill >/dev/rig-events
            sleep 60
            systemctl show -P StatusText nbdctl@data | grep -o 'its server is away'
            # Ten megabytes at least could not be written back.
            awk '/^(Dirty|Writeback):/ { n += $2 } END { print (n > 10000) }' /proc/meminfo"#,
    );
    assert_eq!(
        ended.output,
        "/mnt\nits server is away\n1\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert_in_time(&ended);
    ended.assert_in_order(&["The system will power off now", "the machine goes down"]);
}

#[test]
fn a_server_that_goes_in_a_shutdown_does_not_hold_it_up() {
    let server = Server::of_ext4(Program::QemuNbd, "64M");
    let port = server.port();
    let killed = server.clone();
    // It stops before the mount is unmounted.
    let killer = format!(
        "[Unit]\nAfter=remote-fs.target\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
         ExecStop=/bin/dd if=/dev/zero of=/mnt/file bs=1M count=20\n\
         ExecStop=/bin/bash -c 'echo kill >/dev/rig-events; \
         while (: </dev/tcp/10.0.2.2/{port}); do sleep 0.2; done; echo killed'\n"
    );
    let ended = with_mount(&server)
        .unit("killer.service", &killer)
        .when("kill", move || killed.kill())
        .run("findmnt -no TARGET /mnt; systemctl start killer");
    assert_eq!(ended.output, "/mnt\n", "{}", ended.story());
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert_in_time(&ended);
    ended.assert_in_order(&["The system will power off now", "killed"]);
}
