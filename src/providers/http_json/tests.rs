//! Tests of `http_json`: what a configuration may say. What is sent and how answers are judged is in the fixtures.

use http::HeaderMap;

use super::*;
use crate::{
    ports::provider::Failure,
    providers::{
        adapter::{answer::accepted, settings::adapter_of},
        http::Inbound,
    },
};

fn configured(settings: &str) -> Result<HttpJson, String> {
    let base = "base_url = \"https://sms.example.com\"\n";
    adapter_of(&format!("{base}{settings}"), read).map_err(|errors| errors.to_string())
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (settings, expected) in [
        ("", "path: required: the path below base_url, such as /messages"),
        ("path = \"send\"", "path: must begin with a slash"),
        ("path = \"/a/../b\"", "path: must begin with a slash"),
        ("path = \"/a b\"", "path: must begin with a slash"),
        ("path = \"/{{cod}}\"", "path: names what there is not; there are: code, code_spelled, text, to,"),
        ("path = \"/{{parameters.}}\"", "path: names what there is not"),
        ("path = \"/{{code\"", "path: has a {{ without its }}"),
        ("path = \"/\"\njson = '{'", "json: must be JSON: EOF while parsing"),
        ("path = \"/\"\njson = '{\"{{code}}\": 1}'", "json: has a {{ in the name of a member"),
        ("path = \"/\"\njson = '[[\"{{x}}\"]]'", "json: names what there is not"),
        ("path = \"/\"\njson = '{}'\nform = { a = \"b\" }", "json: goes without form"),
        ("path = \"/\"\nmethod = \"GET\"\njson = '{}'", "method: GET goes without json and form"),
        ("path = \"/\"\nmethod = \"TRACE\"", "method: must be POST or PUT or PATCH or GET"),
        ("path = \"/{{to_digits}}\"\nchannels = [\"sms\", \"email\"]", "channels: email goes without {{to_digits}}"),
        ("path = \"/{{minutes:number}}\"", "path: has a placeholder with a type"),
        ("path = \"/\"\njson = '[\"{{minutes:list}}\"]'", "json: has a placeholder of a type that there is not"),
        ("path = \"/\"\njson = '[\"a {{minutes:number}}\"]'", "json: has a placeholder with a type"),
        ("path = \"/\"\njson = '[\"{{code:number}}\"]'", "json: has a number of what is a text"),
        ("path = \"/\"\nerror_texts = { \"ERR\" = \"failed\" }", "success_text: required"),
        ("path = \"/\"\nsuccess_text = [\" \"]", "success_text: item 1: must be a text"),
        ("path = \"/\"\nuser = \"a\"", "password: goes with user"),
        ("path = \"/\"\nidempotent = true", "idempotent: goes with {{idempotency_key}}"),
        (
            "path = \"/\"\nheaders = { accept-encoding = \"gzip\" }",
            "headers.accept-encoding: is no header that can be set",
        ),
        ("path = \"/\"\nuser = \"a:b\"\npassword = \"c\"", "user: must be without a colon"),
        ("path = \"/\"\nsuccess_pointer = \"a\"\nsuccess_values = [\"b\"]", "success_pointer: must be a JSON pointer"),
        ("path = \"/\"\nheaders = { \"content-type\" = \"x\" }", "headers.content-type: is no header that can be set"),
        ("path = \"/\"\nheaders = { \"a b\" = \"x\" }", "headers.a b: is no header that can be set"),
        ("path = \"/\"\nheaders = { a = \"x\\r\\ny: z\" }", "headers.a: must be printable ASCII"),
        ("path = \"/\"\nsuccess_status = [\"199\"]", "success_status: item 1: must be a status or a range"),
        ("path = \"/\"\nsuccess_pointer = \"/a\"", "success_values: goes with success_pointer"),
        ("path = \"/\"\nreference_pointer = \"id\"", "reference_pointer: must be a JSON pointer"),
        ("path = \"/\"\nerrors = { \"400 x\" = \"failed\" }", "error_pointer: required"),
        ("path = \"/\"\nerrors = { \"*\" = \"failed\" }", "errors.*: the name must be a status or a range"),
        ("path = \"/\"\nerrors = { \"400\" = \"bad\" }", "errors.400: must be rejected or failed or"),
    ] {
        let wrong = configured(settings).err().unwrap_or_default();
        assert!(wrong.starts_with(expected) && !wrong.contains('\n'), "{settings}: {wrong}");
    }
}

#[test]
fn without_a_table_and_a_pointer_the_status_says_it_all() {
    let adapter = configured("path = \"/\"").unwrap();
    let judged = |status| {
        let answer = Inbound { status, headers: HeaderMap::new(), body: Vec::new() };
        adapter.rules.judge(&answer, &[])
    };
    assert_eq!(judged(204), accepted(""));
    assert_eq!(judged(400), Delivered::Failed(Failure::Refused));
    assert_eq!(judged(502), Delivered::Unknown);
}

