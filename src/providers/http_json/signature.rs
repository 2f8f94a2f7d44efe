//! Signs requests with a shared key: HMAC-SHA-256 (RFC 2104) over what the provider's documentation says, in headers.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::Uri;
use sha2::{Digest, Sha256};

use super::{
    template::{Placeholder, Template},
    variables::named,
};
use crate::{
    domain::time::Timestamp,
    ports::entropy::{Entropy, SystemEntropy},
    providers::{
        adapter::settings,
        http::{Authorised, Authority, Denied, Outbound, Outside},
    },
    secret::Secret,
    settings::{Section, values},
};

/// How requests are signed.
#[derive(Clone)]
pub(super) struct Signature {
    key: Secret<Vec<u8>>,
    payload: Template<Part>,
    encoding: Encoding,
    headers: Vec<(String, Template<Part>)>,
}

/// What the payload and the headers of a signature are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Signature,
    Method,
    Host,
    Path,
    ContentType,
    Body,
    BodyBase64,
    BodyHex,
    Seconds,
    Millis,
    Date,
    Nonce,
}

const PARTS: &[(&str, Part)] = &[
    ("signature", Part::Signature),
    ("method", Part::Method),
    ("host", Part::Host),
    ("path", Part::Path),
    ("content_type", Part::ContentType),
    ("body", Part::Body),
    ("body_sha256_base64", Part::BodyBase64),
    ("body_sha256_hex", Part::BodyHex),
    ("timestamp", Part::Seconds),
    ("timestamp_ms", Part::Millis),
    ("date", Part::Date),
    ("nonce", Part::Nonce),
];

impl Placeholder for Part {
    fn parse(name: &str) -> Result<Self, String> {
        named(PARTS, name)
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Text,
    Hex,
    Base64,
}

impl Encoding {
    fn write(self, bytes: &[u8]) -> String {
        match self {
            Self::Base64 => STANDARD.encode(bytes),
            Self::Hex | Self::Text => {
                bytes.iter().fold(String::with_capacity(2 * bytes.len()), |text, byte| text + &format!("{byte:02x}"))
            }
        }
    }

    fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Hex => {
                let digits: Option<Vec<u8>> =
                    text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
                let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
                rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
            }
        }
    }
}

impl Signature {
    /// Reads `[providers.NAME.hmac]`; `None` where there is none, or it is wrong.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        section.section("hmac", |section| {
            if section.is_empty() {
                return None;
            }
            let encodings = [("text", Encoding::Text), ("hex", Encoding::Hex), ("base64", Encoding::Base64)];
            let [_, hex, base64] = encodings;
            let key = settings::secret(section, "key", "the key that is shared with the provider");
            let key_encoding = section.text("key_encoding", values::word(&encodings)).unwrap_or(Encoding::Text);
            let bytes = key.as_ref().and_then(|key| key_encoding.read(key.expose())).map(Secret::new);
            if key.is_some() && bytes.is_none() {
                section.cross_field_error("key", "must be encoded as key_encoding says");
            }
            let payload = section.text("payload", payload).or_else(|| payload("{{body}}").ok());
            let encoding = section.text("encoding", values::word(&[hex, base64])).unwrap_or(Encoding::Hex);
            let headers = section.section("headers", |section| super::templates(section, super::header));
            if !headers.iter().any(|(_, header)| header.variables().any(|part| part == Part::Signature)) {
                section.cross_field_error("headers", "must hold {{signature}} in one of them");
            }
            Some(Self { key: bytes?, payload: payload?, encoding, headers })
        })
    }

    fn sign(&self, request: &Outbound, now: Timestamp, nonce: &str) -> Option<Outbound> {
        let parts = Parts::of(request, now, nonce)?;
        let payload = self.payload.fill_with(|part| parts.get(part, ""));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).ok()?;
        mac.update(payload.expose().as_bytes());
        let signature = self.encoding.write(&mac.finalize().into_bytes());
        let headers = self.headers.iter();
        Some(headers.fold(request.clone(), |request, (name, header)| {
            request.header(name, header.fill_with(|part| parts.get(part, &signature)).expose())
        }))
    }
}

fn payload(text: &str) -> Result<Template<Part>, String> {
    let template = Template::parse(text)?;
    let signs_itself = template.variables().any(|part| part == Part::Signature);
    if signs_itself { Err("must be without {{signature}}".to_owned()) } else { Ok(template) }
}

/// A request in parts.
struct Parts<'a> {
    request: &'a Outbound,
    uri: Uri,
    now: Timestamp,
    nonce: &'a str,
}

impl<'a> Parts<'a> {
    fn of(request: &'a Outbound, now: Timestamp, nonce: &'a str) -> Option<Self> {
        Some(Self { request, uri: request.url().expose().parse().ok()?, now, nonce })
    }

    fn get(&self, part: Part, signature: &str) -> String {
        let body = || self.request.content().expose().as_slice();
        match part {
            Part::Signature => signature.to_owned(),
            Part::Method => self.request.method().to_string(),
            Part::Host => self.host(),
            Part::Path => self.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            Part::ContentType => self.content_type(),
            Part::Body => String::from_utf8_lossy(body()).into_owned(),
            Part::BodyBase64 => Encoding::Base64.write(&Sha256::digest(body())),
            Part::BodyHex => Encoding::Hex.write(&Sha256::digest(body())),
            Part::Seconds => (self.now.as_millis() / 1000).to_string(),
            Part::Millis => self.now.as_millis().to_string(),
            Part::Date => httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(self.now.as_millis())),
            Part::Nonce => self.nonce.to_owned(),
        }
    }

    /// As the `Host` header has it: without the port of the scheme (RFC 9110, 7.2).
    fn host(&self) -> String {
        let host = self.uri.host().unwrap_or_default();
        let usual = if self.uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = self.uri.port_u16().filter(|port| *port != usual);
        port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    fn content_type(&self) -> String {
        let found = self.request.headers().iter().find(|(name, _)| name == "content-type");
        found.map(|(_, value)| value.expose().clone()).unwrap_or_default()
    }
}

