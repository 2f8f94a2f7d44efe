//! The provider's own words about a call that did not end well, for the operator's log: its codes, its descriptions, and its name
//! of the call, by which its support finds it. Bounded, and without anything that the request held.

use serde_json::Value;

use super::Inbound;
use crate::{
    domain::destination::Destination,
    ports::provider::{ChallengeContext, Check, Delivery},
};

/// The longest remark, in characters.
const MAX_REMARK: usize = 300;

/// The longest of its values, in characters.
const MAX_VALUE: usize = 120;

/// How deep a body is searched: the errors of the known providers stand two levels deep at most.
const MAX_DEPTH: usize = 4;

/// The shortest text of a request that is searched for in an answer. Shorter ones stand in any text by chance.
const SHORTEST_UNSAID: usize = 3;

/// As many digits may be a code, or a part of a number, and are not shown.
const HIDDEN_DIGITS: usize = 4;

/// What errors are written with beside words of small letters.
const KNOWN_WORDS: [&str; 62] = [
    "aadhaar",
    "access",
    "account",
    "amount",
    "api",
    "authentication",
    "authorization",
    "bad",
    "card",
    "code",
    "credentials",
    "cvd",
    "cvv",
    "domain",
    "duplicate",
    "email",
    "empty",
    "error",
    "expired",
    "failed",
    "failure",
    "field",
    "forbidden",
    "http",
    "id",
    "internal",
    "invalid",
    "ip",
    "json",
    "key",
    "limit",
    "message",
    "missing",
    "mobile",
    "no",
    "not",
    "number",
    "otp",
    "pan",
    "parameter",
    "permission",
    "phone",
    "pin",
    "rate",
    "recipient",
    "request",
    "required",
    "sender",
    "server",
    "service",
    "sms",
    "success",
    "template",
    "the",
    "throttled",
    "token",
    "too",
    "transaction",
    "unauthorized",
    "unknown",
    "user",
    "value",
];

/// The fields in which the known providers and RFC 9457 name an error, describe it, or name the call.
const TOLD: [(&str, Told); 24] = [
    ("errorResponseCode", Told::Text),
    ("errorcode", Told::Text),
    ("error_code", Told::Text),
    ("statusCode", Told::Text),
    ("messageId", Told::Text),
    ("pinError", Told::Text),
    ("__type", Told::Text),
    ("code", Told::Text),
    ("status", Told::Text),
    ("errorDescription", Told::Text),
    ("errormsg", Told::Text),
    ("statusDesc", Told::Text),
    ("error_description", Told::Text),
    ("error_message", Told::Text),
    ("description", Told::Text),
    ("details", Told::Text),
    ("detail", Told::Text),
    ("title", Told::Text),
    ("message", Told::Text),
    ("text", Told::Text),
    ("error", Told::Text),
    ("paymentIntegratorErrorIdentifier", Told::Name),
    ("fbtrace_id", Told::Name),
    ("instance", Told::Name),
];

/// What a field holds.
#[derive(Clone, Copy)]
enum Told {
    /// A number, which is a code of the provider's, or words.
    Text,
    /// The provider's name of the call: letters and digits, of which none may be hidden.
    Name,
}

/// What the caller has given with a call, the longest first: a part of another text must not leave the rest of it behind.
pub(super) struct Unsaid<'a>(Vec<&'a str>);

impl<'a> Unsaid<'a> {
    pub(super) fn of_delivery(delivery: &'a Delivery) -> Self {
        let code = delivery.message.as_ref().map(|message| message.code.expose().as_str());
        Self(texts(&delivery.context, code))
    }

    pub(super) fn of_check(check: &'a Check) -> Self {
        Self(texts(&check.context, Some(check.otp.expose())))
    }

    /// The remark of an answer. Empty where it has none.
    pub(super) fn remark(&self, answer: &Inbound) -> String {
        let mut told = Vec::new();
        if let Some(body) = answer.json::<Value>() {
            self.search(&body, MAX_DEPTH, &mut told);
        }
        bounded(&told.join(" "), MAX_REMARK)
    }

    fn search(&self, body: &Value, depth: usize, told: &mut Vec<String>) {
        match body {
            _ if depth == 0 || told.len() >= TOLD.len() => {}
            Value::Array(list) => list.iter().for_each(|item| self.search(item, depth - 1, told)),
            Value::Object(members) => {
                let is_described = members.values().any(Value::is_string);
                for (name, value) in members {
                    let known = TOLD.iter().find(|(known, _)| known == name);
                    match (known, value) {
                        (Some((name, Told::Text)), Value::Number(code))
                            if is_described && self.is_unknown(&code.to_string()) =>
                        {
                            told.push(format!("{name}={code}"));
                        }
                        (Some((name, Told::Text)), Value::String(text)) if !text.is_empty() => {
                            told.push(format!("{name}={:?}", self.words(text)));
                        }
                        (Some((name, Told::Name)), Value::String(text)) if self.is_name(text) => {
                            told.push(format!("{name}={text}"));
                        }
                        _ => self.search(value, depth - 1, told),
                    }
                }
            }
            _ => {}
        }
    }

    /// The text with a star for every word that may say who somebody is, or let somebody in.
    fn words(&self, text: &str) -> String {
        // Cut after the search: half of a name would not be found.
        let mut text = bounded(text, 4 * MAX_VALUE);
        for unsaid in &self.0 {
            while let Some(at) = find_ignoring_case(&text, unsaid) {
                text.replace_range(at..at + unsaid.len(), "*");
            }
        }
        let words = text.split(' ').map(|word| if is_harmless(word) { word } else { "*" });
        bounded(&words.collect::<Vec<_>>().join(" "), MAX_VALUE)
    }

