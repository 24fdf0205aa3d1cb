//! The names in /dev/disk that a device keeps whatever its index is. udev's rule
//! makes them, and the generator says who is to be started when one is waited for:
//! both take them from here.

use crate::config::{Name, unlike_a_partition};
use crate::uri::{Endpoint, Uri};

/// How many partitions of a device have names that systemd knows beforehand; what
/// nbd's `max_part=15` gives.
pub const PARTITIONS: u32 = 15;

/// A file's name has at most 255 bytes, and a partition's ends with `-part15`.
const LONGEST: usize = 255 - "-part15".len();

/// The names of a whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StableNames {
    /// In /dev/disk/by-id: `nbd-NAME`.
    pub by_id: String,
    /// In /dev/disk/by-path: `ip-HOST:PORT-nbd-EXPORT` or `unix-PATH-nbd-EXPORT`;
    /// `None` where it would be too long for a file.
    pub by_path: Option<String>,
}

impl StableNames {
    /// The names of the export that is attached under a NAME; without its URI, where
    /// that is not known, only one of them.
    #[must_use]
    pub fn new(name: &Name, uri: Option<&Uri>) -> Self {
        Self {
            by_id: name.by_id(),
            by_path: uri.map(by_path).filter(|name| name.len() <= LONGEST),
        }
    }

    /// Their paths, for the whole disk.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let by_path = self.by_path.iter();
        std::iter::once(format!("/dev/disk/by-id/{}", self.by_id))
            .chain(by_path.map(|name| format!("/dev/disk/by-path/{name}")))
    }
}

/// What udev is told of a device, or of one of its partitions: KEY=VALUE, and no
/// value has a character that means anything to udev's rules or to a path.
#[must_use]
pub fn properties(
    name: &Name,
    uri: Option<&Uri>,
    partition: Option<u32>,
) -> Vec<(&'static str, String)> {
    let names = StableNames::new(name, uri);
    let link = |disk: &str| match partition {
        Some(number) => format!("{disk}-part{number}"),
        None => disk.to_owned(),
    };
    let mut properties = vec![
        ("NBDCTL_NAME", name.to_string()),
        ("NBDCTL_BY_ID", link(&names.by_id)),
        // What lsblk shows as MODEL and SERIAL.
        ("ID_MODEL", "NBD".to_owned()),
        ("ID_SERIAL", format!("nbd-{name}")),
        ("ID_SERIAL_SHORT", name.to_string()),
    ];
    if let Some(by_path) = names.by_path {
        properties.push(("NBDCTL_BY_PATH", link(&by_path)));
        properties.push(("ID_PATH", by_path));
    }
    properties
}

fn by_path(uri: &Uri) -> String {
    let place = match uri.endpoint() {
        Endpoint::Tcp { host, port } => format!("ip-{}:{port}", escape(host)),
        Endpoint::Unix { path } => format!("unix-{}", escape(&path.to_string_lossy())),
    };
    unlike_a_partition(format!("{place}-nbd-{}", escape(uri.export())))
}

/// As udev does where it makes names of what a disk says: all but a few characters
/// become `\xNN`, the backslash too, so that no two texts become one.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'#' | b'+' | b'-' | b'.' | b':' | b'=' | b'@' | b'_' => escaped.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path_of(uri: &str) -> String {
        by_path(&Uri::parse(uri).unwrap())
    }

    #[test]
    fn a_path_tells_the_server_and_the_export() {
        assert_eq!(path_of("nbd://h/vm1"), "ip-h:10809-nbd-vm1");
        assert_eq!(path_of("nbd://[::1]:1/"), "ip-::1:1-nbd-");
        assert_eq!(
            path_of("nbd+unix:///vm1?socket=/run/nbd.sock"),
            r"unix-\x2frun\x2fnbd.sock-nbd-vm1"
        );
    }

    #[test]
    fn what_a_server_or_a_user_chose_cannot_leave_the_folder() {
        assert_eq!(
            path_of("nbd://h/..%2f..%2fetc%2f%24(id)%20%25k"),
            r"ip-h:10809-nbd-..\x2f..\x2fetc\x2f\x24\x28id\x29\x20\x25k"
        );
        assert_eq!(
            path_of("nbd://h/%c3%a4%0a%22"),
            r"ip-h:10809-nbd-\xc3\xa4\x0a\x22"
        );
        assert_eq!(path_of(r"nbd://h/%5cx2f"), r"ip-h:10809-nbd-\x5cx2f");
    }

    #[test]
    fn a_disk_is_never_called_like_a_partition() {
        let name = |text: &str| StableNames::new(&text.parse().unwrap(), None).by_id;
        assert_eq!(name("a-part1"), r"nbd-a\x2dpart1");
        assert_eq!(name("a-part1-part12"), r"nbd-a-part1\x2dpart12");
        assert_eq!(name("a-part"), "nbd-a-part");
        assert_eq!(name("part1"), r"nbd\x2dpart1");
        assert_eq!(name("a1"), "nbd-a1");
        assert_eq!(path_of("nbd://h/-part1"), r"ip-h:10809-nbd-\x2dpart1");
    }

    #[test]
    fn a_long_export_has_no_path_that_no_file_could_have() {
        let uri = Uri::parse(&format!("nbd://h/{}", "x".repeat(300))).unwrap();
        let names = StableNames::new(&"a".parse().unwrap(), Some(&uri));
        assert_eq!(names.by_path, None);
        assert_eq!(names.paths().count(), 1);
    }

    #[test]
    fn a_partition_has_the_disks_serial_and_names_of_its_own() {
        let uri = Uri::parse("nbd://h/x").unwrap();
        let all = properties(&"vm1".parse().unwrap(), Some(&uri), Some(3));
        let value = |key| all.iter().find(|(k, _)| *k == key).unwrap().1.as_str();
        assert_eq!(value("NBDCTL_BY_ID"), "nbd-vm1-part3");
        assert_eq!(value("NBDCTL_BY_PATH"), "ip-h:10809-nbd-x-part3");
        assert_eq!(value("ID_PATH"), "ip-h:10809-nbd-x");
        assert_eq!(value("ID_SERIAL_SHORT"), "vm1");
    }

    proptest! {
        #[test]
        fn no_export_makes_a_value_that_means_anything(
            export in "\\PC{0,60}|[ -~]{0,60}|.{0,60}",
            partition in proptest::option::of(1u32..16),
        ) {
            let encoded = percent_encoding::utf8_percent_encode(&export, percent_encoding::NON_ALPHANUMERIC);
            let Ok(uri) = Uri::parse(&format!("nbd://h/{encoded}")) else { return Ok(()) };
            for (key, value) in properties(&"a".parse().unwrap(), Some(&uri), partition) {
                let plain = |c: char| c.is_ascii_alphanumeric() || r"#+-.:=@_\".contains(c);
                prop_assert!(value.chars().all(plain), "{key}={value}");
                prop_assert!(value.len() <= 255);
                prop_assert_ne!(value.as_str(), "..");
            }
        }

        #[test]
        fn two_exports_never_share_a_path(one in "[-a-z0-9/\\\\]{0,12}", other in "[-a-z0-9/\\\\]{0,12}") {
            let path = |export: &str| {
                let encoded = percent_encoding::utf8_percent_encode(export, percent_encoding::NON_ALPHANUMERIC);
                path_of(&format!("nbd://h/{encoded}"))
            };
            prop_assert_eq!(one == other, path(&one) == path(&other));
            for number in [1, 12] {
                prop_assert_ne!(path(&one), format!("{}-part{number}", path(&other)));
            }
        }
    }
}
