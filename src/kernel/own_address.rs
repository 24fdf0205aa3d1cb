//! An address of this machine's own that is not to be lost (rtnetlink(7)), and the way
//! from there.
//!
//! What an initramfs got by DHCP has the lease's time to live in the kernel, and on a
//! running system where nobody manages the interface nobody renews it. Who does manage it
//! may take it away, and need a disk to give it back that is reached from there.

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use nix::errno::Errno;
use nix::libc::{
    AF_INET, AF_INET6, IFA_ADDRESS, IFA_CACHEINFO, IFA_F_PERMANENT, IFA_FLAGS, IFA_LOCAL,
    RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY, RTN_UNICAST, RTPROT_BOOT,
};

use super::diag::{self, Answer, ask_family, dump_family};
use super::error::Error;

/// Makes one that the interface has live for ever: its four or sixteen bytes. True where it
/// had a time to live; who renews it gives it one again. All else of it, its routes too,
/// stays as it is.
///
/// # Errors
///
/// The kernel's: it may need a right that this process does not have, or be gone.
pub fn keep_own_address(interface: u32, address: &[u8]) -> Result<bool, Error> {
    let question = vec![family(address), 0, 0, 0, 0, 0, 0, 0];
    let all = dump_family(NlFamily::Route, Rtm::Getaddr, question)?;
    let found = all.into_iter().find(|one| is_it(one, interface, address));
    let Some(mut message) = found.filter(|one| !is_permanent(one)) else {
        return Ok(false);
    };
    live_for_ever(&mut message);
    tell(Rtm::Newaddr, NlmF::REPLACE, message)?;
    Ok(true)
}

/// `struct ifaddrmsg` is before the attributes.
const HEADER: usize = 8;

/// Of an IPv6 address that is no peer's only IFA_ADDRESS tells; of one of IPv4 IFA_LOCAL.
fn is_it(message: &[u8], interface: u32, address: &[u8]) -> bool {
    let on = message.get(4..HEADER).and_then(|it| it.try_into().ok());
    let local = diag::attribute(message, HEADER, IFA_LOCAL);
    let local = local.or_else(|| diag::attribute(message, HEADER, IFA_ADDRESS));
    on.map(u32::from_ne_bytes) == Some(interface) && local == Some(address)
}

fn is_permanent(message: &[u8]) -> bool {
    let flags = diag::attribute(message, HEADER, IFA_FLAGS);
    let flags = flags
        .and_then(|it| it.try_into().ok())
        .map(u32::from_ne_bytes);
    // Those of a byte stand before, where an old kernel has no more.
    let first = message.get(2).copied().unwrap_or_default();
    flags.unwrap_or_else(|| first.into()) & IFA_F_PERMANENT != 0
}

/// `struct ifa_cacheinfo`: preferred, valid, created, updated.
fn live_for_ever(message: &mut [u8]) {
    let mut at = HEADER;
    while let Some(header) = message.get(at..at + 4) {
        let number = |range| {
            <[u8; 2]>::try_from(header.get(range)?)
                .ok()
                .map(u16::from_ne_bytes)
        };
        let (Some(length), Some(kind)) = (number(0..2), number(2..4)) else {
            return;
        };
        if kind == IFA_CACHEINFO {
            if let Some(times) = message.get_mut(at + 4..at + 12) {
                times.fill(0xff);
            }
            return;
        }
        at += usize::from(length).max(4).next_multiple_of(4);
    }
}

/// Gives the interface back one that it had, for ever, and with it the way to its network.
/// One that is there stays as it is.
///
/// # Errors
///
/// As above.
pub fn restore_own_address(interface: u32, address: &[u8], prefix: u8) -> Result<(), Error> {
    let request = address_request(interface, address, prefix);
    tell(Rtm::Newaddr, NlmF::CREATE | NlmF::EXCL, request)
}

/// Gives the machine back a default route that it had. Any other comes first: it has the
/// largest metric.
///
/// # Errors
///
/// As above.
pub fn restore_default_route(interface: u32, gateway: &[u8]) -> Result<(), Error> {
    let request = route_request(interface, gateway);
    tell(Rtm::Newroute, NlmF::CREATE | NlmF::EXCL, request)
}

fn tell(message: Rtm, flags: NlmF, request: Vec<u8>) -> Result<(), Error> {
    match ask_family(NlFamily::Route, message, flags, request)? {
        // Who brought it back before says so.
        Answer::Refused(Errno::EEXIST) => Ok(()),
        Answer::Refused(errno) => Err(Error::Netlink(errno.desc().to_owned())),
        Answer::Bytes(_) | Answer::Done => Ok(()),
    }
}

