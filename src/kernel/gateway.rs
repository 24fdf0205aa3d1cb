//! Which gateway leads to an address, by the kernel's own tables in /proc/net: the way that
//! is to be found again where it was taken away.

use std::fs;
use std::path::Path;

/// The gateway of the route by which an interface leads to an address, both of four or
/// sixteen bytes; `None` where it is on the interface's own network, or where there is no route.
#[must_use]
pub fn gateway(interface: &str, to: &[u8]) -> Option<Vec<u8>> {
    gateway_of(Path::new("/proc/net"), interface, to)
}

fn gateway_of(folder: &Path, interface: &str, to: &[u8]) -> Option<Vec<u8>> {
    let (file, read): (_, fn(&str) -> Option<Route>) = match to.len() {
        4 => ("route", Route::v4),
        _ => ("ipv6_route", Route::v6),
    };
    let text = fs::read_to_string(folder.join(file)).ok()?;
    let routes = text.lines().filter_map(read);
    let leading = routes.filter(|route| route.interface == interface && route.leads_to(to));
    let best = leading.max_by_key(|route| route.prefix)?;
    best.gateway
        .iter()
        .any(|byte| *byte != 0)
        .then_some(best.gateway)
}

struct Route {
    interface: String,
    destination: Vec<u8>,
    prefix: usize,
    gateway: Vec<u8>,
}

impl Route {
    /// net/ipv4/fib_trie.c, `fib_route_seq_show`: name, destination, gateway, flags, three
    /// numbers, mask; addresses as numbers in memory's order.
    fn v4(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [interface, destination, gateway, _, _, _, _, mask, ..] = words.as_slice() else {
            return None;
        };
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Self {
            interface: (*interface).to_owned(),
            destination: number(destination)?.to_ne_bytes().to_vec(),
            prefix: usize::try_from(number(mask)?.count_ones()).ok()?,
            gateway: number(gateway)?.to_ne_bytes().to_vec(),
        })
    }

    /// net/ipv6/route.c, `rt6_info_route`/`ipv6_route_native_seq_show`: destination, prefix,
    /// source, prefix, gateway, four numbers, name; all in hexadecimal.
    fn v6(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [destination, prefix, _, _, gateway, _, _, _, _, interface] = words.as_slice() else {
            return None;
        };
        let bytes = |text: &str| {
            let number = u128::from_str_radix(text, 16).ok()?;
            Some(number.to_be_bytes().to_vec())
        };
        Some(Self {
            interface: (*interface).to_owned(),
            destination: bytes(destination)?,
            prefix: usize::from_str_radix(prefix, 16).ok()?,
            gateway: bytes(gateway)?,
        })
    }

    fn leads_to(&self, to: &[u8]) -> bool {
        let bit = |bytes: &[u8], at: usize| {
            let byte = bytes.get(at / 8).copied().unwrap_or_default();
            byte >> (7 - at % 8) & 1
        };
        (0..self.prefix).all(|at| bit(&self.destination, at) == bit(to, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
";
    const IPV6_ROUTE: &str = "\
fd770000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001       lo
";

    fn of(interface: &str, to: &[u8]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("route"), ROUTE).unwrap();
        fs::write(folder.path().join("ipv6_route"), IPV6_ROUTE).unwrap();
        gateway_of(folder.path(), interface, to)
    }

    #[test]
    fn the_longest_prefix_of_the_interface_tells() {
        if cfg!(target_endian = "big") {
            return;
        }
        assert_eq!(of("eth0", &[10, 0, 2, 7]), None);
        assert_eq!(of("eth0", &[192, 0, 2, 1]), Some(vec![10, 0, 2, 2]));
        assert_eq!(of("eth1", &[10, 0, 2, 7]), Some(vec![192, 168, 2, 1]));
        assert_eq!(of("eth2", &[10, 0, 2, 7]), None);
        // fd77::2, and 2001::2 by the router fe80::2.
        let v6 = |first: [u8; 2]| [&first[..], &[0; 13], &[2]].concat();
        assert_eq!(of("eth0", &v6([0xfd, 0x77])), None);
        assert_eq!(of("eth0", &v6([0x20, 1])), Some(v6([0xfe, 0x80])));
        assert_eq!(of("lo", &v6([0x20, 1])), None);
    }
}
