//! What the client adds to an initramfs: the bytes of its files, and of those that they
//! need, beside the reference client's.

use crate::machine::{Dracut, Initramfs, InitramfsTools};

/// The aim: half of what the reference client adds with its libraries.
const MOST: u64 = 4 << 20;

fn assert_small(initramfs: Initramfs) {
    let without = initramfs.bytes("none");
    let [ours, stock] = ["nbdctl", "stock"].map(|client| {
        let with = initramfs.bytes(client);
        with.checked_sub(without).unwrap()
    });
    println!(
        "{}: nbdctl {ours}, the reference client {stock}",
        initramfs.name()
    );
    // The nbd driver alone has some.
    assert!(ours > 50_000 && ours < MOST, "{ours}");
    assert!(ours < stock, "{ours}, {stock}");
}

#[test]
fn initramfs_tools_grows_by_less_than_4_mib() {
    assert_small(InitramfsTools);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_grows_by_less_than_4_mib() {
    assert_small(Dracut);
}
