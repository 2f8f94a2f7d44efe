//! The last line of a text message, by which a browser or an app on the phone knows that the code is for it.

/// The longest name of a host (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
const HASH_LENGTH: usize = 11;

/// What text messages end with. One of them: each has to be the last line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing of the kind.
    #[default]
    Plain,
    /// `@example.com #123456`: the code is typed for this site only (WICG, "Origin-bound one-time codes delivered via SMS",
    /// section 3). Nothing comes before the host in its line, one space separates the two, and it is the last line.
    Origin(String),
    /// The hash of an app on Android, which is given the message (SMS Retriever: at most 140 bytes, with the hash of 11
    /// characters at its end).
    Retriever(String),
}

impl Ending {
    /// The most bytes that the SMS Retriever takes.
    pub const RETRIEVER_BYTES: usize = 140;

    /// Takes the host of a site.
    ///
    /// # Errors
    /// What it must be.
    pub fn origin(host: &str) -> Result<Self, String> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let label = |label: &str| {
            let outside = label.starts_with('-') || label.ends_with('-');
            (1..=63).contains(&label.len()) && !outside && label.bytes().all(letter)
        };
        let fits = host.len() <= MAX_HOST && host.contains('.') && host.split('.').all(label);
        if fits {
            Ok(Self::Origin(host.to_owned()))
        } else {
            Err("must be a host without scheme and port, in lower case and ASCII, such as example.com".to_owned())
        }
    }

    /// Takes the hash of an app.
    ///
    /// # Errors
    /// What it must be.
    pub fn retriever(hash: &str) -> Result<Self, String> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let fits = hash.len() == HASH_LENGTH && hash.bytes().all(letter);
        if fits { Ok(Self::Retriever(hash.to_owned())) } else { Err("must be 11 of [A-Za-z0-9+/]".to_owned()) }
    }

    /// Adds the line.
    pub fn end(&self, text: &mut String, code: &str) {
        match self {
            Self::Plain => {}
            Self::Origin(host) => text.extend(["\n@", host, " #", code]),
            Self::Retriever(hash) => text.extend(["\n", hash]),
        }
    }
}

/// The host that a message binds its code to, as a phone reads it (section 3.2 of the WICG's text).
pub fn bound_host(text: &str) -> Option<&str> {
    let last = text.rsplit(['\n', '\r']).next()?;
    let (host, rest) = last.strip_prefix('@')?.split_once(' ')?;
    let code = rest.strip_prefix('#')?;
    let blank = |c: char| c.is_ascii_whitespace();
    (!host.is_empty() && !host.contains(blank) && !code.is_empty() && !code.starts_with(blank)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_last_and_nothing_follows() {
        let ended = |ending: Result<Ending, String>| {
            let mut text = "123456 is your code.".to_owned();
            ending.unwrap_or_default().end(&mut text, "123456");
            text
        };
        let bound = ended(Ending::origin("example.com"));
        assert_eq!(bound, "123456 is your code.\n@example.com #123456");
        assert_eq!(bound_host(&bound), Some("example.com"));
        assert_eq!(ended(Ending::retriever("FA+9qCX9VSu")), "123456 is your code.\nFA+9qCX9VSu");
        assert_eq!(ended(Ok(Ending::Plain)), "123456 is your code.");
    }

    #[test]
    fn hosts_and_hashes_are_checked() {
        for good in ["example.com", "login.example.co.uk", "xn--bcher-kva.example", "1.example"] {
            assert!(Ending::origin(good).is_ok(), "{good}");
        }
        let long = format!("{}.com", "a".repeat(64));
        for bad in
            ["", "example", "https://example.com", "example.com:443", "Example.com", "a b.com", "-a.com", "a..b", &long]
        {
            assert!(Ending::origin(bad).is_err(), "{bad}");
        }
        for bad in ["", "FA+9qCX9VS", "FA+9qCX9VSuu", "FA+9qCX9VS=", "FA+9qCX9V u"] {
            assert!(Ending::retriever(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_read_as_a_phone_reads_them() {
        assert_eq!(bound_host("@example.com #747723"), Some("example.com"));
        assert_eq!(bound_host("words\n\n@example.com #747723 %shop.example $more"), Some("example.com"));
        for unbound in [
            "something @example.com #747723",
            "@example.com code #747723",
            "@example.com  #747723",
            "@example.com #747723\n",
            "@ #747723",
            "@example.com #",
        ] {
            assert_eq!(bound_host(unbound), None, "{unbound}");
        }
    }
}
