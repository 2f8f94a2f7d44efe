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
        ("path = \"/{{cod}}\"", "path: names what there is not; there are: code, text, to,"),
        ("path = \"/{{parameters.}}\"", "path: names what there is not"),
        ("path = \"/{{code\"", "path: has a {{ without its }}"),
        ("path = \"/\"\njson = '{'", "json: must be JSON: EOF while parsing"),
        ("path = \"/\"\njson = '{\"{{code}}\": 1}'", "json: has a {{ in the name of a member"),
        ("path = \"/\"\njson = '[[\"{{x}}\"]]'", "json: names what there is not"),
        ("path = \"/\"\njson = '{}'\nform = { a = \"b\" }", "json: goes without form"),
        ("path = \"/\"\nmethod = \"GET\"\njson = '{}'", "method: GET goes without json and form"),
        ("path = \"/\"\nmethod = \"TRACE\"", "method: must be POST or PUT or PATCH or GET"),
        ("path = \"/{{to_digits}}\"\nchannels = [\"sms\", \"email\"]", "channels: email goes without {{to_digits}}"),
        ("path = \"/\"\nuser = \"a\"", "password: goes with user"),
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
        adapter.rules.judge(&answer)
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
        adapter.rules.judge(&answer)
    };
    assert_eq!(judged(200, "{\"code\": 17}"), Delivered::Failed(Failure::Unavailable { retry_after: None }));
    assert_eq!(judged(200, "{\"code\": 18}"), accepted(""));
    assert_eq!(judged(502, ""), Delivered::Failed(Failure::Unavailable { retry_after: None }));
}

#[test]
fn paths_that_climb_are_seen() {
    for (path, expected) in
        [("/a/..", true), ("/./a", true), ("/a..b/c", false), ("/a?b=..", false), ("/a?/../", false)]
    {
        assert_eq!(climbs(path), expected, "{path}");
    }
}
