//! The word for the command line that attaches what is attached: what an initramfs for
//! one machine brings along.

use crate::config::{Boot, Key, Name, Settings, ValueError};
use crate::uri::Uri;

/// `rd.nbdctl=…`, of which [`super::read`] makes these settings again.
///
/// # Errors
///
/// An initramfs cannot attach this: a word that it refuses would end the boot.
pub fn word_of(settings: &Settings) -> Result<String, ValueError> {
    let mut theirs = settings.clone();
    theirs.root = true;
    theirs.may_be_root()?;
    let boot = Boot::default();
    let mut usual = Settings::new(settings.uri.clone());
    usual.root = true;
    usual.settle(|_| false);
    // A comma would end it. It means the same.
    let uri = settings.uri.as_str().replace(',', "%2C");
    let made = Uri::parse(&uri).ok().map(|uri| Name::from_uri(&uri));
    let mut word = format!("rd.nbdctl={uri}");
    if made.as_ref() != Some(&settings.name) {
        word.push_str(&format!(",name={}", settings.name));
    }
    for key in Key::ALL {
        let value = key.value(settings, &boot);
        if matches!(key, Key::Uri | Key::Root) || value == key.value(&usual, &boot) {
            continue;
        }
        if let Some(value) = value {
            word.push_str(&format!(",{key}={value}"));
        }
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::read_command_line;
    use crate::config::Setting;

    #[test]
    fn a_word_is_read_as_what_it_was_made_of() {
        let mut settings = Settings::new(Uri::parse("nbd://h/a%2Cb").unwrap());
        let mut boot = Boot::default();
        for (key, text) in [
            (Key::Device, "/dev/nbd7"),
            (Key::Connections, "2"),
            (Key::Path, "kernel"),
            (Key::ReadOnly, "true"),
            (Key::BlockSize, "4096"),
            (Key::DeadTimeout, "600"),
            (Key::ShutdownTimeout, "9"),
            (Key::IoTimeout, "250"),
            (Key::Identity, "01234567-89ab-cdef-fedc-ba9876543210"),
            (Key::Resize, "live"),
            (Key::Root, "true"),
        ] {
            Setting::read(key, text)
                .unwrap()
                .apply(&mut settings, &mut boot);
        }
        for name in ["disk", settings.name.clone().as_str()] {
            settings.name = name.parse().unwrap();
            let word = word_of(&settings).unwrap();
            let plan = read_command_line(&word, None);
            assert_eq!((plan.problems, plan.warnings), (Vec::new(), Vec::new()));
            assert_eq!(plan.exports[0].settings, settings, "{word}");
        }
    }

    #[test]
    fn a_word_says_what_is_not_as_usual() {
        let plan = read_command_line("nbdctl=nbd://h/x,dead-timeout=7", None);
        assert_eq!(
            word_of(&plan.exports[0].settings).unwrap(),
            "rd.nbdctl=nbd://h/x,device=/dev/nbd0,dead_timeout=7"
        );
    }

    #[test]
    fn there_is_none_that_would_be_refused() {
        let mut settings = Settings::new(Uri::parse("nbd://h/x").unwrap());
        settings.path = "relay".parse().unwrap();
        assert!(word_of(&settings).is_err());
    }

    /// The URI is compared as text: a device that is attached stays the same one's.
    #[test]
    fn a_comma_is_escaped() {
        let settings = Settings::new(Uri::parse("nbd://h/a,b").unwrap());
        let word = word_of(&settings).unwrap();
        assert!(word.starts_with("rd.nbdctl=nbd://h/a%2Cb,name="), "{word}");
        let plan = read_command_line(&word, None);
        assert_eq!(plan.exports[0].settings.name, settings.name);
        assert_eq!(plan.exports[0].settings.uri.export(), "a,b");
    }
}