    fn is_name(&self, text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.' | b'/');
        let fits = (1..=MAX_VALUE).contains(&text.len()) && text.bytes().all(plain);
        fits && self.is_unknown(text)
    }

    fn is_unknown(&self, text: &str) -> bool {
        self.0.iter().all(|unsaid| find_ignoring_case(text, unsaid).is_none())
    }
}

/// Whether a word says nothing of anybody, whoever it came from: providers quote what they were told, also in earlier calls.
/// Names and credentials have capitals, digits or other signs; a word of small letters has none.
fn is_harmless(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let is_all = |test: fn(&u8) -> bool| word.bytes().all(|byte| test(&byte));
    let is_identifier = word.contains('_') && is_all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let is_short_number = word.len() < HIDDEN_DIGITS && is_all(u8::is_ascii_digit);
    let is_known = || KNOWN_WORDS.contains(&word.to_ascii_lowercase().as_str());
    is_all(u8::is_ascii_lowercase) || is_identifier || is_short_number || is_known()
}

/// What the caller has given with a call.
fn texts<'a>(context: &'a ChallengeContext, code: Option<&'a str>) -> Vec<&'a str> {
    let destination = match &context.destination {
        Destination::Phone(number) => number.expose().strip_prefix('+'),
        Destination::Email(mailbox) => Some(mailbox.expose()),
        Destination::OnFile => None,
    };
    let transaction = context.transaction.as_ref();
    let texts = transaction.map(|it| [it.payee.as_str(), it.reference.as_str()]).into_iter().flatten();
    let client = &context.client;
    let client = [&client.ip_address, &client.user_agent, &client.device_id, &client.lat_long];
    let parameters = context.parameters.values().map(|value| value.expose().as_str());
    // A name is also told by its parts.
    let parameters = parameters.flat_map(|text| text.split_whitespace().chain([text]));
    let ids = [context.account.as_str(), context.challenge.as_str()];
    let all = code.into_iter().chain(destination).chain(texts).chain(parameters).chain(ids);
    let all = all.chain(client.into_iter().map(String::as_str));
    let mut unsaid: Vec<&str> = all.filter(|text| text.len() >= SHORTEST_UNSAID).collect();
    unsaid.sort_by_key(|text| std::cmp::Reverse(text.len()));
    unsaid
}

/// The text in one line of printable characters, and its beginning where it is too long.
fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn find_ignoring_case(text: &str, part: &str) -> Option<usize> {
    let (bytes, part) = (text.as_bytes(), part.as_bytes());
    let at = bytes.windows(part.len().max(1)).position(|window| window.eq_ignore_ascii_case(part))?;
    (text.is_char_boundary(at) && text.is_char_boundary(at + part.len())).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(unsaid: &[&str], body: &str) -> String {
        let answer = Inbound { status: 400, headers: http::HeaderMap::new(), body: body.as_bytes().to_vec() };
        Unsaid(unsaid.to_vec()).remark(&answer)
    }

    #[test]
    fn what_the_provider_says_is_told_without_what_the_request_held() {
        let cases: [(&[&str], &str, &str); 13] = [
            (
                &["424242"],
                r#"{"errorResponseCode":"INVALID_IDENTIFIER","errorDescription":"No such id, it is gone.","paymentIntegratorErrorIdentifier":"e-1481899949606"}"#,
                r#"errorDescription="No such id, it is gone." errorResponseCode="INVALID_IDENTIFIER" paymentIntegratorErrorIdentifier=e-1481899949606"#,
            ),
            (
                &[],
                r#"{"errorcode":"07","errormsg":"pan 4111111111111111 of Marie-Claire DUPONT is bad"}"#,
                r#"errorcode="07" errormsg="pan * of * * is bad""#,
            ),
            (&["ab1"], r#"{"message":"code AB1 for jane@example.com"}"#, r#"message="code * for *""#),
            (&["4242"], r#"{"instance":"x-4242"}"#, ""),
            (
                &[],
                r#"{"error":{"code":132001,"message":"Template name does not exist"}}"#,
                r#"code=132001 message="Template name does not exist""#,
            ),
            (&["132001"], r#"{"error":{"code":132001,"message":"no"}}"#, r#"message="no""#),
            (&[], r#"{"code":424242}"#, ""),
            (&["jane doe"], r#"{"detail":"jane doe has no 5 or 123456"}"#, r#"detail="* has no 5 or *""#),
            (&[], r#"{"title":"mail.acme.example: no KEY-1f2e."}"#, r#"title="* no *""#),
            (&[], "key and text", ""),
            (&[], "<html>4242</html>", ""),
            (&[], r#"{"body":"your code is 1"}"#, ""),
            (&[], "", ""),
        ];
        for (unsaid, body, expected) in cases {
            assert_eq!(remark(unsaid, body), expected, "{body}");
        }
    }

    #[test]
    fn a_remark_is_one_bounded_line() {
        assert_eq!(remark(&[], "{\"text\":\"a\\r\\nb\u{85}c\"}"), "text=\"a  b c\"");
        let wordy = format!("{{\"text\":\"{}\"}}", "x ".repeat(1000));
        assert_eq!(remark(&[], &wordy).chars().count(), MAX_VALUE + "text=\"\"".len());
        let long = format!("[{}]", vec![format!("{{\"message\":\"{}\"}}", "y".repeat(200)); 40].join(","));
        assert_eq!(remark(&[], &long).chars().count(), MAX_REMARK);
        let deep = format!("{}{{\"message\":\"x\"}}{}", "[".repeat(50), "]".repeat(50));
        assert_eq!(remark(&[], &deep), "");
        assert_eq!(remark(&["é"], r#"{"text":"é à -"}"#), "text=\"* * -\"");
    }
}
