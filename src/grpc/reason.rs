//! Reasons as the text of `google.rpc.ErrorInfo`: the name of a value of the contract's enum `Reason` without its prefix.

use super::proto::Reason;

const PREFIX: &str = "REASON_";

/// As `ErrorInfo.reason` shows it, such as `STORE_UNAVAILABLE`.
pub(crate) fn name(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// The reason that an `ErrorInfo` shows. `None`: the text is none of the contract's.
pub(crate) fn parse(text: &str) -> Option<Reason> {
    Reason::from_str_name(&format!("{PREFIX}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_text_without_the_prefix_and_back() {
        let reasons: Vec<_> = (0..).map_while(|n| Reason::try_from(n).ok()).collect();
        assert!(reasons.contains(&Reason::ProviderRefused), "numbers have a gap after {reasons:?}");
        for reason in reasons {
            let text = name(reason);
            assert!(!text.starts_with(PREFIX) && !text.is_empty(), "{text}");
            assert_eq!(parse(text), Some(reason));
            assert_eq!(parse(reason.as_str_name()), None, "the enum's name is not the text");
        }
    }
}
