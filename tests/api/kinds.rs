//! Every kind of provider that checks its own codes, by the same stories: an answer in time and one that comes too late, what
//! was not judged, and a provider that is not there.

use std::{net::SocketAddr, time::Duration};

use otpd::grpc::proto::{Amount, ChallengeState, CreateChallengeRequest, Purpose, Transaction, VerifyOtpRequest};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, login, verify},
    site::{Site, until},
    upstream::{Act, Upstream, answer, counted, ok, parameters, text, verify_with},
    words::{created, failed, verified},
};

const NUMBER: &str = "+918144094480";
const UNKNOWN: &str = "Aborted VERIFICATION_OUTCOME_UNKNOWN";

/// One kind, and what its documentation says.
struct Kind {
    name: &'static str,
    settings: &'static str,
    purpose: Purpose,
    send: &'static [(&'static str, &'static str)],
    check: &'static [(&'static str, &'static str)],
    accepted: Value,
    accepted_status: u16,
    matched: Act,
    not_matched: Act,
    gone: Act,
    /// Whether a second check of one code is answered as the first.
    repeatable: bool,
}

impl Kind {
    fn site(&self, url: &str, more: &str) -> String {
        let Self { name, settings, .. } = self;
        format!(
            "routes = [\"upstream\"]\n[policy.quotas]\ndestination_sends = []\n[providers.upstream]\nkind = \"{name}\"\n\
             base_url = \"{url}\"\ntimeout = \"500ms\"\nconnect_timeout = \"500ms\"\n{settings}\n{more}\n"
        )
    }

    fn opening(&self, challenge: &str) -> CreateChallengeRequest {
        let amount = Some(Amount { amount_micros: 110_000_000, currency_code: "INR".into() });
        let pays = Transaction { amount, payee: "One bat".into(), reference: String::new() };
        CreateChallengeRequest {
            send_otp: true,
            purpose: self.purpose.into(),
            transaction: Some(pays).filter(|_| self.purpose == Purpose::Transaction),
            provider_parameters: parameters(self.send),
            ..login(challenge, challenge, NUMBER)
        }
    }

    /// The connection is closed after the answer, so that none is left when the provider goes.
    async fn opened(&self, caller: &Caller, upstream: &Upstream, challenge: &str) {
        upstream.script([text(self.accepted_status, "connection: close\r\n", &self.accepted.to_string())]);
        assert_eq!(created(&caller.create(self.opening(challenge)).await), "success with success", "{}", self.name);
        assert_eq!(upstream.seen().len(), 1);
    }

    fn guess(&self, id: &str, challenge: &str) -> VerifyOtpRequest {
        verify_with(verify(id, challenge, "123456"), self.check)
    }

    async fn failures(&self, caller: &Caller, challenge: &str) -> i64 {
        let told = if self.purpose == Purpose::Registration {
            caller.number(NUMBER).await
        } else {
            caller.account(challenge).await
        };
        told.unwrap().failures()
    }
}

fn vonage_problem(status: u16, name: &str) -> Act {
    answer(status, &json!({"type": format!("https://developer.vonage.com/api-errors/verify#{name}"), "title": "…"}))
}

fn google_result(member: &str) -> Act {
    ok(&json!({"responseHeader": {"responseTimestamp": {"epochMillis": "1481899949611"}}, "result": {member: {}}}))
}

fn wibmo(code: &str) -> Act {
    let status = if code == "00" { "success" } else { "failed" };
    ok(&json!({"status": status, "errorcode": code, "errormsg": ""}))
}

fn iserveu(code: &str, description: &str) -> Act {
    let status = if code == "0" { "SUCCESS" } else { "FAILED" };
    ok(&json!({"status": status, "statusCode": code, "statusDesc": description}))
}

fn msg91(kind: &str, message: &str) -> Act {
    ok(&json!({"type": kind, "message": message}))
}

/// What most kinds have in common.
fn usual(name: &'static str, settings: &'static str, accepted: Value) -> Kind {
    Kind {
        name,
        settings,
        purpose: Purpose::Login,
        send: &[],
        check: &[],
        accepted,
        accepted_status: 200,
        matched: Act::Close,
        not_matched: Act::Close,
        gone: Act::Close,
        repeatable: false,
    }
}

fn kinds() -> Vec<Kind> {
    issuers().into_iter().chain(services()).collect()
}

