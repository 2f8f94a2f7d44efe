//! Replies of Envoy itself, which has no replica answer: what they say, in the shapes of otpd's own errors.

use std::net::TcpListener;

use prost::Message;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    caller::{Caller, send},
    envoy::Replicas,
    envoy_server::{CHECKED_OFTEN, Envoy},
    http_client::{HttpAnswer, ask, post},
    json::{CONNECT, SEND_AT, VERIFY_AT, refused},
    raw_http2::message,
    redis_server::Port,
    secrecy::find_none,
    seeds::SEND,
    site::until,
};

const SECRET: &str = "314159265";

/// What cannot be read, and the code that Google is told; otpd's is INVALID_ARGUMENT.
fn unreadable() -> [(&'static str, String, &'static str); 5] {
    let undecodable = "INVALID_DECRYPTED_REQUEST";
    [
        ("half of a message", format!(r#"{{"otp": "{SECRET}"#), undecodable),
        ("no JSON", SECRET.replace('3', "x"), undecodable),
        ("a message of another type", format!(r#"{{"otp": {{"{SECRET}": "{SECRET}"}}}}"#), undecodable),
        ("a large field that nobody knows", format!(r#"{{"x": "{}"}}"#, SECRET.repeat(8_000)), "INVALID_FIELD_VALUE"),
        ("more than a connection keeps", format!(r#"{{"otp": "{}"}}"#, SECRET.repeat(200_000)), "INVALID_FIELD_VALUE"),
    ]
}

#[tokio::test]
async fn replies_of_envoy_itself_have_the_same_shapes_and_quote_nothing() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let (at, path) = (envoy.address(), "/otp.v1.OtpService/VerifyOtp");
    let mut answers = Vec::new();
    for (what, body, code) in unreadable() {
        let answer = post(&at, VERIFY_AT, body.clone()).await;
        assert_eq!(refused(&answer), (400, Some(code.to_owned())), "{what}");
        answers.push(answer);
        for (headers, code) in [(&CONNECT[..1], json!(3)), (CONNECT, json!("invalid_argument"))] {
            let answer = ask(&at, "POST", path, headers, body.clone()).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &code), "{what}");
            answers.push(answer);
        }
    }
    // No such method, in HTTP or of otpd.
    let answer = ask(&at, "GET", SEND_AT, &[], "").await;
    assert_eq!(refused(&answer), (404, None));
    for (method, target) in [
        ("GET", path),
        ("POST", "/otp.v1.OtpService/Nothing"),
        ("POST", "/otp.v1.OtpAdminService/GetAccount"),
        ("POST", "/grpc.health.v1.Health/Check"),
        ("POST", "/"),
        ("DELETE", "/otp.v1.OtpService/GetChallenge?connect=v1&encoding=json&message=%7B%7D"),
        ("DELETE", "/otp.v1.OtpService/GetChallenge?connect=v1&encoding=proto&message="),
        // By following a link, nobody makes a call that changes something.
        ("GET", "/otp.v1.OtpService/SendOtp?connect=v1&encoding=proto&message="),
        ("GET", "/otp.v1.OtpService/SendOtp?connect=v1&encoding=json&message=%7B%7D"),
    ] {
        let answer = ask(&at, method, target, &[], "{}").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!(12)), "{method} {target}");
    }
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let answer = ask(&at, "GET", path, &upgrade, "").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (403, &json!(7)));
    assert_eq!(answer.json()["message"], "this web page, or this kind of connection, is not allowed to call");
    let secrets = [SECRET.to_owned()];
    for answer in &answers {
        find_none("an answer", &answer.body, &secrets);
    }
    find_none("Envoy's access log", envoy.access().as_bytes(), &secrets);
    find_none("Envoy's log", envoy.log().as_bytes(), &secrets);
    assert!(!envoy.log().contains("script log"), "{}", envoy.log());
}

/// What a caller by HTTP/1 is told, who sends these bytes and no more.
async fn told(envoy: &Envoy, bytes: &str) -> String {
    let mut stream = TcpStream::connect(envoy.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    told
}

#[tokio::test]
async fn a_request_by_http_1_0_is_answered_and_one_that_does_not_arrive_is_told_so() {
    let replicas = Replicas::start();
    let edits = [CHECKED_OFTEN, &[("request_timeout: 15s", "request_timeout: 0.3s")]].concat();
    let Some((envoy, _)) = replicas.behind(&edits).await else { return };
    let answer = told(&envoy, &format!("POST {SEND_AT} HTTP/1.0\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    assert!(answer.contains("400 Bad Request") && answer.contains("MISSING_REQUIRED_FIELD"), "{answer}");
    let late = "the request did not arrive in time";
    for (path, head, expected, message) in [
        (SEND_AT, "", "504 Gateway Timeout", late),
        ("/otp.v1.OtpService/SendOtp", "", "408 Request Timeout", late),
        ("/otp.v1.OtpService/SendOtp", "content-type: application/grpc-web+proto\r\n", "grpc-status: 4", late),
        // Only begins like gRPC.
        ("/otp.v1.OtpService/SendOtp", "content-type: application/grpcx\r\n", "408 Request Timeout", late),
        // Not waited for.
        ("/nothing", "", "404 Not Found", "no such method"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}content-length: 9\r\n\r\n{{");
        let answer = told(&envoy, &head).await;
        assert!(answer.contains(expected) && answer.contains(message), "{answer}");
    }
    // No replica has heard of them.
    assert_eq!(envoy.count("upstream_rq_total"), 1);
}

/// The answers to one call: in Google's shape, in JSON and in Connect's.
async fn three(envoy: &Envoy) -> [HttpAnswer; 3] {
    let (at, path) = (envoy.address(), "/otp.v1.OtpService/SendOtp");
    [post(&at, SEND_AT, SEND).await, post(&at, path, SEND).await, ask(&at, "POST", path, CONNECT, SEND).await]
}

/// gRPC and grpc-web are told a status, in the words that JSON has.
async fn assert_same(envoy: &Envoy, json: &HttpAnswer) {
    let (error, at) = (json.json(), envoy.address());
    let told = Caller::at(&at).await.send(send("s", "c")).await.unwrap_err();
    assert_eq!((json!(told.code() as i32), json!(told.message())), (error["code"].clone(), error["message"].clone()));
    let web = [("content-type", "application/grpc-web+proto")];
    let told = ask(&at, "POST", "/otp.v1.OtpService/SendOtp", &web, message(&[])).await;
    let status = json!(told.header("grpc-status").parse::<i32>().unwrap());
    assert_eq!((told.status.as_u16(), status), (200, error["code"].clone()), "{told:?}");
    assert_eq!(json!(told.header("grpc-message")), error["message"]);
}

#[tokio::test]
async fn an_envoy_whose_memory_is_full_says_that_nobody_takes_the_call() {
    let ports = [Port::reserve(), Port::reserve()];
    // Less than it has at its start.
    let full = [("max_heap_size_bytes: 805306368", "max_heap_size_bytes: 1000000")];
    let Some(envoy) = Envoy::front(ports.each_ref().map(Port::number), &full) else { return };
    let has_noticed = async || {
        let answer = post(&envoy.address(), SEND_AT, SEND).await;
        answer.status == 503 && answer.header("content-type") == "text/plain"
    };
    until("it has noticed", has_noticed).await;
    let message = "no replica takes the call now; try again";
    for answer in three(&envoy).await {
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (503, message.as_bytes()), "{answer:?}");
    }
    let told = Caller::at(&envoy.address()).await.send(send("s", "c")).await.unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::Unavailable, message));
}

#[tokio::test]
async fn replicas_that_are_away_or_silent_are_told_of_in_the_same_shapes() {
    let ports = [Port::reserve(), Port::reserve()];
    let Some(envoy) = Envoy::front(ports.each_ref().map(Port::number), CHECKED_OFTEN) else { return };
    let [google, status, connect] = three(&envoy).await;
    assert_eq!(refused(&google), (503, None));
    assert_eq!((status.status.as_u16(), &status.json()["code"]), (503, &json!(14)));
    assert_eq!((connect.status.as_u16(), &connect.json()["code"]), (503, &json!("unavailable")));
    assert_same(&envoy, &status).await;
    for answer in [google, status, connect] {
        assert_eq!(answer.header("retry-after"), "1");
    }
    // The largest message that otpd takes is kept for another try, too.
    let mut large = send("s", "");
    large.enrollment_request_id = "c".repeat(64 * 1024 - large.encoded_len() - 4);
    assert_eq!(large.encoded_len(), 64 * 1024);
    assert_eq!(Caller::at(&envoy.address()).await.send(large).await.unwrap_err().code(), Code::Unavailable);

    // The system takes their connections, and nobody reads.
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = silent.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let soon = [CHECKED_OFTEN, &[(" timeout: 15s", " timeout: 0.3s")]].concat();
    let Some(envoy) = Envoy::front(ports, &soon) else { return };
    let [google, status, connect] = three(&envoy).await;
    assert_eq!(refused(&google), (504, None));
    assert_eq!((status.status.as_u16(), &status.json()["code"]), (504, &json!(4)));
    assert_eq!((connect.status.as_u16(), &connect.json()["code"]), (504, &json!("deadline_exceeded")));
    assert_same(&envoy, &status).await;
    // Three and a gRPC and a grpc-web call.
    until("the lines of the calls", async || envoy.access().lines().count() == 5).await;
    assert_eq!(envoy.access().matches(r#""grpc_status":"DeadlineExceeded""#).count(), 5, "{}", envoy.access());
}