fn family(address: &[u8]) -> u8 {
    let family = if address.len() == 4 {
        AF_INET
    } else {
        AF_INET6
    };
    u8::try_from(family).unwrap_or_default()
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
}

/// `struct ifaddrmsg`: family, prefix, flags, scope, interface; and the address, twice, as
/// on an interface that is not point to point.
fn address_request(interface: u32, address: &[u8], prefix: u8) -> Vec<u8> {
    let mut bytes = vec![family(address), prefix, 0, 0];
    bytes.extend(interface.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        attribute(&mut bytes, kind, address);
    }
    bytes
}

/// `struct rtmsg`: family, the lengths of destination (none: a default route) and source,
/// service, table, who made it, how far it leads, its kind, flags.
fn route_request(interface: u32, gateway: &[u8]) -> Vec<u8> {
    let (table, boot) = (RT_TABLE_MAIN, RTPROT_BOOT);
    let mut bytes = vec![
        family(gateway),
        0,
        0,
        0,
        table,
        boot,
        RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
    ];
    bytes.extend(0u32.to_ne_bytes());
    attribute(&mut bytes, RTA_OIF, &interface.to_ne_bytes());
    attribute(&mut bytes, RTA_GATEWAY, gateway);
    attribute(&mut bytes, RTA_PRIORITY, &u32::MAX.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_length_are_told_as_the_kernel_reads_them() {
        let request = address_request(7, &[10, 0, 2, 15], 24);
        let attributes = [8, 0, 2, 0, 10, 0, 2, 15, 8, 0, 1, 0, 10, 0, 2, 15];
        assert_eq!(request.get(..4), Some(&[2, 24, 0, 0][..]));
        assert_eq!(request.get(4..8), Some(&7u32.to_ne_bytes()[..]));
        if cfg!(target_endian = "little") {
            assert_eq!(request.get(8..), Some(&attributes[..]));
        }
    }

    #[test]
    fn a_route_is_told_as_the_kernel_reads_it() {
        let request = route_request(7, &[10, 0, 2, 2]);
        assert_eq!(request.get(..8), Some(&[2, 0, 0, 0, 254, 3, 0, 1][..]));
        let attributes = [
            8, 0, 4, 0, 7, 0, 0, 0, 8, 0, 5, 0, 10, 0, 2, 2, 8, 0, 6, 0, 255, 255, 255, 255,
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(request.get(12..), Some(&attributes[..]));
        }
    }

    /// As the kernel tells of one of IPv4 by DHCP, on the interface 7.
    fn told() -> Vec<u8> {
        let mut message = vec![2, 24, 0, 0];
        message.extend(7u32.to_ne_bytes());
        attribute(&mut message, IFA_LOCAL, &[10, 0, 2, 15]);
        attribute(&mut message, IFA_FLAGS, &0u32.to_ne_bytes());
        let times = [100u32, 200, 5, 6].map(u32::to_ne_bytes).concat();
        attribute(&mut message, IFA_CACHEINFO, &times);
        message
    }

    #[test]
    fn only_the_times_of_an_address_are_changed() {
        let before = told();
        assert!(is_it(&before, 7, &[10, 0, 2, 15]) && !is_permanent(&before));
        assert!(!is_it(&before, 8, &[10, 0, 2, 15]) && !is_it(&before, 7, &[10, 0, 2, 1]));
        let mut after = before.clone();
        live_for_ever(&mut after);
        let changed = before
            .iter()
            .zip(&after)
            .filter(|(one, other)| one != other);
        assert_eq!(changed.count(), 8);
        let times = diag::attribute(&after, HEADER, IFA_CACHEINFO).unwrap();
        assert_eq!(times[..8], [0xff; 8]);
        // Bytes that are none do no harm.
        for length in 0..before.len() {
            live_for_ever(&mut before[..length].to_vec());
            is_it(&before[..length], 7, &[10, 0, 2, 15]);
        }
    }

    #[test]
    fn loopbacks_address_is_found_and_permanent() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        let question = vec![family(&[127, 0, 0, 1]), 0, 0, 0, 0, 0, 0, 0];
        let all = dump_family(NlFamily::Route, Rtm::Getaddr, question).unwrap();
        let it = all
            .iter()
            .find(|one| is_it(one, index, &[127, 0, 0, 1]))
            .unwrap();
        assert!(is_permanent(it));
        assert!(!keep_own_address(index, &[127, 0, 0, 1]).unwrap());
    }
}