#[async_trait]
impl Authority for Signature {
    async fn authorise(&self, request: &Outbound, outside: &Outside<'_>) -> Result<Authorised, Denied> {
        let mut nonce = [0; 16];
        SystemEntropy.fill(&mut nonce).map_err(|_| Denied::Unavailable("no random bytes"))?;
        let signed = self.sign(request, outside.now(), &Encoding::Hex.write(&nonce));
        Ok(Authorised { request: signed.ok_or(Denied::Refused("the request cannot be signed"))?, credentials: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::adapter_of;

    /// 2016-12-11T00:00:00.123Z.
    const NOW: Timestamp = Timestamp::from_millis(1_481_414_400_123);

    fn signature(settings: &str) -> Signature {
        adapter_of(&format!("[hmac]\n{settings}"), Signature::read).unwrap()
    }

    fn headers(signature: &Signature, request: &Outbound) -> Vec<(String, String)> {
        let signed = signature.sign(request, NOW, "0f").unwrap();
        let added = signed.headers().iter().skip(request.headers().len());
        added.map(|(name, value)| (name.clone(), value.expose().clone())).collect()
    }

    /// RFC 4231, 4.2 and 4.3.
    #[test]
    fn known_signatures_are_made() {
        let request = |body: &str| Outbound::post("https://a".to_owned()).body("text/plain", body.as_bytes().to_vec());
        for (key, body, expected) in [
            (
                "key = \"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\"\nkey_encoding = \"hex\"",
                "Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                "key = \"Jefe\"",
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                "key = \"SmVmZQ==\"\nkey_encoding = \"base64\"\nencoding = \"base64\"",
                "what do ya want for nothing?",
                "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=",
            ),
        ] {
            let signature = signature(&format!("{key}\n[hmac.headers]\nx-s = \"v1={{{{signature}}}}\""));
            assert_eq!(headers(&signature, &request(body)), [("x-s".to_owned(), format!("v1={expected}"))], "{key}");
        }
    }

    #[test]
    fn every_part_of_a_request_can_be_signed_and_sent() {
        let parts =
            "{{method}} {{host}} {{path}} {{content_type}} {{body}} {{timestamp}} {{timestamp_ms}} {{date}} {{nonce}}";
        let settings = format!("key = \"k\"\n[hmac.headers]\nx-s = \"{{{{signature}}}}\"\nx-p = \"{parts}\"");
        let request = Outbound::post("https://a.example:8443/b?c=d".to_owned()).body("text/plain", b"hi".to_vec());
        let (_, sent) = headers(&signature(&settings), &request).remove(0);
        let expected =
            "POST a.example:8443 /b?c=d text/plain hi 1481414400 1481414400123 Sun, 11 Dec 2016 00:00:00 GMT 0f";
        assert_eq!(sent, expected);
        // The same as a payload: what is signed is what is sent.
        let over_parts = signature(&format!("payload = \"{parts}\"\n{settings}"));
        let over_body = signature("key = \"k\"\n[hmac.headers]\nx-s = \"{{signature}}\"");
        let as_body = Outbound::post("https://a".to_owned()).body("text/plain", expected.as_bytes().to_vec());
        assert_eq!(headers(&over_parts, &request).last(), headers(&over_body, &as_body).last());
    }

    #[test]
    fn the_usual_port_is_no_part_of_the_host() {
        for (url, expected) in [
            ("https://a.example:443/", "a.example"),
            ("https://a.example:80/", "a.example:80"),
            ("http://a.example:80", "a.example"),
            ("http://127.0.0.1:8080/x", "127.0.0.1:8080"),
        ] {
            let request = Outbound::get(url.to_owned());
            assert_eq!(Parts::of(&request, NOW, "").unwrap().get(Part::Host, ""), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (settings, expected) in [
            ("encoding = \"hex\"\n[hmac.headers]\nx = \"{{signature}}\"", "hmac.key: required"),
            ("key = \"k\"", "hmac.headers: must hold {{signature}}"),
            ("key = \"k\"\n[hmac.headers]\nx = \"{{nonce}}\"", "hmac.headers: must hold {{signature}}"),
            ("key = \"k\"\n[hmac.headers]\nx = \"{{signature}}{{code}}\"", "hmac.headers.x: names what there is not"),
            ("key = \"k\"\n[hmac.headers]\nhost = \"{{signature}}\"", "hmac.headers.host: is no header"),
            (
                "key = \"0g\"\nkey_encoding = \"hex\"\n[hmac.headers]\nx = \"{{signature}}\"",
                "hmac.key: must be encoded",
            ),
            ("key = \"0\"\nkey_encoding = \"hex\"\n[hmac.headers]\nx = \"{{signature}}\"", "hmac.key: must be encoded"),
            (
                "key = \"k\"\npayload = \"{{signature}}\"\n[hmac.headers]\nx = \"{{signature}}\"",
                "hmac.payload: must be",
            ),
            (
                "key = \"k\"\nencoding = \"text\"\n[hmac.headers]\nx = \"{{signature}}\"",
                "hmac.encoding: must be hex or",
            ),
        ] {
            let wrong = adapter_of(&format!("[hmac]\n{settings}"), Signature::read).map(drop).unwrap_err().to_string();
            assert!(wrong.starts_with(expected), "{settings}: {wrong}");
        }
    }
}
