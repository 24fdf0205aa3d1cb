//! What a device is called: NAME for users, the backend identifier for the
//! kernel.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use siphasher::sip::SipHasher24;
use thiserror::Error;

use super::values::device_index;
use crate::uri::{DEFAULT_PORT, Endpoint, Uri};

/// The prefix of every identifier of ours; the 1 is the form's version.
const PREFIX: &str = "nbdctl1:";

/// What users call an attached export by; also its folder's name in
/// /run/nbdctl and the unit's instance, as it stands.
///
/// A letter or digit, then letters, digits, `.`, `_` and `-`; at most
/// [`Name::MAX`] of them. So it never needs quoting and never leaves its folder.
/// It does not end in `.toml`, as `/run/nbdctl` has both folders and files.
///
/// `nbd7` is the NAME of what is attached as `/dev/nbd7`, and of nothing else
/// ([`Name::device`]): where users point at a device, they mean that one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no NAME.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "\"{}\" cannot be a name: use a letter or digit, then letters, digits and . _ -, at most {max} \
     of them, without .toml at the end",
    .0.escape_debug(),
    max = Name::MAX
)]
pub struct NameError(String);

impl Name {
    /// The longest, in bytes: it shares the identifier's 128 with the rest.
    pub const MAX: usize = 64;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the disk that is attached under it is called in /dev/disk/by-id.
    #[must_use]
    pub fn by_id(&self) -> String {
        unlike_a_partition(format!("nbd-{self}"))
    }

    /// The index of the one device that may be called so, for `nbd0` and its like.
    #[must_use]
    pub fn device(&self) -> Option<u32> {
        device_index(&self.0).ok()
    }

    /// The NAME `nbdN`, which goes with `/dev/nbdN` only.
    #[must_use]
    pub fn of_device(index: u32) -> Self {
        Self(format!("nbd{index}"))
    }

    /// The name of an export that was given none: host and export, where they
    /// fit a name as they stand; where they do not, what is left of them and a
    /// hash of the URI. Two exports may still get one name (`a-b` at `h` and `b` at
    /// `h-a`); the second is refused then, and told to choose another.
    #[must_use]
    pub fn from_uri(uri: &Uri) -> Self {
        let (host, standard) = match uri.endpoint() {
            Endpoint::Tcp { host, port } if *port == DEFAULT_PORT => (host.clone(), true),
            Endpoint::Tcp { host, port } => (format!("{host}-{port}"), true),
            Endpoint::Unix { path } => (
                path.file_stem()
                    .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
                false,
            ),
        };
        let wish = match uri.export() {
            "" => host,
            export => format!("{host}-{export}"),
        };
        match Self::from_str(&wish) {
            Ok(name) if standard && name.device().is_none() => name,
            _ => Self::lossy(&wish, uri_hash(uri)),
        }
    }

    fn lossy(wish: &str, hash: u64) -> Self {
        let suffix = format!("-{:08x}", hash & 0xffff_ffff);
        let kept: String = wish
            .chars()
            .map(|c| if allowed(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(Self::MAX - suffix.len())
            .collect();
        let stem = if kept.is_empty() { "nbd" } else { &kept };
        Self(format!("{stem}{suffix}"))
    }
}

/// `nbd0`, and what looks like it.
fn is_device(text: &str) -> bool {
    text.strip_prefix("nbd")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let sound = text.len() <= Self::MAX
            && (!is_device(text) || device_index(text).is_ok())
            && !text.ends_with(".toml")
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(allowed);
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the kernel remembers of a device of ours (`NBD_ATTR_BACKEND_IDENTIFIER`,
/// sysfs `backend`): `nbdctl1:NAME:HASH-OF-URI`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendIdentifier {
    name: Name,
    hash: u64,
}

impl BackendIdentifier {
    /// The identifier of an export attached under a name.
    #[must_use]
    pub fn new(name: &Name, uri: &Uri) -> Self {
        Self {
            name: name.clone(),
            hash: uri_hash(uri),
        }
    }

    /// Reads what sysfs shows; `None` where another program wrote it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, hash) = text.strip_prefix(PREFIX)?.split_once(':')?;
        if hash.len() != 16 {
            return None;
        }
        let parsed = Self {
            name: name.parse().ok()?,
            hash: u64::from_str_radix(hash, 16).ok()?,
        };
        // A sign or a capital in the hash would be another program's.
        (parsed.to_string() == text).then_some(parsed)
    }

    /// Whether it was made of this URI, as it is written.
    #[must_use]
    pub fn is_of(&self, uri: &Uri) -> bool {
        self.hash == uri_hash(uri)
    }

    /// The NAME in it.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl fmt::Display for BackendIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:{:016x}", self.name, self.hash)
    }
}

/// The same for the same URI on every machine and in every version: devices
/// outlive the binary that attached them. (std's hasher promises neither.)
fn uri_hash(uri: &Uri) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(uri.as_str().as_bytes());
    hasher.finish()
}