#[test]
fn a_table_can_call_a_success_or_an_error_of_the_server_failed() {
    let table = "path = \"/\"\nerror_pointer = \"/code\"\nerrors = { \"200 17\" = \"failed\", \"502\" = \"failed\" }";
    let adapter = configured(table).unwrap();
    let judged = |status, body: &str| {
        let answer = Inbound { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() };
        adapter.rules.judge(&answer, &[])
    };
    assert_eq!(judged(200, "{\"code\": 17}"), Delivered::Failed(Failure::Unavailable { retry_after: None }));
    assert_eq!(judged(200, "{\"code\": 18}"), accepted(""));
    assert_eq!(judged(502, ""), Delivered::Failed(Failure::Unavailable { retry_after: None }));
}

#[test]
fn headers_and_fields_may_stand_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "Bearer {{parameters.key}}\n").unwrap();
    let table = format!(
        "path = \"/\"\n[headers]\nauthorization_file = \"{0}\"\n[form]\npassword_file = \"{0}\"\nuser = \"u\"",
        path.display()
    );
    let adapter = configured(&table).unwrap();
    let names: Vec<&str> = adapter.headers.iter().map(|(name, _)| name.as_str()).collect();
    let Body::Form(form) = &adapter.body else { panic!("a form") };
    assert_eq!((names, form.len()), (vec!["authorization"], 2));
    assert_eq!(adapter.headers[0].1.sample().expose(), "Bearer 0");
    // A field that is itself called so.
    let called_so = format!("path = \"/\"\n[form]\nvoice_file_file = \"{}\"", path.display());
    let Body::Form(form) = configured(&called_so).unwrap().body else { panic!("a form") };
    assert_eq!(form.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["voice_file"]);
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (path, json) = (write("path", "/bot123:KEY/send\n"), write("json", "{\"key\": \"s\"}"));
    let adapter = configured(&format!("path_file = \"{path}\"\njson_file = \"{json}\"")).unwrap();
    assert_eq!(adapter.path.sample().expose(), "/bot123:KEY/send");
    assert!(matches!(adapter.body, Body::Json(_)));
    let wrong = configured("path = \"/\"\n[headers]\nauthorization_file = \"/nowhere/else\"").err().unwrap();
    assert!(wrong.starts_with("headers.authorization_file: cannot be read"), "{wrong}");
}

/// An answer with this body.
fn answered(status: u16, body: &[u8]) -> Inbound {
    Inbound { status, headers: HeaderMap::new(), body: body.to_vec() }
}

const FAILED: Delivered = Delivered::Failed(Failure::Unavailable { retry_after: None });
const REFUSED: Delivered = Delivered::Failed(Failure::Refused);

#[test]
fn a_body_that_cannot_be_read_decides_nothing() {
    let table = "path = \"/\"\nerror_pointer = \"/error/code\"\n\
                 errors = { \"* invalid_number\" = \"rejected\", \"200 not_sent\" = \"failed\", \"402\" = \"throttled\" }";
    let adapter = configured(table).unwrap();
    let marked = |text: &str| [b"\xEF\xBB\xBF", text.as_bytes()].concat();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let not_sent = "{\"error\":{\"code\":\"not_sent\"}}";
    let invalid = "{\"error\":{\"code\":\"invalid_number\"}}";
    for (status, body, expected) in [
        (200, not_sent.as_bytes().to_vec(), FAILED),
        (200, marked(not_sent), FAILED),
        (200, wide(not_sent), FAILED),
        (400, marked(invalid), Delivered::Rejected),
        (200, marked("{\"id\":1}"), accepted("")),
        (200, b"[]".to_vec(), accepted("")),
        (200, b"{\"error\":{\"code\":\"x\"},\"error\":{\"code\":\"not_sent\"}}".to_vec(), FAILED),
        (200, b"<html>sign in</html>".to_vec(), Delivered::Unknown),
        (200, b"ERR: 105".to_vec(), Delivered::Unknown),
        (200, b"105".to_vec(), Delivered::Unknown),
        (200, b"\"queued\"".to_vec(), Delivered::Unknown),
        (200, b"{\"error\":".to_vec(), Delivered::Unknown),
        (200, Vec::new(), Delivered::Unknown),
        (204, Vec::new(), accepted("")),
        (400, b"<html>bad request</html>".to_vec(), REFUSED),
        (402, b"<html>pay</html>".to_vec(), FAILED),
        (503, b"busy".to_vec(), FAILED),
        (502, b"<html>bad gateway</html>".to_vec(), Delivered::Unknown),
    ] {
        assert_eq!(adapter.rules.judge(&answered(status, &body), &[]), expected, "{status} {body:?}");
    }
}

#[test]
fn a_page_is_no_success_though_the_status_is_enough() {
    let adapter = configured("path = \"/\"").unwrap();
    for (body, expected) in [
        ("<html>sign in</html>", Delivered::Unknown),
        ("\u{FEFF}\r\n<!DOCTYPE html><p>", Delivered::Unknown),
        ("<ok/>", accepted("")),
        ("OK", accepted("")),
        ("", accepted("")),
    ] {
        assert_eq!(adapter.rules.judge(&answered(200, body.as_bytes()), &[]), expected, "{body}");
    }
}

