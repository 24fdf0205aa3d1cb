//! What systemd calls things. One rule: a NAME is the instance as it stands, so
//! that no unit and no drop-in needs escaping. It must not know what a unit does.

use super::name::Name;

/// The unit that keeps an export attached: `nbdctl@NAME.service`. Every NAME is
/// good for one (systemd.unit(5)): its characters are among those allowed.
#[must_use]
pub fn unit_name(name: &Name) -> String {
    format!("nbdctl@{name}.service")
}

/// The unit of a device node: `/dev/nbd0` is `dev-nbd0.device`.
///
/// `None` as of [`escape_path`].
#[must_use]
pub fn device_unit(path: &str) -> Option<String> {
    escape_path(path).map(|stem| format!("{stem}.device"))
}

/// A path as the stem of a unit's name, as `systemd-escape --path` answers.
///
/// `None` for what names no one place: a relative path, or one with `..`.
#[must_use]
pub fn escape_path(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() {
        return Some("-".to_owned());
    }
    if parts.contains(&"..") {
        return None;
    }
    let mut escaped = String::new();
    for (index, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if index > 0 => escaped.push('.'),
            b':' | b'_' => escaped.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_escaped_as_systemd_does() {
        // What systemd-escape --path of systemd 252 answers.
        for (path, answer) in [
            ("/dev/nbd0", Some("dev-nbd0")),
            ("/dev/nbd0p15", Some("dev-nbd0p15")),
            (
                "/dev/disk/by-id/nbd-vm1-part1",
                Some(r"dev-disk-by\x2did-nbd\x2dvm1\x2dpart1"),
            ),
            (
                "/dev/disk/by-id/nbd-a.b_c",
                Some(r"dev-disk-by\x2did-nbd\x2da.b_c"),
            ),
            (
                "/dev/disk/by-label/a b",
                Some(r"dev-disk-by\x2dlabel-a\x20b"),
            ),
            (
                "/dev/disk/by-label/ä",
                Some(r"dev-disk-by\x2dlabel-\xc3\xa4"),
            ),
            (
                r"/dev/disk/by-label/a\x20b",
                Some(r"dev-disk-by\x2dlabel-a\x5cx20b"),
            ),
            ("/a@b+c", Some(r"a\x40b\x2bc")),
            ("/a:b", Some("a:b")),
            ("/-", Some(r"\x2d")),
            ("/.hidden", Some(r"\x2ehidden")),
            ("/a/.b", Some("a-.b")),
            ("/...", Some(r"\x2e..")),
            ("/", Some("-")),
            ("//", Some("-")),
            ("/.", Some("-")),
            ("/dev//nbd0/", Some("dev-nbd0")),
            ("/dev/./nbd0", Some("dev-nbd0")),
            ("/dev/nbd0/.", Some("dev-nbd0")),
            ("/dev/../nbd0", None),
            (".", None),
            // These it answers with a warning that there is no way back.
            ("dev/nbd0", None),
            ("", None),
        ] {
            assert_eq!(escape_path(path).as_deref(), answer, "{path}");
        }
        assert_eq!(device_unit("/dev/nbd0").as_deref(), Some("dev-nbd0.device"));
    }

    #[test]
    fn odd_names_are_instances_as_they_stand() {
        for name in [
            "a",
            "7",
            "nbd0",
            "a-b",
            "a--b",
            "a.b",
            "a..",
            "a_",
            "0.service",
            "A-.-_",
        ] {
            let parsed: Name = name.parse().unwrap();
            assert_eq!(unit_name(&parsed), format!("nbdctl@{name}.service"));
        }
    }

    proptest! {
        #[test]
        fn every_name_makes_a_unit_s_name_that_systemd_takes(name in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}") {
            prop_assume!(name.parse::<Name>().is_ok());
            let unit = unit_name(&name.parse().unwrap());
            let instance = unit.strip_prefix("nbdctl@").unwrap();
            prop_assert!(unit.len() < 256);
            // VALID_CHARS of systemd, less @ and what escapes.
            prop_assert!(instance.chars().all(|c| c.is_ascii_alphanumeric() || ":_.-".contains(c)));
        }

        #[test]
        fn no_path_makes_it_panic(path in "\\PC{0,40}", rest in "[/.a-]{0,20}") {
            let unit = escape_path(&format!("/{rest}{path}"));
            prop_assert!(unit.is_none_or(|unit| !unit.is_empty() && !unit.contains('/')));
        }
    }
}
