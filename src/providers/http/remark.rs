//! The provider's own words about a call that did not end well, for the operator's log: its codes, its descriptions, and its name
//! of the call, by which its support finds it. Bounded, and without anything that the request held.

use serde_json::Value;

use super::Inbound;
use crate::{
    domain::{code, destination::Destination},
    ports::provider::{ChallengeContext, Check, Delivery},
    secret::Secret,
};

/// The longest remark, in characters.
const MAX_REMARK: usize = 300;

/// The longest of its values, in characters.
const MAX_VALUE: usize = 120;

/// How deep a body is searched: the errors of the known providers stand two levels deep at most.
const MAX_DEPTH: usize = 4;

/// The shortest text of a request that is searched for inside the words of an answer. Shorter ones stand in any text by chance, and
/// hide whole words alone.
const SHORTEST_UNSAID: usize = 3;

/// As many digits may be a code, or a part of a number, however they are grouped, and are not shown.
const HIDDEN_DIGITS: usize = 4;

/// The longest country code, in digits (ITU-T E.164, 6.1).
const COUNTRY_CODE: usize = 3;

/// What errors are written with beside words of small letters.
const KNOWN_WORDS: &str = "\
    aadhaar access account amount api authentication authorization bad card code credentials cvd cvv \
    domain duplicate email empty error expired failed failure field forbidden http id internal invalid \
    ip json key limit message missing mobile no not number otp pan parameter permission phone pin rate \
    recipient request required sender server service sms success template the throttled token too \
    transaction unauthorized unknown user value";

/// The fields in which the known providers and RFC 9457 name an error, describe it, or name the call.
const TOLD: [(&str, Told); 24] = [
    ("errorResponseCode", Told::Code),
    ("errorcode", Told::Code),
    ("error_code", Told::Code),
    ("statusCode", Told::Code),
    ("messageId", Told::Code),
    ("pinError", Told::Code),
    ("__type", Told::Code),
    ("code", Told::Code),
    ("status", Told::Code),
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
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The provider's code of an error.
    Code,
    /// The same as a number.
    Number,
    /// Words.
    Text,
    /// The provider's name of the call: letters and digits, of which none may be hidden.
    Name,
}

