//! The words of a command line, as the kernel cuts them: at blanks, and double quotes
//! keep blanks together. It must not know any word.

/// The words, less their quotes; nothing behind `--`, which is for init.
pub(super) struct Words(Vec<(String, Option<String>)>);

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut all = Vec::new();
        let (mut word, mut quoted, mut begun) = (String::new(), false, false);
        for c in text.chars().chain(std::iter::once(' ')) {
            match c {
                '"' => {
                    quoted = !quoted;
                    begun = true;
                }
                c if c.is_whitespace() && !quoted => {
                    if begun {
                        all.push(std::mem::take(&mut word));
                    }
                    begun = false;
                }
                c => {
                    word.push(c);
                    begun = true;
                }
            }
        }
        if begun {
            all.push(word);
        }
        let words = all.into_iter().take_while(|word| word != "--");
        let words = words.map(|word| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word, None),
        });
        Self(words.collect())
    }

    /// Every value of these keys, in order.
    pub(super) fn of_keys<'a>(
        &'a self,
        keys: &'a [&'a str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let words = self.0.iter();
        let named = words.filter(move |(key, _)| keys.contains(&key.as_str()));
        named.filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?)))
    }

    /// The last value of a key, which is what counts.
    pub(super) fn last(&self, key: &str) -> Option<&str> {
        let mut words = self.0.iter().rev();
        words.find(|(is, _)| is == key)?.1.as_deref()
    }

    /// Which of two flags stands last.
    pub(super) fn last_flag<'a>(&self, flags: &[&'a str]) -> Option<&'a str> {
        let mut words = self.0.iter().rev().filter(|(_, value)| value.is_none());
        words.find_map(|(is, _)| flags.iter().copied().find(|flag| flag == is))
    }
}
