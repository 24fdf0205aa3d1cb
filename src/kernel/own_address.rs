//! An address of this machine's own that is not to run out (rtnetlink(7)).
//!
//! What an initramfs got by DHCP has the lease's time to live in the kernel, and on a
//! running system where nobody manages the interface nobody renews it.

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use nix::libc::{AF_INET, AF_INET6, IFA_ADDRESS, IFA_LOCAL};

use super::diag::{Answer, ask_family};
use super::error::Error;

/// Makes one that the interface has live for ever: its four or sixteen bytes, and the
/// length of its prefix. Who renews it gives it a time again. It changes no route.
///
/// # Errors
///
/// The kernel's: it may need a right that this process does not have, or be gone.
pub fn keep_own_address(interface: u32, address: &[u8], prefix: u8) -> Result<(), Error> {
    // Without a time, which is for ever; only one that is there is replaced with CREATE
    // not asked for.
    let request = request(interface, address, prefix);
    match ask_family(NlFamily::Route, Rtm::Newaddr, NlmF::REPLACE, request)? {
        Answer::Refused(errno) => Err(Error::Netlink(errno.desc().to_owned())),
        Answer::Bytes(_) | Answer::Done => Ok(()),
    }
}

/// `struct ifaddrmsg`: family, prefix, flags, scope, interface; and the address, twice, as
/// on an interface that is not point to point.
fn request(interface: u32, address: &[u8], prefix: u8) -> Vec<u8> {
    let family = if address.len() == 4 {
        AF_INET
    } else {
        AF_INET6
    };
    let mut bytes = vec![u8::try_from(family).unwrap_or_default(), prefix, 0, 0];
    bytes.extend(interface.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        let length = u16::try_from(4 + address.len()).unwrap_or_default();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(address);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_length_are_told_as_the_kernel_reads_them() {
        let request = request(7, &[10, 0, 2, 15], 24);
        let attributes = [8, 0, 2, 0, 10, 0, 2, 15, 8, 0, 1, 0, 10, 0, 2, 15];
        assert_eq!(request.get(..4), Some(&[2, 24, 0, 0][..]));
        assert_eq!(request.get(4..8), Some(&7u32.to_ne_bytes()[..]));
        if cfg!(target_endian = "little") {
            assert_eq!(request.get(8..), Some(&attributes[..]));
        }
    }

    #[test]
    fn one_that_no_interface_has_is_refused() {
        assert!(keep_own_address(i32::MAX.unsigned_abs(), &[192, 0, 2, 1], 32).is_err());
    }
}
