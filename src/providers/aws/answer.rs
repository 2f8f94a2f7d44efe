//! The fields of answers. Services with the query protocol (SNS, STS) answer in XML, and in JSON where it is asked for; SES answers
//! in JSON.

use serde_json::Value;

use crate::providers::http::Inbound;

/// The value of a field, wherever it stands in the answer.
pub(in crate::providers) fn field(answer: &Inbound, name: &str) -> Option<String> {
    let found = match answer.json() {
        Some(json) => member(&json, name),
        None => element(&answer.text(), name),
    };
    found.filter(|text| !text.is_empty())
}

/// The first member of this name, at any depth. The parser bounds the depth.
fn member(json: &Value, name: &str) -> Option<String> {
    match json {
        Value::Object(members) => match members.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => members.values().find_map(|value| member(value, name)),
        },
        Value::Array(items) => items.iter().find_map(|item| member(item, name)),
        _ => None,
    }
}

/// The text of the first element of this name. The answers of AWS have no attributes on elements that hold text.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = after.split_once(&format!("</{name}>"))?;
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(entities.iter().fold(text.trim().to_owned(), |text, (entity, character)| text.replace(entity, character)))
}

/// An error that a service reports: its name without the words around it, and its text in lower case.
pub(in crate::providers) struct Fault {
    pub(in crate::providers) name: String,
    pub(in crate::providers) text: String,
}

impl Fault {
    /// The error of an answer; empty where it has none. The name stands in a header, in `__type` or in `Code` (Smithy, "AWS
    /// restJson1" and "awsQuery").
    pub(in crate::providers) fn of(answer: &Inbound) -> Self {
        let header = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let name = header.or_else(|| ["__type", "Code", "code"].iter().find_map(|name| field(answer, name)));
        let name = name.unwrap_or_default();
        // `aws.protocoltests#FooError:http://…` is FooError.
        let name = name.split(':').next().unwrap_or_default();
        let name = name.rsplit('#').next().unwrap_or_default().trim();
        let text = ["message", "Message"].iter().find_map(|name| field(answer, name)).unwrap_or_default();
        Self { name: name.trim_end_matches("Exception").to_owned(), text: text.to_ascii_lowercase() }
    }

    /// Whether the credentials are not known or have ended (docs.aws.amazon.com, "Common errors").
    pub(in crate::providers) fn is_about_credentials(&self) -> bool {
        const NAMES: [&str; 8] = [
            "ExpiredToken",
            "IncompleteSignature",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "InvalidSignature",
            "MissingAuthenticationToken",
            "SignatureDoesNotMatch",
            "UnrecognizedClient",
        ];
        NAMES.contains(&self.name.as_str())
    }

    /// Whether the time of the request is not that of the service.
    pub(in crate::providers) fn is_about_time(&self) -> bool {
        self.name == "RequestExpired" || (self.is_about_credentials() && self.text.contains("signature expired"))
    }

    /// Whether there are too many requests.
    pub(in crate::providers) fn is_throttling(&self) -> bool {
        const NAMES: [&str; 7] = [
            "LimitExceeded",
            "RequestLimitExceeded",
            "RequestThrottled",
            "Throttled",
            "Throttling",
            "TooManyRequests",
            "KMSThrottling",
        ];
        NAMES.contains(&self.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answered(body: &str) -> Inbound {
        Inbound { status: 400, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn fields_are_found_in_xml_and_json() {
        for body in [
            "<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><A>a</A>\n<MessageId> a&amp;b </MessageId></R>",
            "{\"R\":{\"A\":[1,{\"MessageId\":\"a&b\"}]}}",
        ] {
            assert_eq!(field(&answered(body), "MessageId"), Some("a&b".to_owned()), "{body}");
        }
        for body in ["", "<MessageId>", "<MessageId></MessageId>", "{\"MessageId\":\"\"}", "{\"MessageId\":{}}"] {
            assert_eq!(field(&answered(body), "MessageId"), None, "{body}");
        }
    }

    #[test]
    fn errors_have_a_name_and_a_text() {
        for (body, expected) in [
            (
                "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidParameter</Code><Message>M</Message></Error></ErrorResponse>",
                "InvalidParameter",
            ),
            ("{\"Error\":{\"Code\":\"InvalidParameter\",\"Message\":\"M\"}}", "InvalidParameter"),
            ("{\"__type\":\"com.amazonaws.ses#BadRequestException:http://x\",\"message\":\"M\"}", "BadRequest"),
        ] {
            let fault = Fault::of(&answered(body));
            assert_eq!((fault.name.as_str(), fault.text.as_str()), (expected, "m"), "{body}");
        }
        let mut answer = answered("{\"message\":\"M\"}");
        answer.headers.insert("x-amzn-errortype", "TooManyRequestsException:http://x/".parse().unwrap());
        assert!(Fault::of(&answer).is_throttling());
        assert_eq!(Fault::of(&answered("<html>")).name, "");
    }
}
