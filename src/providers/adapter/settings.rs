//! Settings that several adapters have: what is required, and what it must look like.

use std::time::Duration;

#[cfg(test)]
use crate::settings::{ConfigErrors, Diagnostics, tree::Table};
use crate::{
    domain::destination::Channel,
    providers::http::BaseUrl,
    secret::Secret,
    settings::{Section, values},
};

/// A required setting; `what` describes it in the error.
pub(in crate::providers) fn required<T>(
    section: &mut Section<'_>,
    name: &str,
    what: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let value = section.text(name, parse);
    if value.is_none() {
        section.missing(name, what);
    }
    value
}

/// A required credential.
pub(in crate::providers) fn secret(section: &mut Section<'_>, name: &str, what: &str) -> Option<Secret<String>> {
    let secret = section.secret(name, |text| word(text).map(Secret::new));
    if secret.is_none() && !section.is_secret_wrong(name) {
        section.missing(name, &format!("{what}; here, or in a file that {name}_file names"));
    }
    secret
}

/// Whether a setting is wrong in itself: then its relation to others is not checked.
pub(in crate::providers) fn is_wrong(section: &Section<'_>, name: &str) -> bool {
    let path = if section.path().is_empty() { name.to_owned() } else { format!("{}.{name}", section.path()) };
    section.diagnostics().is_wrong(&path)
}

/// A name or credential at the provider: visible ASCII without spaces, so that it can stand in a header.
pub(in crate::providers) fn word(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("must be visible ASCII characters without spaces".to_owned()) }
}

/// A text of several words that may stand in a header: printable ASCII, at most 1000 characters.
pub(in crate::providers) fn header_text(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let fits = (1..=1000).contains(&text.len()) && printable && text.trim() == text;
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 1000 printable ASCII characters".to_owned()) }
}

/// A path below the base URL.
pub(in crate::providers) fn url_path(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    let fits = text.starts_with('/') && text.len() <= 500 && plain;
    if fits { Ok(text.to_owned()) } else { Err("must be a path that begins with a slash, without a query".to_owned()) }
}

/// The channels that the operator chooses among the known ones; by default the first.
pub(in crate::providers) fn channels(section: &mut Section<'_>, known: &[Channel]) -> Vec<Channel> {
    let words: Vec<(&'static str, Channel)> = known.iter().map(|channel| (channel.name(), *channel)).collect();
    let given = section.list("channels", 1..=known.len(), values::word(&words));
    given.unwrap_or_else(|| known.iter().take(1).copied().collect())
}

/// A span of time in whole minutes.
pub(in crate::providers) fn minutes(text: &str, most: u64) -> Result<Duration, String> {
    let span = humantime::parse_duration(text.trim()).ok();
    let whole = span.filter(|span| span.subsec_nanos() == 0 && span.as_secs() % 60 == 0);
    let span = whole.filter(|span| (1..=most).contains(&(span.as_secs() / 60)));
    span.ok_or_else(|| format!("must be whole minutes, such as \"5m\", 1m to {most}m"))
}

/// `base_url` of an API to which secrets are sent that must be encrypted on the way; `what` names them in the error.
pub(in crate::providers) fn closed_base_url(
    section: &mut Section<'_>,
    default: Option<&str>,
    what: &str,
) -> Option<BaseUrl> {
    let base_url = BaseUrl::read(section, default);
    if base_url.as_ref().is_some_and(BaseUrl::is_open) {
        section.cross_field_error("base_url", format!("must be https: {what} are sent there"));
    }
    base_url
}

/// The adapter with these settings, or all their errors.
#[cfg(test)]
pub(in crate::providers) fn adapter_of<A>(
    settings: &str,
    read: fn(&mut Section<'_>) -> Option<A>,
) -> Result<A, ConfigErrors> {
    let diagnostics = Diagnostics::default();
    let adapter = Section::root(Table::from_toml(settings.parse().unwrap()), &diagnostics, read);
    diagnostics.finish(()).map(|()| adapter.expect("what is not read is a mistake"))
}

/// Changes one line of right settings at a time, and expects one error each. A name alone means that the line is left out.
#[cfg(test)]
pub(in crate::providers) fn wrong_settings<A>(
    right: &str,
    read: fn(&mut Section<'_>) -> Option<A>,
    cases: &[(&str, &str)],
) {
    let errors = |settings: &str| adapter_of(settings, read).map_err(|it| it.to_string()).err().unwrap_or_default();
    assert_eq!(errors(right), "");
    for (change, expected) in cases {
        let (key, value) = change.split_once(' ').unwrap_or((change, ""));
        let kept = right.lines().filter(|line| line.split(' ').next() != Some(key));
        let changed = if value.is_empty() { "" } else { *change };
        let wrong = errors(&kept.chain([changed]).collect::<Vec<_>>().join("\n"));
        assert!(wrong.starts_with(expected) && !wrong.contains('\n'), "{change}: {wrong}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_credentials_are_words() {
        assert!(word("a").is_ok() && word(&"x".repeat(2000)).is_ok());
        for bad in ["", "a b", "a\tb", "é"] {
            assert!(word(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn minutes_are_whole() {
        assert_eq!(minutes("10m", 1440), Ok(Duration::from_secs(600)));
        for bad in ["90s", "0m", "25h", "10", ""] {
            assert!(minutes(bad, 1440).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_and_header_texts_are_plain() {
        assert!(url_path("/v1/sendOtp").is_ok() && header_text("Bearer a.b-c").is_ok());
        for bad in ["v1", "/a?b", "/a b", "/a#b", "/é"] {
            assert!(url_path(bad).is_err(), "{bad}");
        }
        for bad in ["", " a", "a\r\nb: c", "é"] {
            assert!(header_text(bad).is_err(), "{bad}");
        }
    }
}