/// A field that is told, and its text.
type Field = (&'static str, Told, String);

/// What the caller has given with a call, the longest first: a part of another text must not leave the rest of it behind.
pub(super) struct Unsaid(Vec<Secret<String>>);

impl Unsaid {
    pub(super) fn of_delivery(delivery: &Delivery) -> Self {
        let code = delivery.message.as_ref().map(|message| message.code.expose().as_str());
        Self::of(texts(&delivery.context, code))
    }

    pub(super) fn of_check(check: &Check) -> Self {
        Self::of(texts(&check.context, Some(check.otp.expose())))
    }

    fn of(texts: Vec<String>) -> Self {
        let mut unsaid: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).map(Secret::new).collect();
        unsaid.sort_by_key(|text| std::cmp::Reverse(text.expose().len()));
        Self(unsaid)
    }

    /// The remark of an answer. Empty where it has none.
    pub(super) fn remark(&self, answer: &Inbound) -> String {
        let mut fields = Vec::new();
        if let Some(body) = answer.json::<Value>() {
            self.search(&body, MAX_DEPTH, &mut fields);
        }
        // Over all descriptions together: a code may be spread over several.
        let described = fields.iter().filter(|(_, told, _)| *told == Told::Text);
        let hides_digits = described.map(|(_, _, text)| digits(text).len()).sum::<usize>() >= HIDDEN_DIGITS;
        let told = fields.iter().map(|(name, told, text)| match told {
            Told::Text => format!("{name}={:?}", self.words(text, hides_digits)),
            Told::Code => format!("{name}={:?}", self.words(text, digits(text).len() >= HIDDEN_DIGITS)),
            Told::Number | Told::Name => format!("{name}={text}"),
        });
        bounded(&told.collect::<Vec<_>>().join(" "), MAX_REMARK)
    }

    fn search(&self, body: &Value, depth: usize, fields: &mut Vec<Field>) {
        match body {
            _ if depth == 0 || fields.len() >= TOLD.len() => {}
            Value::Array(list) => list.iter().for_each(|item| self.search(item, depth - 1, fields)),
            Value::Object(members) => {
                let is_described = members.values().any(Value::is_string);
                for (name, value) in members {
                    let known = TOLD.iter().find(|(known, _)| known == name);
                    match (known, value) {
                        (Some((name, Told::Code)), Value::Number(code))
                            if is_described && self.is_unknown(&code.to_string()) =>
                        {
                            fields.push((name, Told::Number, code.to_string()));
                        }
                        (Some((name, told @ (Told::Code | Told::Text))), Value::String(text)) if !text.is_empty() => {
                            fields.push((name, *told, text.clone()));
                        }
                        (Some((name, Told::Name)), Value::String(text)) if self.is_name(text) => {
                            fields.push((name, Told::Name, text.clone()));
                        }
                        _ => self.search(value, depth - 1, fields),
                    }
                }
            }
            _ => {}
        }
    }

    /// The text with a star for every word that may say who somebody is, or let somebody in.
    fn words(&self, text: &str, hides_digits: bool) -> String {
        // Cut after the search: half of a name would not be found.
        let mut text = bounded(text, 4 * MAX_VALUE);
        for unsaid in self.searched() {
            while let Some(at) = find_ignoring_case(&text, unsaid) {
                text.replace_range(at..at + unsaid.len(), "*");
            }
        }
        let hides = |word: &str| {
            let word = bare(word);
            let is_short_unsaid = self.0.iter().any(|unsaid| unsaid.expose().eq_ignore_ascii_case(word));
            is_short_unsaid || (hides_digits && word.chars().any(char::is_numeric))
        };
        let words = text.split(' ').map(|word| if is_harmless(word) && !hides(word) { word } else { "*" });
        bounded(&words.collect::<Vec<_>>().join(" "), MAX_VALUE)
    }

    fn is_name(&self, text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.' | b'/');
        let fits = (1..=MAX_VALUE).contains(&text.len()) && text.bytes().all(plain);
        fits && self.is_unknown(text)
    }

    /// Whether a text holds nothing of what the caller gave, digits in groups included.
    fn is_unknown(&self, text: &str) -> bool {
        let (digits_alone, long) = (digits(text), |unsaid: &&str| unsaid.len() >= HIDDEN_DIGITS);
        let numbers = || self.searched().filter(long).filter(|unsaid| unsaid.bytes().all(|byte| byte.is_ascii_digit()));
        self.searched().all(|unsaid| find_ignoring_case(text, unsaid).is_none())
            && numbers().all(|number| !digits_alone.contains(number))
    }

    /// What is searched for inside of words.
    fn searched(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|unsaid| unsaid.expose().as_str()).filter(|unsaid| unsaid.len() >= SHORTEST_UNSAID)
    }
}

/// The digits of a text, without what stands between them.
fn digits(text: &str) -> String {
    text.chars().filter(|c| c.is_numeric()).collect()
}

/// A word without the signs around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// Whether a word says nothing of anybody, whoever it came from: providers quote what they were told, also in earlier calls.
/// Names and credentials have capitals, digits or other signs; a word of small letters has none.
fn is_harmless(word: &str) -> bool {
    let word = bare(word);
    let is_all = |test: fn(&u8) -> bool| word.bytes().all(|byte| test(&byte));
    let is_identifier = word.contains('_') && is_all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let is_short_number = word.len() < HIDDEN_DIGITS && is_all(u8::is_ascii_digit);
    let is_known = || KNOWN_WORDS.split(' ').any(|known| known.eq_ignore_ascii_case(word));
    is_all(u8::is_ascii_lowercase) || is_identifier || is_short_number || is_known()
}

