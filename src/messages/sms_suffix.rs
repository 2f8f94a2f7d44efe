//! The last line of a text message, by which a browser or an app on the phone recognises that the code is for it.

/// The longest name of a host (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
const HASH_LENGTH: usize = 11;

/// The last line of text messages. Each kind has to be the last line, so there is one at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SmsSuffix {
    /// No such line.
    #[default]
    None,
    /// `@example.com #123456`: the code is typed for this site only (WICG, "Origin-bound one-time codes delivered via SMS",
    /// section 3). Nothing comes before the host in its line, one space separates the two, and it is the last line.
    OriginBound(String),
    /// The hash of an Android app, to which the phone hands the message (SMS Retriever: at most 140 bytes, with the hash of
    /// 11 characters at its end).
    SmsRetriever(String),
}

impl SmsSuffix {
    /// The most bytes of a message that the SMS Retriever accepts.
    pub(super) const RETRIEVER_BYTES: usize = 140;

    /// For the site with this host.
    ///
    /// # Errors
    /// What a host must be.
    pub fn origin_bound(host: &str) -> Result<Self, String> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let label = |label: &str| {
            let outside = label.starts_with('-') || label.ends_with('-');
            (1..=63).contains(&label.len()) && !outside && label.bytes().all(letter)
        };
        let fits = host.len() <= MAX_HOST && host.contains('.') && host.split('.').all(label);
        if fits {
            Ok(Self::OriginBound(host.to_owned()))
        } else {
            Err("must be a host without scheme and port, in lower case and ASCII, such as example.com".to_owned())
        }
    }

    /// For the app with this hash.
    ///
    /// # Errors
    /// What a hash must be.
    pub(crate) fn sms_retriever(hash: &str) -> Result<Self, String> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let fits = hash.len() == HASH_LENGTH && hash.bytes().all(letter);
        if fits { Ok(Self::SmsRetriever(hash.to_owned())) } else { Err("must be 11 of [A-Za-z0-9+/]".to_owned()) }
    }

    /// Appends the line to a text.
    pub(crate) fn append_to(&self, text: &mut String, code: &str) {
        match self {
            Self::None => {}
            Self::OriginBound(host) => text.extend(["\n@", host, " #", code]),
            Self::SmsRetriever(hash) => text.extend(["\n", hash]),
        }
    }
}

/// The host that a message binds its code to, as a phone reads it (section 3.2 of the WICG's text).
pub(super) fn bound_host(text: &str) -> Option<&str> {
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
        let suffixed = |suffix: Result<SmsSuffix, String>| {
            let mut text = "123456 is your code.".to_owned();
            suffix.unwrap_or_default().append_to(&mut text, "123456");
            text
        };
        let bound = suffixed(SmsSuffix::origin_bound("example.com"));
        assert_eq!(bound, "123456 is your code.\n@example.com #123456");
        assert_eq!(bound_host(&bound), Some("example.com"));
        assert_eq!(suffixed(SmsSuffix::sms_retriever("FA+9qCX9VSu")), "123456 is your code.\nFA+9qCX9VSu");
        assert_eq!(suffixed(Ok(SmsSuffix::None)), "123456 is your code.");
    }

    #[test]
    fn hosts_and_hashes_are_checked() {
        for good in ["example.com", "login.example.co.uk", "xn--bcher-kva.example", "1.example"] {
            assert!(SmsSuffix::origin_bound(good).is_ok(), "{good}");
        }
        let long = format!("{}.com", "a".repeat(64));
        for bad in
            ["", "example", "https://example.com", "example.com:443", "Example.com", "a b.com", "-a.com", "a..b", &long]
        {
            assert!(SmsSuffix::origin_bound(bad).is_err(), "{bad}");
        }
        for bad in ["", "FA+9qCX9VS", "FA+9qCX9VSuu", "FA+9qCX9VS=", "FA+9qCX9V u"] {
            assert!(SmsSuffix::sms_retriever(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_read_as_a_phone_reads_them() {
        for bound in [
            "@example.com #747723",
            "747723 is your code.\n\n@example.com #747723",
            "747723 is your code.\r\n@example.com #747723",
            "words\n\n@example.com #747723 %shop.example $more",
            "@example.com #747723 @shop.example",
            "@example.com #747723 ",
            "@example.com #747723 words",
            "@example.com #A-7z",
            "@shop.example #1\n@example.com #747723",
        ] {
            assert_eq!(bound_host(bound), Some("example.com"), "{bound:?}");
        }
        assert_eq!(bound_host("@login.example.com #747723"), Some("login.example.com"));
        for unbound in [
            "",
            "747723 is your code.",
            "something @example.com #747723",
            " @example.com #747723",
            "@example.com code #747723",
            "@example.com  #747723",
            "@example.com\t#747723",
            "@example.com#747723",
            "@example.com # 747723",
            "@example.com 747723",
            "example.com #747723",
            "#747723 @example.com",
            "@ example.com #747723",
            "@example.com #747723\n",
            "@example.com #747723\nwords",
            "@ #747723",
            "@example.com #",
            "@example.com # ",
            "@",
        ] {
            assert_eq!(bound_host(unbound), None, "{unbound:?}");
        }
    }
}
