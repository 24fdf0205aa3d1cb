//! The identifier of a disk as people type it. What a disk itself says is read
//! elsewhere; nothing here knows where on a disk it stands.

/// An identifier as people type it, or blkid(8) shows it: in any case, perhaps
/// behind `UUID=` or `PTUUID=`, perhaps in quotes or braces.
#[must_use]
pub fn parse_identity(text: &str) -> Option<String> {
    let text = text.trim();
    let id = match text.split_once('=') {
        Some((tag, id))
            if ["UUID", "PTUUID"]
                .iter()
                .any(|t| tag.eq_ignore_ascii_case(t)) =>
        {
            id
        }
        Some(_) => return None,
        None => text,
    };
    canonical(within(within(id, '"', '"'), '{', '}'))
}

fn within(text: &str, open: char, close: char) -> &str {
    let inner = text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
    inner.unwrap_or(text)
}

/// In lower case, `8-4-4-4-12`. What was never set identifies nothing.
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

    const SHOWN: &str = "01234567-89ab-cdef-fedc-ba9876543210";

    #[test]
    fn what_people_type_is_made_one() {
        let upper = SHOWN.to_ascii_uppercase();
        for text in [
            SHOWN.to_owned(),
            format!(" {upper}\n"),
            format!("UUID={SHOWN}"),
            format!("ptuuid={upper}"),
            format!("PTUUID=\"{SHOWN}\""),
            format!("{{{upper}}}"),
        ] {
            assert_eq!(parse_identity(&text).as_deref(), Some(SHOWN), "{text}");
        }
        for text in [
            "",
            "UUID=",
            "{}",
            "01234567-89ab-cdef-fedc-ba987654321",
            "01234567-89ab-cdef-fedc-ba98765432100",
            "0123456789abcdeffedcba9876543210",
            "01234567-89ab-cdef-fedc-ba987654321g",
            "01234567-89ab-cdef-fedc-ba987654321é",
            "LABEL=01234567-89ab-cdef-fedc-ba9876543210",
            "{01234567-89ab-cdef-fedc-ba9876543210",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(parse_identity(text), None, "{text}");
        }
    }
}
