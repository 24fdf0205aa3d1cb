//! Reading and writing the wire's shapes: big-endian integers, bounded.
//!
//! A `Reader` stands on one whole message; running off its end, and bytes that
//! are left over, are violations with the message's name.

use super::MAX_STRING;
use super::error::Violation;
use super::number::{InfoType, OptionCode};

/// "NBDMAGIC", the first eight bytes that a server sends.
pub(super) const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT", the greeting's second magic and the head of every option.
pub(super) const IHAVEOPT: u64 = 0x4948_4156_454F_5054;
/// What an oldstyle server sends in place of IHAVEOPT.
pub(super) const OLDSTYLE: u64 = 0x0000_4202_8186_1253;
/// The head of every option reply.
pub(super) const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// A cursor over one message.
pub(super) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `what` names the message in errors.
    pub(super) fn new(what: &'static str, message: &'a [u8]) -> Self {
        Self {
            what,
            rest: message,
        }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Violation::Truncated { what: self.what })?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Violation::Truncated { what: self.what })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    /// A 32-bit length, as a count of bytes that can only be less than the
    /// message has.
    pub(super) fn length(&mut self) -> Result<usize, Violation> {
        self.u32()
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A string of `count` bytes ("Conventions": UTF-8, at most 4096 bytes).
    pub(super) fn string(&mut self, count: usize) -> Result<String, Violation> {
        if count > MAX_STRING {
            return Err(Violation::LongString {
                what: self.what,
                length: count,
            });
        }
        let bytes = self.bytes(count)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Violation::NotUtf8 { what: self.what }),
        }
    }

    /// All that is left, as a string.
    pub(super) fn rest_string(&mut self) -> Result<String, Violation> {
        self.string(self.rest.len())
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the message: bytes that nobody read are a violation.
    pub(super) fn finish(self) -> Result<(), Violation> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Violation::Overlong {
                what: self.what,
                extra: self.rest.len(),
            })
        }
    }
}

/// The first eight bytes, as soon as they are there.
pub(super) fn magic(input: &[u8]) -> Option<u64> {
    input.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Appends one option request.
pub(super) fn put_option(out: &mut Vec<u8>, option: OptionCode, data: &[u8]) {
    out.extend_from_slice(&IHAVEOPT.to_be_bytes());
    out.extend_from_slice(&option.0.to_be_bytes());
    out.extend_from_slice(&wire_len(data.len()).to_be_bytes());
    out.extend_from_slice(data);
}

/// The data of INFO and GO: an export's name and what to tell of it.
pub(super) fn info_request(export: &str, infos: &[InfoType]) -> Vec<u8> {
    let mut data = Vec::with_capacity(export.len() + 6 + 2 * infos.len());
    data.extend_from_slice(&wire_len(export.len()).to_be_bytes());
    data.extend_from_slice(export.as_bytes());
    let count = u16::try_from(infos.len()).unwrap_or(u16::MAX);
    data.extend_from_slice(&count.to_be_bytes());
    for info in infos.iter().take(usize::from(count)) {
        data.extend_from_slice(&info.0.to_be_bytes());
    }
    data
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(super) fn context_request(export: &str, queries: &[String]) -> Vec<u8> {
    let mut data = Vec::new();
    data.extend_from_slice(&wire_len(export.len()).to_be_bytes());
    data.extend_from_slice(export.as_bytes());
    data.extend_from_slice(&wire_len(queries.len()).to_be_bytes());
    for query in queries {
        data.extend_from_slice(&wire_len(query.len()).to_be_bytes());
        data.extend_from_slice(query.as_bytes());
    }
    data
}

/// A length that this crate chose; strings are within `MAX_STRING` and queries
/// within `MAX_QUERIES`, so the conversion never saturates.
fn wire_len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Text that a server sent, made safe for a terminal and short enough for one
/// line: control characters are escaped, what is no UTF-8 is replaced.
pub(super) fn readable(bytes: &[u8]) -> String {
    /// Enough for any sentence that a server's author wrote for a person.
    const MAX_CHARS: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    readable_text(&text, MAX_CHARS)
}

/// The same for text of at most `max` characters.
pub(super) fn readable_text(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == max {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that change how the text around them is shown (bidirectional
/// overrides, zero-width ones): a message could be made to read as another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_refuses_to_run_off_the_end_and_to_leave_bytes() {
        let mut reader = Reader::new("thing", &[0, 1, 2]);
        assert_eq!(reader.u16(), Ok(1));
        assert_eq!(reader.u16(), Err(Violation::Truncated { what: "thing" }));
        assert_eq!(
            reader.finish(),
            Err(Violation::Overlong {
                what: "thing",
                extra: 1
            })
        );
    }

    #[test]
    fn a_servers_text_cannot_reach_the_terminal_raw() {
        assert_eq!(readable(b"no\x1b[2Jway\n"), "no\\u{1b}[2Jway");
        assert_eq!(readable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(readable(&[b'x'; 5000]).chars().count(), 301);
        assert_eq!(readable(b"\xff!"), "\u{fffd}!");
    }

    #[test]
    fn a_go_request_has_the_specifications_layout() {
        let mut out = Vec::new();
        let data = info_request("ab", &[InfoType::BLOCK_SIZE]);
        put_option(&mut out, OptionCode::GO, &data);
        let expected = [
            b"IHAVEOPT".as_slice(),
            &[0, 0, 0, 7],
            &[0, 0, 0, 10],
            &[0, 0, 0, 2],
            b"ab",
            &[0, 1],
            &[0, 3],
        ]
        .concat();
        assert_eq!(out, expected);
    }
}