#[test]
fn plain_texts_are_judged_by_their_words() {
    let table = "path = \"/\"\nsuccess_text = [\"success |\", \"OK\"]\n[error_texts]\n\"ERR: \" = \"refused\"\n\
                 \"ERR: 105\" = \"rejected\"\nbusy = \"throttled\"\n[errors]\n\"402\" = \"failed\"";
    let adapter = configured(table).unwrap();
    for (status, body, expected) in [
        (200, "success | 1 | 2", accepted("")),
        (200, " OK\n", accepted("")),
        (200, "\u{FEFF}OK", accepted("")),
        (200, "ERR: 105 no such number", Delivered::Rejected),
        (200, "ERR: 7", REFUSED),
        (200, "gateway busy", FAILED),
        (200, "FAIL", Delivered::Unknown),
        (200, "<html>OK</html>", Delivered::Unknown),
        (200, "", Delivered::Unknown),
        (402, "ERR: 105", Delivered::Rejected),
        (402, "pay", FAILED),
        (400, "OK", REFUSED),
    ] {
        assert_eq!(adapter.rules.judge(&answered(status, body.as_bytes()), &[]), expected, "{status} {body}");
    }
}

/// Whoever is paid chooses no outcome.
#[test]
fn what_an_answer_repeats_of_the_request_is_no_error() {
    let table = "path = \"/\"\nsuccess_text = [\"OK\"]\nerror_texts = { DND = \"rejected\", \"ERR: 7\" = \"refused\" }";
    let adapter = configured(table).unwrap();
    let texts = ["Pay 5 EUR to DND STORES: 704311", "DND STORES", "DND%20STORES", "DND+STORES", "+14155550100"];
    let sent = texts.map(|text| Secret::new(text.to_owned()));
    for (body, expected) in [
        ("OK sent: Pay 5 EUR to DND STORES: 704311", accepted("")),
        ("OK to dnd stores", accepted("")),
        ("OK to=DND+STORES&b=DND%20STORES", accepted("")),
        ("OK DND STORES: DND", Delivered::Rejected),
        ("OK to DND", Delivered::Rejected),
        ("ERR: 7 for DND STORES", REFUSED),
        // What stands around a text that is left out is not one text.
        ("OK DDND STORESND", accepted("")),
    ] {
        assert_eq!(adapter.rules.judge(&answered(200, body.as_bytes()), &sent), expected, "{body}");
    }
}

#[test]
fn a_conflict_about_a_key_may_be_about_an_earlier_sending() {
    let keyed = "path = \"/\"\nheaders = { idempotency-key = \"{{idempotency_key}}\" }";
    for (table, repeatable, expected) in [
        (keyed.to_owned(), false, Delivered::Unknown),
        (format!("idempotent = true\n{keyed}"), true, Delivered::Unknown),
        (format!("{keyed}\nerrors = {{ \"409\" = \"failed\" }}"), false, FAILED),
        ("path = \"/\"".to_owned(), false, FAILED),
    ] {
        let adapter = configured(&table).unwrap();
        assert_eq!(adapter.capabilities().send_repeatable, repeatable, "{table}");
        assert_eq!(adapter.rules.judge(&answered(409, b""), &[]), expected, "{table}");
    }
}

#[test]
fn what_shows_a_transaction_is_for_transactions_alone() {
    for (variable, expected) in [
        ("amount", vec![Purpose::Transaction]),
        ("currency", vec![Purpose::Transaction]),
        ("payee", vec![Purpose::Transaction]),
        ("text", Purpose::ALL.to_vec()),
    ] {
        let adapter = configured(&format!("path = \"/\"\njson = '{{\"a\": \"{{{{{variable}}}}}\"}}'")).unwrap();
        assert_eq!(adapter.capabilities().purposes, expected, "{variable}");
    }
}

#[test]
fn a_wait_is_handed_on_whatever_the_class() {
    let adapter = configured("path = \"/\"\nerrors = { \"503\" = \"failed\", \"429\" = \"throttled\" }").unwrap();
    for status in [429, 503] {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, http::HeaderValue::from(7))]);
        let answer = Inbound { status, headers, body: Vec::new() };
        let retry_after = Some(std::time::Duration::from_secs(7));
        let expected = Delivered::Failed(Failure::Unavailable { retry_after });
        assert_eq!(adapter.rules.judge(&answer, &[]), expected, "{status}");
    }
}

#[test]
fn paths_that_climb_are_seen() {
    for (path, expected) in
        [("/a/..", true), ("/./a", true), ("/a..b/c", false), ("/a?b=..", false), ("/a?/../", false)]
    {
        assert_eq!(climbs(path), expected, "{path}");
    }
}
