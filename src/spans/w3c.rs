//! W3C Trace Context: `traceparent` and `tracestate`, read and written. <https://www.w3.org/TR/trace-context/>.

use crate::ports::call::TraceParent;

/// Of version 00: `00-<32 hex>-<16 hex>-<2 hex>`. Later versions may go on after a dash.
const LENGTH: usize = 55;
/// The flag that says that the caller may have recorded the trace.
const SAMPLED: u8 = 1;
/// What of `tracestate` is passed on: the specification asks for at least 512 characters and at most 32 members.
const MAX_STATE_LENGTH: usize = 512;
const MAX_MEMBERS: usize = 32;

/// Reads a `traceparent`. One that is malformed is none.
pub(crate) fn parse_parent(text: &str) -> Option<TraceParent> {
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = known.split('-');
    let version: u8 = hex(parts.next()?, 2)?.try_into().ok()?;
    let (trace_id, span_id) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?.try_into().ok()?);
    let flags: u8 = hex(parts.next()?, 2)?.try_into().ok()?;
    let may_go_on = version > 0 && rest.starts_with('-');
    let is_whole = parts.next().is_none() && (rest.is_empty() || may_go_on);
    if version == u8::MAX || trace_id == 0 || span_id == 0 || !is_whole {
        return None;
    }
    Some(TraceParent { trace_id, span_id, is_sampled: flags & SAMPLED != 0 })
}

/// Writes a `traceparent`.
pub(crate) fn parent(position: TraceParent) -> String {
    let TraceParent { trace_id, span_id, is_sampled } = position;
    format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(is_sampled))
}

/// Whether a `tracestate`, the lists of all its headers joined by commas, may be passed on.
pub(crate) fn is_state(text: &str) -> bool {
    let mut members =
        text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    let is_member = |member: &str| {
        let pair = member.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
        pair.is_some_and(|(key, value)| {
            let in_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
            key.bytes().all(in_key) && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
        })
    };
    text.len() <= MAX_STATE_LENGTH && members.clone().count() <= MAX_MEMBERS && members.all(is_member)
}

/// A number of so many digits, all in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(text, 16).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    const SPAN: u64 = 0xb7ad_6b71_6920_3331;

    /// After the test suite of the specification (github.com/w3c/trace-context).
    #[test]
    fn only_what_is_well_formed_is_a_parent() {
        let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        for (text, is_sampled) in [
            (format!("00-{ids}-01"), true),
            (format!("00-{ids}-00"), false),
            // Level 2 says that the trace id is random; flags of later levels mean nothing here.
            (format!("00-{ids}-03"), true),
            (format!("00-{ids}-fe"), false),
            (format!("cc-{ids}-01"), true),
            (format!("cc-{ids}-01-what-the-future-will-be-like"), true),
            (format!("cc-{ids}-01-"), true),
        ] {
            let expected = TraceParent { trace_id: TRACE, span_id: SPAN, is_sampled };
            assert_eq!(parse_parent(&text), Some(expected), "{text}");
        }
        let zero = "0".repeat(32);
        for text in [
            String::new(),
            format!("00-{ids}"),
            format!("00-{ids}-"),
            format!("00-{ids}-1"),
            format!("00-{ids}-.1"),
            format!("00-{ids}-01-"),
            format!("00-{ids}-01-extra"),
            format!("00-{ids}-01."),
            format!("cc-{ids}-01.what"),
            format!("ff-{ids}-01"),
            format!(".0-{ids}-01"),
            format!("0-{ids}-01"),
            format!("000-{ids}-01"),
            format!("+0-{ids}-01"),
            format!("00-{}-01", ids.to_uppercase()),
            format!("00-{zero}-b7ad6b7169203331-01"),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01".to_owned(),
        ] {
            assert_eq!(parse_parent(&text), None, "{text}");
        }
        let position = TraceParent { trace_id: TRACE, span_id: SPAN, is_sampled: true };
        assert_eq!(parent(position), format!("00-{ids}-01"));
    }

    #[test]
    fn a_state_is_a_list_of_a_few_pairs() {
        for good in ["", "foo=1", "foo=1,bar=2", "foo=1 , bar=2,,", "fw529a3039@dt=FfAXW/1*;x:y", "a/b*c_d-e=0"] {
            assert!(is_state(good), "{good}");
        }
        let many = "a=1,".repeat(33);
        for bad in ["foo", "foo=", "=1", "foo=1=2", "FOO=1", "foo =1", "foo=\u{e9}", many.as_str(), &"a=".repeat(300)] {
            assert!(!is_state(bad), "{bad}");
        }
    }
}
