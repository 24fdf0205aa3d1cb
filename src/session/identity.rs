//! What identifies a disk, in the bytes that it begins with: the GUID of its
//! partition table, the UUID of its file system. Nothing here reads.
//!
//! A table's checksum is not looked at: a disk whose table was being written when
//! its server went away is the same disk.

/// As many bytes as all of it lies in.
pub(super) const EXTENT: u64 = 64 * 1024 + 4096;

/// What identifies a disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Whose it is: `gpt`, `ext` (2, 3 and 4), `xfs`, `btrfs`, `swap`, `luks`.
    pub kind: &'static str,
    /// In lower case, `8-4-4-4-12`, as blkid(8) shows it.
    pub id: String,
}

/// A signature, and where the identifier is that it vouches for.
struct Signature {
    kind: &'static str,
    at: usize,
    magic: &'static [u8],
    id_at: usize,
    read: fn(&[u8]) -> Option<String>,
}

impl Signature {
    const fn new(
        kind: &'static str,
        (at, magic): (usize, &'static [u8]),
        id_at: usize,
        read: fn(&[u8]) -> Option<String>,
    ) -> Self {
        Self {
            kind,
            at,
            magic,
            id_at,
            read,
        }
    }
}

const SIGNATURES: &[Signature] = &[
    // With MyLBA at 24: another block could hold a copy of the header.
    Signature::new("gpt", (512, b"EFI PART"), 512, guid_of_header),
    Signature::new("gpt", (4096, b"EFI PART"), 4096, guid_of_header),
    Signature::new("ext", (1024 + 56, b"\x53\xef"), 1024 + 104, big_endian),
    Signature::new("xfs", (0, b"XFSB"), 32, big_endian),
    Signature::new("btrfs", (65_536 + 64, b"_BHRfS_M"), 65_536 + 32, big_endian),
    Signature::new("luks", (0, b"LUKS\xba\xbe\0\x01"), 168, text),
    Signature::new("luks", (0, b"LUKS\xba\xbe\0\x02"), 168, text),
    // At the end of a page, whose size is of the machine that made it.
    Signature::new("swap", (4096 - 10, SWAP), 1024 + 12, big_endian),
    Signature::new("swap", (8192 - 10, SWAP), 1024 + 12, big_endian),
    Signature::new("swap", (16_384 - 10, SWAP), 1024 + 12, big_endian),
    Signature::new("swap", (32_768 - 10, SWAP), 1024 + 12, big_endian),
    Signature::new("swap", (65_536 - 10, SWAP), 1024 + 12, big_endian),
];

const SWAP: &[u8] = b"SWAPSPACE2";

/// Everything that a disk which begins so is known by.
pub(super) fn identities(disk: &[u8]) -> Vec<Identity> {
    let mut found: Vec<Identity> = Vec::new();
    for signature in SIGNATURES {
        let there = disk.get(signature.at..).unwrap_or_default();
        if !there.starts_with(signature.magic) {
            continue;
        }
        let id = disk.get(signature.id_at..).and_then(signature.read);
        let identity = id.map(|id| Identity {
            kind: signature.kind,
            id,
        });
        found.extend(identity.filter(|identity| !found.contains(identity)));
    }
    found
}

/// The disk's GUID in a header, whose first three fields are little-endian.
fn guid_of_header(header: &[u8]) -> Option<String> {
    if header.get(24..32)? != 1u64.to_le_bytes() {
        return None;
    }
    let mut bytes: [u8; 16] = header.get(56..72)?.try_into().ok()?;
    for field in [0..4, 4..6, 6..8] {
        bytes.get_mut(field)?.reverse();
    }
    printed(&bytes)
}

fn big_endian(bytes: &[u8]) -> Option<String> {
    printed(bytes.get(..16)?)
}

/// 40 characters at most, ended by NUL.
fn text(bytes: &[u8]) -> Option<String> {
    let text = bytes.get(..40)?.split(|byte| *byte == 0).next()?;
    canonical(std::str::from_utf8(text).ok()?)
}

fn printed(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    canonical(&text)
}

/// What was never set identifies nothing.
fn canonical(text: &str) -> Option<String> {
    let shaped = text.len() == 36
        && text.chars().enumerate().all(|(index, c)| match index {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    let set = text.contains(|c| !matches!(c, '0' | '-'));
    (shaped && set).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty disk with these bytes at these places.
    fn disk(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut disk = vec![0; usize::try_from(EXTENT).unwrap()];
        for (at, bytes) in parts {
            disk[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        disk
    }

    fn found(disk: &[u8]) -> Vec<(&'static str, String)> {
        let pairs = identities(disk).into_iter();
        pairs.map(|identity| (identity.kind, identity.id)).collect()
    }

    const RAW: [u8; 16] = [
        0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32,
        0x10,
    ];
    const SHOWN: &str = "01234567-89ab-cdef-fedc-ba9876543210";
    const MIXED: &str = "67452301-ab89-efcd-fedc-ba9876543210";

    fn gpt(lba: u64) -> Vec<u8> {
        let mut header = b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec();
        header.resize(24, 0);
        header.extend(lba.to_le_bytes());
        header.resize(56, 0);
        header.extend(RAW);
        header
    }

    fn luks(version: u8) -> Vec<u8> {
        let mut header = [b"LUKS\xba\xbe\0".as_slice(), &[version]].concat();
        header.resize(168, 0xaa);
        header.extend(SHOWN.to_ascii_uppercase().bytes());
        header.extend([0; 4]);
        header
    }

    #[test]
    fn each_kind_is_known_by_its_identifier() {
        let shown = |kind| vec![(kind, SHOWN.to_owned())];
        for (kind, parts) in [
            ("ext", [(1080, b"\x53\xef".as_slice()), (1128, &RAW)]),
            ("xfs", [(0, b"XFSB"), (32, &RAW)]),
            ("btrfs", [(65_600, b"_BHRfS_M"), (65_568, &RAW)]),
            ("swap", [(4086, b"SWAPSPACE2"), (1036, &RAW)]),
            ("swap", [(65_526, b"SWAPSPACE2"), (1036, &RAW)]),
        ] {
            assert_eq!(found(&disk(&parts)), shown(kind));
            assert_eq!(found(&disk(&parts[..1])), [], "{kind} was given none");
            assert_eq!(found(&disk(&parts[1..])), [], "no {kind}");
        }
        for version in [1, 2] {
            assert_eq!(found(&disk(&[(0, &luks(version))])), shown("luks"));
        }
        assert_eq!(found(&disk(&[(0, &luks(3))])), []);
        assert_eq!(found(&disk(&[])), []);
    }

    #[test]
    fn a_partition_table_is_at_either_block_size_and_prints_mixed() {
        let one = vec![("gpt", MIXED.to_owned())];
        for at in [512, 4096] {
            assert_eq!(found(&disk(&[(at, &gpt(1))])), one, "{at}");
            assert_eq!(found(&disk(&[(at, &gpt(9))])), [], "a copy at {at}");
        }
        assert_eq!(found(&disk(&[(512, &gpt(1)), (4096, &gpt(1))])), one);
        let both = disk(&[(512, &gpt(1)), (0, b"XFSB"), (32, &RAW)]);
        assert_eq!(found(&both).len(), 2);
    }

    #[test]
    fn a_disk_that_ends_within_a_signature_does_not_have_it() {
        let whole = disk(&[(512, &gpt(1)), (65_600, b"_BHRfS_M"), (65_568, &RAW)]);
        for length in 0..whole.len() {
            let gpt = usize::from(length >= 512 + 72);
            let btrfs = usize::from(length >= 65_608);
            if !(1024..=65_500).contains(&length) {
                assert_eq!(found(&whole[..length]).len(), gpt + btrfs, "{length}");
            }
        }
    }
}