fn issuers() -> Vec<Kind> {
    vec![
        Kind {
            matched: google_result("success"),
            not_matched: google_result("otpNotMatched"),
            gone: answer(404, &json!({"errorResponseCode": "INVALID_IDENTIFIER"})),
            repeatable: true,
            ..usual(
                "google-payment-integrator",
                "",
                json!({
                    "responseHeader": {"responseTimestamp": {"epochMillis": "1481899950236"}},
                    "result": {"success": {
                        "maxVerificationAttempts": "5", "maxSendAttempts": "3",
                        "expirationTimestamp": {"epochMillis": "1481900250236"}
                    }}
                }),
            )
        },
        Kind {
            purpose: Purpose::Transaction,
            send: &[("pan", "6075000000004412"), ("expDate", "022024"), ("cvd2", "123"), ("nameOnCard", "Jane Doe")],
            matched: wibmo("00"),
            not_matched: wibmo("450"),
            gone: wibmo("451"),
            ..usual(
                "wibmo-rupay",
                "pg_instance_id = \"1\"\nmerchant_id = \"2\"\napi_key = \"K\"",
                json!({"status": "success", "errorcode": "00", "pgTransactionId": "1232324df"}),
            )
        },
        Kind {
            purpose: Purpose::Registration,
            send: &[("ovdType", "BioAuth"), ("ovdData", "765386439745")],
            check: &[("name", "Swagatika"), ("latlong", "12.97,77.59"), ("publicIP", "192.168.1.1")],
            matched: iserveu("0", "Customer registered"),
            not_matched: iserveu("-1", "Invalid OTP"),
            gone: iserveu("-1", "OTP has expired"),
            ..usual(
                "iserveu",
                "client_id = \"c\"\nclient_secret = \"s\"\nusername = \"u\"",
                json!({"status": "SUCCESS", "statusCode": "0", "statusDesc": "OTP Sent Successfully."}),
            )
        },
    ]
}

fn services() -> Vec<Kind> {
    let sid = "VE0123456789abcdef0123456789abcdef";
    let twilio = |status: &str, valid: bool| json!({"sid": sid, "status": status, "valid": valid});
    let request_id = "c11236f4-00bf-4b89-84ba-88b25df97315";
    vec![
        Kind {
            accepted_status: 201,
            matched: ok(&twilio("approved", true)),
            not_matched: ok(&twilio("pending", false)),
            gone: answer(404, &json!({"code": 20_404, "message": "not found", "status": 404})),
            ..usual(
                "twilio-verify",
                "account_sid = \"AC1\"\nauth_token = \"t\"\nservice_sid = \"VA0123456789abcdef0123456789abcdef\"",
                twilio("pending", false),
            )
        },
        Kind {
            accepted_status: 202,
            matched: ok(&json!({"request_id": request_id, "status": "completed"})),
            not_matched: vonage_problem(400, "invalid-code"),
            gone: vonage_problem(404, "not-found"),
            ..usual(
                "vonage-verify",
                "api_key = \"k\"\napi_secret = \"s\"\nbrand = \"Acme\"",
                json!({"request_id": request_id}),
            )
        },
        Kind {
            matched: ok(&json!({"pinId": "P1", "verified": true, "attemptsRemaining": 0})),
            not_matched: ok(&json!({"pinId": "P1", "verified": false, "pinError": "WRONG_PIN"})),
            gone: ok(&json!({"pinId": "P1", "verified": false, "pinError": "TTL_EXPIRED"})),
            ..usual(
                "infobip-2fa",
                "api_key = \"k\"\napplication_id = \"a\"\nmessage_id = \"m\"",
                json!({"pinId": "P1", "to": "918144094480", "smsStatus": "MESSAGE_SENT"}),
            )
        },
        Kind {
            matched: msg91("success", "OTP verified success"),
            not_matched: msg91("error", "OTP not match"),
            gone: msg91("error", "OTP expired"),
            ..usual(
                "msg91",
                "authkey = \"k\"\ntemplate_id = \"t\"",
                json!({"type": "success", "request_id": "3765626e"}),
            )
        },
    ]
}

/// The same act, later than anybody waits.
fn late(act: &Act) -> Act {
    let Act::Send(bytes) = act else { panic!("{act:?}") };
    Act::Slowly(Duration::from_secs(1), vec![bytes.clone()])
}

