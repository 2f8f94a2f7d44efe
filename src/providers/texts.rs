//! What several adapters read alike: settings that must be there, the caller's parameters, lenient fields of answers, and
//! ids made from ours.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserializer, de::Visitor};
use sha2::{Digest, Sha256};

use crate::{
    domain::ids::Tenant,
    ports::provider::{Parameters, Unfit},
    settings::Section,
};

/// A text that may stand in an HTTP header: printable ASCII, at most 1000 characters.
pub(super) fn header_text(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let fits = (1..=1000).contains(&text.len()) && printable && text.trim() == text;
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 1000 printable ASCII characters".to_owned()) }
}

/// A path below the base URL.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    let fits = text.starts_with('/') && text.len() <= 500 && plain;
    if fits { Ok(text.to_owned()) } else { Err("must be a path that begins with a slash, without a query".to_owned()) }
}

/// A setting without which the provider cannot be called.
pub(super) fn required(section: &mut Section<'_>, name: &str, what: &str) -> Option<String> {
    let given = section.text(name, header_text);
    if given.is_none() {
        section.misfit(name, format!("required: {what}"));
    }
    given
}

/// One of the caller's parameters. An empty one is as absent.
pub(super) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.get(name).map(|value| value.expose().as_str()).filter(|value| !value.is_empty())
}

/// One of the caller's parameters without which the provider cannot be called.
pub(super) fn needed<'a>(parameters: &'a Parameters, name: &'static str) -> Result<&'a str, Unfit> {
    parameter(parameters, name).ok_or(Unfit::Missing(name))
}

/// The text, or `None` where it is empty: then the field is left out.
pub(super) fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Whether it is so many ASCII digits.
pub(super) fn digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The ten digits of an Indian number in E.164. `None` for any other.
pub(super) fn indian_mobile(number: &str) -> Option<&str> {
    // Mobile numbers begin with 6 to 9 (National Numbering Plan of India, 2003).
    number.strip_prefix("+91").filter(|rest| digits(rest, 10..=10) && rest.starts_with(['6', '7', '8', '9']))
}

/// A name for the provider, made from one of ours: 43 of `[A-Za-z0-9_-]`, the same each time, and another for each tenant.
/// For an id space that tenants share, where two of them may use the same name.
pub(super) fn derived_id(tenant: &Tenant, name: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(tenant, name))
}

/// As [`derived_id`], of `[0-9a-f]` and as long as asked, at most 64.
pub(super) fn derived_hex(tenant: &Tenant, name: &str, length: usize) -> String {
    let hex = digest(tenant, name).map(|byte| format!("{byte:02x}")).concat();
    hex.chars().take(length).collect()
}

fn digest(tenant: &Tenant, name: &str) -> [u8; 32] {
    // Neither name can hold a zero byte, so no two pairs look alike.
    Sha256::new().chain_update(tenant.as_str()).chain_update([0]).chain_update(name).finalize().into()
}

/// A text in an answer: taken as a number too, and null as empty, because servers differ.
pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a whole number")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.trim().to_owned())
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
            Ok(String::new())
        }
    }

    deserializer.deserialize_any(Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_tenant() {
        let tenant = |name| Tenant::parse(name).unwrap();
        let id = derived_id(&tenant("acme"), "C1-1");
        assert_eq!(id, derived_id(&tenant("acme"), "C1-1"));
        assert_ne!(id, derived_id(&tenant("bold"), "C1-1"));
        assert_eq!((id.len(), derived_hex(&tenant("acme"), "C1-1", 22).len()), (43, 22));
    }

    #[test]
    fn indian_mobiles_have_ten_digits() {
        assert_eq!(indian_mobile("+918144094480"), Some("8144094480"));
        for other in ["+14155550100", "+91814409448", "+9181440944801", "+911144094480", "8144094480"] {
            assert_eq!(indian_mobile(other), None, "{other}");
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
