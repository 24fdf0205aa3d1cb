//! How things look: sizes, foreign text, lists that are too long for a line.

/// `1.5 GiB`, for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut rest = bytes;
    let mut tenths = 0;
    let mut unit = 0;
    while rest >= 1024 && unit + 1 < UNITS.len() {
        tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if tenths == 0 {
        format!("{rest} {name}")
    } else {
        format!("{rest}.{tenths} {name}")
    }
}

/// `1 outage`, `2 outages`, for people.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `1.2 s`, `3 min 20 s`, for people.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `250 us`, `1.5 ms`, for people.
pub(super) fn micros(us: u64) -> String {
    if us < 1000 {
        format!("{us} us")
    } else {
        format!("{}.{} ms", us / 1000, us % 1000 / 100)
    }
}

/// A server's text, which must not reach a terminal raw.
pub(super) fn text(foreign: &str) -> String {
    crate::proto::readable_text(foreign)
}

/// JSON for a terminal: what a server's text must not bring there is escaped, as
/// JSON allows for any character of a string, and only strings have such.
pub(super) fn json_text(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let raw = c == '\n' || !text(c.encode_utf8(&mut [0; 4])).starts_with('\\');
        if raw || c == '\\' {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// A label and words, within 80 columns.
pub(super) fn wrapped(label: &str, words: &[String]) -> Vec<String> {
    const INDENT: usize = 13;
    let mut lines = Vec::new();
    let mut line = format!("{label:<INDENT$}");
    if words.is_empty() {
        line.push_str("none");
    }
    for (number, word) in words.iter().enumerate() {
        let word = text(word);
        let begun = line.len() > INDENT;
        if begun && line.len() + 1 + word.len() > 80 {
            lines.push(std::mem::replace(&mut line, " ".repeat(INDENT)));
        } else if begun && number > 0 {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 30), "1 GiB");
        assert_eq!(size(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(span(0), "0.0 s");
        assert_eq!(span(59_999), "59.9 s");
        assert_eq!(span(200_000), "3 min 20 s");
        assert_eq!(span(7_260_000), "2 h 1 min");
        assert_eq!(count(1, "outage"), "1 outage");
        assert_eq!(count(0, "outage"), "0 outages");
        assert_eq!(micros(999), "999 us");
        assert_eq!(micros(1500), "1.5 ms");
    }

    #[test]
    fn json_brings_no_control_character_to_a_terminal_and_says_the_same() {
        let text = "a\u{9b}b\u{202e}c\u{7f}\"d\\e ü";
        let json = serde_json::to_string(text).unwrap();
        let shown = json_text(&json);
        assert!(
            !shown.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{shown}"
        );
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        assert!(shown.contains('ü'));
    }

    #[test]
    fn long_lists_stay_within_80_columns() {
        let words: Vec<_> = (0..30).map(|n| format!("word-{n:04}")).collect();
        let lines = wrapped("flags", &words);
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| line.len() <= 80));
        assert_eq!(lines.concat().matches("word-").count(), 30);
        assert_eq!(wrapped("flags", &[]), ["flags        none"]);
    }
}
