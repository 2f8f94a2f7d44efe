//! What the caller says of the person's language and device.

use std::net::IpAddr;

use super::{Violations, values::fits};
use crate::{grpc::proto, ports::provider::ClientContext};

const MAX_LOCALE: usize = 35;
const MAX_USER_AGENT: usize = 512;
const MAX_DEVICE_ID: usize = 100;
const MAX_LAT_LONG: usize = 100;

/// A language tag, or nothing.
pub(super) fn locale(faults: &mut Violations, locale: String) -> String {
    let fits = locale.is_empty() || (locale.len() <= MAX_LOCALE && is_language_tag(&locale));
    if !fits {
        faults.invalid("locale", "must be a BCP 47 tag of at most 35 characters, such as pt-BR");
    }
    locale
}

/// The person's device.
pub(super) fn context(faults: &mut Violations, context: Option<proto::ClientContext>) -> ClientContext {
    let proto::ClientContext { ip_address, user_agent, device_id, lat_long } = context.unwrap_or_default();
    if !ip_address.is_empty() && ip_address.parse::<IpAddr>().is_err() {
        faults.invalid("client_context.ip_address", "must be an IPv4 or IPv6 address");
    }
    if !fits(&user_agent, MAX_USER_AGENT) {
        faults.invalid("client_context.user_agent", "must be at most 512 characters");
    }
    if !fits(&device_id, MAX_DEVICE_ID) {
        faults.invalid("client_context.device_id", "must be at most 100 characters");
    }
    let on_earth = lat_long.is_empty() || (lat_long.len() <= MAX_LAT_LONG && is_lat_long(&lat_long));
    if !on_earth {
        faults.invalid("client_context.lat_long", "must be latitude,longitude in decimal degrees");
    }
    ClientContext { ip_address, user_agent, device_id, lat_long }
}

fn is_lat_long(text: &str) -> bool {
    text.split_once(',')
        .is_some_and(|(latitude, longitude)| is_degrees(latitude, 90.0) && is_degrees(longitude.trim_start(), 180.0))
}

fn is_degrees(text: &str, max: f64) -> bool {
    // Rust also reads `1e1`, `inf` and `NaN` as numbers.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
    plain && text.parse::<f64>().is_ok_and(|degrees| degrees.abs() <= max)
}

/// Whether a text has the syntax of RFC 5646: language, then optional script, region, variants, extensions and private
/// use; or private use alone. Whether the subtags are registered is not looked at, and the grandfathered tags are
/// refused.
fn is_language_tag(text: &str) -> bool {
    let mut rest = text.split('-').peekable();
    if text.split('-').any(|subtag| !is_alphanumeric(subtag, 1..=8)) {
        return false;
    }
    let Some(language) = rest.next() else { return false };
    if is_singleton(language, |byte| matches!(byte, b'x' | b'X')) {
        return rest.peek().is_some();
    }
    if !is_alphabetic(language, 2..=8) {
        return false;
    }
    if language.len() <= 3 {
        for _ in 0..3 {
            rest.next_if(|subtag| is_alphabetic(subtag, 3..=3));
        }
    }
    rest.next_if(|subtag| is_alphabetic(subtag, 4..=4));
    rest.next_if(|subtag| is_alphabetic(subtag, 2..=2) || is_digits(subtag, 3));
    while rest.next_if(|subtag| is_variant(subtag)).is_some() {}
    while rest.next_if(|subtag| is_singleton(subtag, |byte| !matches!(byte, b'x' | b'X'))).is_some() {
        if rest.next_if(|subtag| subtag.len() >= 2).is_none() {
            return false;
        }
        while rest.next_if(|subtag| subtag.len() >= 2).is_some() {}
    }
    match rest.next() {
        None => true,
        Some(subtag) => is_singleton(subtag, |byte| matches!(byte, b'x' | b'X')) && rest.peek().is_some(),
    }
}

fn is_variant(subtag: &str) -> bool {
    let starts_with_digit = subtag.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    is_alphanumeric(subtag, 5..=8) || (is_alphanumeric(subtag, 4..=4) && starts_with_digit)
}

fn is_singleton(subtag: &str, which: impl Fn(u8) -> bool) -> bool {
    subtag.len() == 1 && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric() && which(byte))
}

fn is_alphanumeric(subtag: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_alphabetic(subtag: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_digits(subtag: &str, length: usize) -> bool {
    subtag.len() == length && subtag.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_tags_follow_rfc_5646() {
        for good in [
            "en",
            "pt-BR",
            "zh-Hant-TW",
            "es-419",
            "de-CH-1996",
            "sl-rozaj-biske",
            "zh-cmn-Hans-CN",
            "en-u-ca-gregory",
            "de-DE-u-co-phonebk",
            "x-house",
            "en-x-us",
            "EN-us",
            "haw",
            "hy-Latn-IT-arevela",
        ] {
            assert!(is_language_tag(good), "{good}");
        }
        for bad in [
            "e",
            "en_US",
            "en-",
            "-en",
            "en--US",
            "en-US-",
            "123",
            "en-u",
            "en-x",
            "x",
            "en US",
            "é",
            "englishlanguage",
            "en-US-GB",
            "en-abcdefghi",
            "de.UTF-8",
            "en-x-u_s",
            "i-klingon",
        ] {
            assert!(!is_language_tag(bad), "{bad}");
        }
    }

    #[test]
    fn places_are_decimal_degrees() {
        for good in ["12.97,77.59", "-90,180", "0,0", "+12.5, -0.1", "90.0,-180.0"] {
            assert!(is_lat_long(good), "{good}");
        }
        for bad in ["", ",", "12.97", "12.97,", "91,0", "0,180.1", "inf,0", "NaN,0", "1e1,0", "1,2,3", "a,b", "--1,0"] {
            assert!(!is_lat_long(bad), "{bad}");
        }
    }
}