/// An export may be called `a-part1`. Its disk must not be taken for the first
/// partition of `a`, which is another disk.
#[must_use]
pub fn unlike_a_partition(name: String) -> String {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem.strip_suffix("-part") {
        Some(before) if stem.len() < name.len() => {
            let number = name.get(stem.len()..).unwrap_or_default();
            format!("{before}\\x2dpart{number}")
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(uri: &str) -> String {
        Name::from_uri(&Uri::parse(uri).unwrap()).to_string()
    }

    #[test]
    fn a_plain_uri_gives_a_plain_name() {
        assert_eq!(named("nbd://server/vm1"), "server-vm1");
        assert_eq!(named("nbd://server:10810/vm1"), "server-10810-vm1");
        assert_eq!(named("nbd://10.0.0.5"), "10.0.0.5");
    }

    #[test]
    fn what_does_not_fit_a_name_is_told_apart_by_a_hash() {
        assert_ne!(named("nbd://h/a%20b"), named("nbd://h/a%2fb"));
        assert_ne!(
            named("nbd+unix:///x?socket=/a/s"),
            named("nbd+unix:///x?socket=/b/s")
        );
        assert!(named("nbd+unix:///x?socket=/a/s").starts_with("s-x-"));
        assert!(named("nbd://[::1]/%2e%2e").starts_with("1-..-"));
    }

    #[test]
    fn a_host_that_is_called_like_a_device_gives_no_such_name() {
        assert!(named("nbd://nbd1").starts_with("nbd1-"));
        assert_eq!(named("nbd://nbd1/x"), "nbd1-x");
    }

    #[test]
    fn a_device_s_name_is_that_device_s() {
        let device = |text: &str| text.parse::<Name>().unwrap().device();
        assert_eq!(device("nbd7"), Some(7));
        assert_eq!(device("nbd7p1"), None);
        assert_eq!(device("nbd"), None);
        assert_eq!(device("disk"), None);
        assert_eq!(Name::of_device(7), "nbd7".parse().unwrap());
        assert!(named("nbd://x.toml").starts_with("x.toml-"));
    }

    #[test]
    fn a_name_cannot_leave_its_folder_or_need_quoting() {
        for text in [
            "",
            ".",
            "..",
            "-x",
            "_x",
            "a/b",
            "a b",
            "a:b",
            "ä",
            "a\n",
            "nbd00",
            "nbd007",
            "nbd99999999999",
            "a.toml",
            ".toml",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert!("a".repeat(65).parse::<Name>().is_err());
        assert!("a".repeat(64).parse::<Name>().is_ok());
    }

    #[test]
    fn the_hash_of_a_uri_is_the_same_in_every_version() {
        let uri = Uri::parse("nbd://server/vm1").unwrap();
        let identifier = BackendIdentifier::new(&"vm1".parse().unwrap(), &uri);
        assert_eq!(identifier.to_string(), "nbdctl1:vm1:c1b86782364e8ede");
    }

    #[test]
    fn foreign_identifiers_are_not_ours() {
        for text in [
            "",
            "vm1",
            "nbdctl1:vm1",
            "nbdctl2:vm1:00c3d2cbd0cf4a14",
            "nbdctl1:/:00c3d2cbd0cf4a14",
            "nbdctl1:vm1:0",
            "nbdctl1:vm1:+0c3d2cbd0cf4a14",
            "nbdctl1:vm1:00C3D2CBD0CF4A14",
            "nbdctl1:vm1:00c3d2cbd0cf4a14 ",
            "nbdctl1:vm1:00c3d2cbd0cf4a14\n",
            " nbdctl1:vm1:00c3d2cbd0cf4a14",
        ] {
            assert_eq!(BackendIdentifier::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_export_gets_a_name_and_an_identifier_that_fit(export in "\\PC{0,200}", host in "[a-z0-9.-]{1,100}") {
            let encoded = percent_encoding::utf8_percent_encode(&export, percent_encoding::NON_ALPHANUMERIC);
            let uri = Uri::parse(&format!("nbd://{host}/{encoded}")).unwrap();
            let name = Name::from_uri(&uri);
            prop_assert_eq!(name.as_str().parse::<Name>(), Ok(name.clone()));
            let identifier = BackendIdentifier::new(&name, &uri);
            let text = identifier.to_string();
            prop_assert!(text.len() <= 128);
            prop_assert_eq!(BackendIdentifier::parse(&text), Some(identifier));
        }
    }
}