/// What the caller has given with a call, whole and in the parts that a provider may quote alone.
fn texts(context: &ChallengeContext, code: Option<&str>) -> Vec<String> {
    let mut texts: Vec<&str> = code.into_iter().collect();
    match &context.destination {
        Destination::Phone(number) => {
            let number = number.expose().trim_start_matches('+');
            // The national digits: the number without a country code of each length.
            texts.extend((0..=COUNTRY_CODE).filter_map(|length| number.get(length..)));
        }
        Destination::Email(mailbox) => {
            let (local, domain) = mailbox.expose().rsplit_once('@').unwrap_or((mailbox.expose(), ""));
            texts.extend([mailbox.expose(), local, domain]);
            texts.extend(local.split(|c: char| !c.is_alphanumeric()));
        }
        Destination::OnFile => {}
    }
    texts.extend(context.transaction.iter().flat_map(|it| [it.payee.as_str(), it.reference.as_str()]));
    let client = &context.client;
    texts.extend([&client.ip_address, &client.user_agent, &client.device_id, &client.lat_long].map(String::as_str));
    texts.extend([context.account.as_str(), context.challenge.as_str()]);
    for value in context.parameters.values() {
        // A name is also told by its parts.
        texts.extend(value.expose().split_whitespace().chain([value.expose().as_str()]));
    }
    let spelled = code.map(code::spelled);
    texts.into_iter().map(str::to_owned).chain(spelled).collect()
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
    use crate::{
        domain::{
            destination::{Channel, Mailbox, PhoneNumber},
            ids::{AccountId, RequestId, Tenant},
            purpose::Purpose,
            time::Timestamp,
        },
        ports::provider::{ClientContext, Parameters},
    };

    fn remark(unsaid: &[&str], body: &str) -> String {
        let answer = Inbound { status: 400, headers: http::HeaderMap::new(), body: body.as_bytes().to_vec() };
        Unsaid::of(unsaid.iter().map(|text| (*text).to_owned()).collect()).remark(&answer)
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
            (&["jane doe"], r#"{"detail":"jane doe has no 5 or 123456"}"#, r#"detail="* has no * or *""#),
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

    fn words(channel: &str, destination: Destination, body: &str) -> String {
        let context = ChallengeContext {
            now: Timestamp::from_millis(0),
            tenant: Tenant::parse("acme").unwrap(),
            challenge: RequestId::parse("C1").unwrap(),
            account: AccountId::parse("a1").unwrap(),
            purpose: Purpose::Login,
            transaction: None,
            option: None,
            channel: Channel::ALL.into_iter().find(|known| known.name() == channel).unwrap(),
            destination,
            locale: String::new(),
            parameters: Parameters::new(),
            client: ClientContext::default(),
        };
        let answer = Inbound { status: 400, headers: http::HeaderMap::new(), body: body.as_bytes().to_vec() };
        Unsaid::of(texts(&context, Some("7043"))).remark(&answer)
    }

    #[test]
    fn digits_in_groups_and_parts_of_a_destination_are_hidden() {
        let number = || Destination::Phone(PhoneNumber::parse("+33612345678").unwrap());
        for (body, expected) in [
            (r#"{"message":"code 7, 0, 4, 3 is bad"}"#, "message=\"code * is bad\""),
            (r#"{"message":"code 12 34 56 is bad"}"#, "message=\"code * * * is bad\""),
            (r#"{"message":"no 123 456, see 7"}"#, "message=\"no * * see *\""),
            (r#"{"message":"to +33 6 12 34 56 78 not"}"#, "message=\"to * * * * * * not\""),
            (r#"{"message":"at 70","detail":"and 43"}"#, "detail=\"and *\" message=\"at *\""),
            (r#"{"code":131000,"message":"no 5 of 12"}"#, "code=131000 message=\"no 5 of 12\""),
            (r#"{"errorcode":"1234","code":"12","message":"no"}"#, "code=\"12\" errorcode=\"*\" message=\"no\""),
            (r#"{"instance":"/to/0612345678"}"#, ""),
            (r#"{"instance":"/to/06-12-34-56-78"}"#, ""),
            (r#"{"instance":"/codes/70-43"}"#, ""),
            (r#"{"instance":"/calls/e-55"}"#, "instance=/calls/e-55"),
            (r#"{"code":612345678,"message":"no"}"#, "message=\"no\""),
        ] {
            assert_eq!(words("sms", number(), body), expected, "{body}");
        }
        for (mailbox, body, expected) in [
            ("jane@example.org", r#"{"message":"mailbox jane unknown"}"#, "message=\"mailbox * unknown\""),
            (
                "jo@example.org",
                r#"{"message":"mailbox jo unknown at example.org"}"#,
                "message=\"mailbox * unknown at *\"",
            ),
            ("jane.doe@example.org", r#"{"message":"no doe here"}"#, "message=\"no * here\""),
        ] {
            let mailbox = Destination::Email(Mailbox::parse(mailbox).unwrap());
            assert_eq!(words("email", mailbox, body), expected, "{body}");
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
