//! What Twilio's APIs have in common: the SIDs.

/// Parses a SID, Twilio's identifier of a resource: two letters for its kind, and 32 hexadecimal digits.
pub(super) fn sid(kind: &'static str) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        let rest = text.strip_prefix(kind);
        let fits = rest.is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if fits { Ok(text.to_owned()) } else { Err(format!("must be {kind} and 32 hexadecimal digits")) }
    }
}