/// An answer decides at once. One that comes after the time is over decides nothing, and the same request asks again: what it is
/// told then counts once, and "expired" in answer to a second check may hide a match, so it ends the challenge.
#[tokio::test]
async fn an_answer_in_time_and_one_too_late() {
    for kind in kinds() {
        let upstream = Upstream::start().await;
        let server = Site::embedded().configured(&kind.site(&upstream.url(), "breaker_failures = 100")).start();
        let caller = Caller::of(&server).await;
        let name = kind.name;
        for (case, act, ours, counts) in [
            ("matched", &kind.matched, "success", 0),
            ("wrong", &kind.not_matched, "otp_not_matched", 1),
            ("gone", &kind.gone, "otp_expired", 0),
        ] {
            let before = kind.failures(&caller, case).await;
            kind.opened(&caller, &upstream, case).await;
            upstream.script([act.clone()]);
            let request = kind.guess("v", case);
            for _ in 0..2 {
                assert_eq!(verified(&caller.verify(request.clone()).await), ours, "{name}: {case}");
            }
            assert_eq!(upstream.seen().len(), 1, "{name}: {case}");
            let counted = if ours == "success" { 0 } else { before + counts };
            assert_eq!(kind.failures(&caller, case).await, counted, "{name}: {case}");

            let before = kind.failures(&caller, case).await;
            let challenge = format!("late-{case}");
            kind.opened(&caller, &upstream, &challenge).await;
            upstream.script([late(act), act.clone()]);
            let request = kind.guess("v", &challenge);
            assert_eq!(verified(&caller.verify(request.clone()).await), UNKNOWN, "{name}: {case}");
            for _ in 0..2 {
                assert_eq!(verified(&caller.verify(request.clone()).await), ours, "{name}: {case}");
            }
            assert_eq!(upstream.seen().len(), 2, "{name}: {case}");
            let seen = caller.challenge(&challenge).await.unwrap();
            assert_eq!(seen.verification_attempts, 1, "{name}: {case}");
            let voided = case == "gone" && !kind.repeatable;
            assert_eq!(seen.state() == ChallengeState::Cancelled, voided, "{name}: {case}");
            if kind.purpose == Purpose::Registration {
                let counted = if ours == "success" { 0 } else { before + counts };
                assert_eq!(kind.failures(&caller, &challenge).await, counted, "{name}: {case}");
            } else {
                assert_eq!(kind.failures(&caller, &challenge).await, counts, "{name}: {case}");
            }
        }
    }
}

/// Five errors by which the provider says that it judged nothing, each under an id of its own, cost nothing.
#[tokio::test]
async fn what_was_not_judged_costs_nothing() {
    for kind in kinds() {
        let upstream = Upstream::start().await;
        let server = Site::embedded().configured(&kind.site(&upstream.url(), "breaker_failures = 100")).start();
        let caller = Caller::of(&server).await;
        kind.opened(&caller, &upstream, "c").await;
        for (status, ours, wait) in [
            (401, "FailedPrecondition PROVIDER_REFUSED", None),
            (402, "FailedPrecondition PROVIDER_REFUSED", None),
            (403, "FailedPrecondition PROVIDER_REFUSED", None),
            (429, "Aborted PROVIDER_UNAVAILABLE", Some(Duration::from_secs(7))),
            (503, "Aborted PROVIDER_UNAVAILABLE", Some(Duration::from_secs(7))),
        ] {
            let retry = if wait.is_some() { "retry-after: 7\r\n" } else { "" };
            upstream.script([text(status, retry, "{}")]);
            let told = caller.verify(kind.guess(&format!("v{status}"), "c")).await.unwrap_err();
            assert_eq!(failed(&told), ours, "{}: {status}", kind.name);
            let retry_info = told.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(retry_info, wait, "{}: {status}", kind.name);
            assert_eq!(counted(&caller, "c").await, (1, 0), "{}: {status}", kind.name);
        }
        upstream.script([kind.matched.clone()]);
        assert_eq!(verified(&caller.verify(kind.guess("right", "c")).await), "success", "{}", kind.name);
    }
}

/// Takes the place of a provider that is gone, so that connections to it are refused.
async fn refuse(upstream: Upstream) -> TcpSocket {
    let address: SocketAddr = format!("127.0.0.1:{}", upstream.port()).parse().unwrap();
    drop(upstream);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    until("the port is free", async || socket.bind(address).is_ok()).await;
    socket
}

/// Nobody loses an attempt while the provider is not there, however often it is tried, and whatever a breaker sees of it.
#[tokio::test]
async fn a_provider_that_is_not_there_costs_nothing() {
    for (index, kind) in kinds().into_iter().enumerate() {
        let breaker = if index % 2 == 0 { "" } else { "breaker_failures = 100" };
        let upstream = Upstream::start().await;
        let mut site = Site::embedded().configured(&kind.site(&upstream.url(), breaker));
        let mut server = site.start();
        let caller = Caller::of(&server).await;
        kind.opened(&caller, &upstream, "c").await;
        let gone = refuse(upstream).await;
        for guess in 0..40 {
            let told = verified(&caller.verify(kind.guess(&format!("v{guess}"), "c")).await);
            assert_eq!(told, "Aborted PROVIDER_UNAVAILABLE", "{}: {guess}", kind.name);
        }
        assert_eq!(counted(&caller, "c").await, (1, 0), "{}", kind.name);
        assert_eq!(kind.failures(&caller, "c").await, 0, "{}", kind.name);
        // It is back, at another address.
        let upstream = Upstream::start().await;
        server.kill();
        site.configure(&kind.site(&upstream.url(), breaker));
        let server = site.start();
        drop(gone);
        let caller = Caller::of(&server).await;
        upstream.otherwise(kind.matched.clone());
        // The pause after the last failures may still run.
        until("the provider is asked again", async || {
            let told = verified(&caller.verify(kind.guess("right", "c")).await);
            assert!(matches!(told.as_str(), "Aborted PROVIDER_UNAVAILABLE" | "success"), "{}: {told}", kind.name);
            told == "success"
        })
        .await;
    }
}
