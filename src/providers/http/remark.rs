//! The provider's own words about a call that did not end well, for the operator's log: its codes, its descriptions, and its name
//! of the call, by which its support finds it. Bounded, and without anything that the request held.

use serde_json::Value;

use super::{Inbound, Outbound};
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

/// As many digits in a row may be a code, or a part of a number, and are not shown.
const HIDDEN_DIGITS: usize = 4;

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

/// What the request held, and the log must not.
pub(super) struct Unsaid<'a> {
    /// Texts of the caller's, the longest first: a part of another text must not leave the rest of it behind.
    texts: Vec<&'a str>,
    /// The request as it is sent, with the operator's credentials and names in it.
    request: &'a Outbound,
}

impl<'a> Unsaid<'a> {
    pub(super) fn of_delivery(delivery: &'a Delivery, request: &'a Outbound) -> Self {
        let code = delivery.message.as_ref().map(|message| message.code.expose().as_str());
        Self { texts: texts(&delivery.context, code), request }
    }

    pub(super) fn of_check(check: &'a Check, request: &'a Outbound) -> Self {
        Self { texts: texts(&check.context, Some(check.otp.expose())), request }
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
                for (name, value) in members {
                    let known = TOLD.iter().find(|(known, _)| known == name);
                    match (known, value) {
                        (Some((name, Told::Text)), Value::Number(code)) => told.push(format!("{name}={code}")),
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

    /// Words without what the request held, numbers and mailboxes.
    fn words(&self, text: &str) -> String {
        // Cut after the search: half of a mailbox would not be found.
        let mut text = bounded(text, 4 * MAX_VALUE);
        for unsaid in &self.texts {
            while let Some(at) = find_ignoring_case(&text, unsaid) {
                text.replace_range(at..at + unsaid.len(), "*");
            }
        }
        let hidden = |word: &str| word.contains('@') || self.is_in_request(word);
        let words = text.split(' ').map(|word| if hidden(word) { "*".to_owned() } else { without_numbers(word) });
        bounded(&words.collect::<Vec<_>>().join(" "), MAX_VALUE)
    }

    /// Whether the request holds a word that is more than letters: a credential, a domain, a sender.
    fn is_in_request(&self, word: &str) -> bool {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_name = word.len() > SHORTEST_UNSAID && !word.chars().all(char::is_alphabetic);
        let is_in =
            |bytes: &[u8]| bytes.windows(word.len().max(1)).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
        let Outbound { url, headers, body, .. } = self.request;
        is_name
            && (is_in(url.expose().as_bytes())
                || headers.iter().any(|(_, value)| is_in(value.expose().as_bytes()))
                || is_in(body.expose()))
    }

    fn is_name(&self, text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.' | b'/');
        let fits = (1..=MAX_VALUE).contains(&text.len()) && text.bytes().all(plain);
        fits && self.texts.iter().all(|unsaid| find_ignoring_case(text, unsaid).is_none())
    }
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

/// The word with a star for each row of digits that is long enough to be a code.
fn without_numbers(word: &str) -> String {
    let mut shown = String::new();
    let mut digits = String::new();
    for c in word.chars().map(Some).chain([None]) {
        if let Some(digit) = c.filter(|c| c.is_numeric()) {
            digits.push(digit);
            continue;
        }
        shown.push_str(if digits.chars().count() < HIDDEN_DIGITS { &digits } else { "*" });
        digits.clear();
        shown.extend(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(unsaid: &[&str], body: &str) -> String {
        let answer = Inbound { status: 400, headers: http::HeaderMap::new(), body: body.as_bytes().to_vec() };
        let request = Outbound::post("https://api.example.com/v3/mail.acme.example".to_owned()).header("x", "key-1f2e");
        Unsaid { texts: unsaid.to_vec(), request: &request }.remark(&answer)
    }

    #[test]
    fn what_the_provider_says_is_told_without_what_the_request_held() {
        let cases: [(&[&str], &str, &str); 11] = [
            (
                &["424242"],
                r#"{"errorResponseCode":"INVALID_IDENTIFIER","errorDescription":"no such id","paymentIntegratorErrorIdentifier":"e-1481899949606"}"#,
                r#"errorDescription="no such id" errorResponseCode="INVALID_IDENTIFIER" paymentIntegratorErrorIdentifier=e-1481899949606"#,
            ),
            (
                &[],
                r#"{"errorcode":"07","errormsg":"pan 4111111111111111 is bad"}"#,
                r#"errorcode="07" errormsg="pan * is bad""#,
            ),
            (&["ab1"], r#"{"message":"code AB1 for jane@example.com"}"#, r#"message="code * for *""#),
            (&["4242"], r#"{"instance":"x-4242"}"#, ""),
            (
                &[],
                r#"{"error":{"code":132001,"message":"Template name does not exist"}}"#,
                r#"code=132001 message="Template name does not exist""#,
            ),
            (&["Jane Doe"], r#"{"detail":"jane doe has no 5 or 123456"}"#, r#"detail="* has no 5 or *""#),
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
        assert_eq!(remark(&["é"], r#"{"text":"é à"}"#), "text=\"* à\"");
    }
}
