//! Sandbox destinations: a known code, nothing sent, no quotas; attempts and locks as everywhere.

use std::process::{Command, Output};

use otpd::grpc::proto::{CreateChallengeRequest, DeliveryState, SendOtpRequest, VerifyOtpRequest, send_otp_result};
use serde_json::json;

use crate::{
    caller::{Caller, SMS, email, header_of, login, send, sms, verify, wrong},
    site::{KEY_1, Site},
    upstream::{Upstream, code, counted, gateway, ok, only, to},
    words::{created, sent, verified},
};

const NUMBER: &str = "+14155550190";
const MAILBOX: &str = "sandbox@example.com";
const CODE: &str = "424242";

/// One tenant has a number of its own, with a code of its own.
const TENANT: &str = "tenant-with-a-sandbox";
const ITS_NUMBER: &str = "+14155550191";
const ITS_CODE: &str = "1717171717";

fn site(upstream: &Upstream, policy: &str) -> Site {
    Site::embedded().configured(&format!(
        "routes = [\"gateway\"]\n[requests]\naccept_unlisted_tenants = true\n[policy]\nresend_gaps = []\n{policy}\n\
         [sandbox]\ncode = \"{CODE}\"\ndestinations = [\"{NUMBER}\", \"{MAILBOX}\"]\n\
         [tenants.{TENANT}.sandbox]\ncode = \"{ITS_CODE}\"\ndestinations = [\"{ITS_NUMBER}\"]\n{}",
        gateway("gateway", &upstream.url())
    ))
}

#[tokio::test]
async fn nothing_is_sent_and_the_known_code_is_taken() {
    let upstream = Upstream::start().await;
    let server = site(&upstream, "").start();
    let caller = Caller::of(&server).await;
    // No provider serves mail here: the sandbox is asked before any route.
    for (challenge, destination) in [("sms", sms(NUMBER, SMS)), ("mail", email(MAILBOX, SMS))] {
        let told = caller.create(to(destination, login(challenge, challenge, ""))).await;
        assert_eq!(created(&told), "success");
        let told = caller.send(send("s", challenge)).await.unwrap();
        let Some(send_otp_result::Result::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
        assert_eq!((success.delivery_state(), success.otp_length), (DeliveryState::Accepted, 6));
        assert_eq!(verified(&caller.verify(verify("v1", challenge, &wrong(CODE, 0))).await), "otp_not_matched");
        assert_eq!(verified(&caller.verify(verify("v2", challenge, CODE)).await), "success");
        assert_eq!(verified(&caller.verify(verify("v3", challenge, CODE)).await), "otp_already_used");
        assert_eq!(counted(&caller, challenge).await, (1, 2));
    }
    assert_eq!(upstream.connections(), 0);
}

/// The destination of one tenant's sandbox is like any other for all others.
#[tokio::test]
async fn a_tenant_has_a_sandbox_of_its_own() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let server = site(&upstream, "").start();
    let caller = Caller::of(&server).await;
    let header = |id: &str| header_of(TENANT, id);
    let request = CreateChallengeRequest { request_header: header("c"), ..login("c", "person", ITS_NUMBER) };
    assert_eq!(created(&caller.create(request).await), "success");
    let told = caller.send(SendOtpRequest { request_header: header("s"), ..send("s", "c") }).await;
    assert_eq!(sent(&told), "success");
    let guess = |id: &str, otp: &str| VerifyOtpRequest { request_header: header(id), ..verify(id, "c", otp) };
    assert_eq!(verified(&caller.verify(guess("v1", CODE)).await), "otp_not_matched");
    assert_eq!(verified(&caller.verify(guess("v2", ITS_CODE)).await), "success");
    assert_eq!(upstream.connections(), 0);

    caller.sent("c", "person", ITS_NUMBER).await;
    let code = code(&only(&upstream));
    let guess = if code == ITS_CODE { wrong(&code, 0) } else { ITS_CODE.to_owned() };
    assert_eq!(verified(&caller.verify(verify("v1", "c", &guess)).await), "otp_not_matched");
    assert_eq!(verified(&caller.verify(verify("v2", "c", &code)).await), "success");
}

/// Tests may be run all day. The same destinations count for real ones, and real ones for themselves.
#[tokio::test]
async fn quotas_do_not_apply() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let quotas = "[policy.quotas]\ndestination_sends = [\"1 per 1h\"]\naccount_sends = [\"1 per 1h\"]\n\
                  tenant_sends = [\"1 per 1h\"]\naccount_creations = [\"2 per 1h\"]\ntenant_creations = [\"2 per 1h\"]\n";
    let server = site(&upstream, quotas).start();
    let caller = Caller::of(&server).await;
    for n in 0..5 {
        let challenge = format!("c{n}");
        caller.sent(&challenge, "person", NUMBER).await;
        assert_eq!(verified(&caller.verify(verify("v", &challenge, CODE)).await), "success");
    }
    caller.sent("real", "person", "+14155550192").await;
    let again = CreateChallengeRequest { send_otp: true, ..login("real-2", "person", "+14155550192") };
    assert_eq!(created(&caller.create(again).await), "success with risk_declined");
    assert_eq!(created(&caller.create(login("real-3", "person", "+14155550192")).await), "risk_declined");
    caller.sent("c5", "person", NUMBER).await;
    assert_eq!(upstream.seen().len(), 1);
    // Its sends are bounded all the same.
    for id in ["s2", "s3"] {
        assert_eq!(sent(&caller.send(send(id, "c5")).await), "success");
    }
    assert_eq!(sent(&caller.send(send("s4", "c5")).await), "send_limit_exceeded");
}

/// Its failures count and lock; its successes, which anybody can have, reset nothing.
#[tokio::test]
async fn attempts_and_locks_apply() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let server = site(&upstream, "[policy.lock]\nfirst_after = 8\n").start();
    let caller = Caller::of(&server).await;
    let failures = async || caller.account("person").await.unwrap().failures();
    caller.sent("real", "person", "+14155550193").await;
    let real = code(&only(&upstream));
    for n in 0..2 {
        let guess = verify(&format!("v{n}"), "real", &wrong(&real, n));
        assert_eq!(verified(&caller.verify(guess).await), "otp_not_matched");
    }
    caller.sent("c", "person", NUMBER).await;
    for n in 0..5 {
        let guess = verify(&format!("v{n}"), "c", &wrong(CODE, n));
        assert_eq!(verified(&caller.verify(guess).await), "otp_not_matched");
    }
    assert_eq!(verified(&caller.verify(verify("v5", "c", CODE)).await), "verification_attempts_exceeded");
    assert_eq!(failures().await, 7);
    caller.sent("d", "person", NUMBER).await;
    for _ in 0..2 {
        assert_eq!(verified(&caller.verify(verify("v", "d", CODE)).await), "success");
        assert_eq!(failures().await, 7, "a sandbox success resets nothing");
    }
    caller.sent("e", "person", NUMBER).await;
    assert_eq!(verified(&caller.verify(verify("v", "e", &wrong(CODE, 0))).await), "otp_not_matched");
    assert_eq!(verified(&caller.verify(verify("w", "e", CODE)).await), "account_locked");
    assert_eq!(verified(&caller.verify(verify("v2", "real", &real)).await), "account_locked");
    assert!(caller.account("person").await.unwrap().locked());
    // Asked again, the success is told again and still resets nothing.
    assert_eq!(verified(&caller.verify(verify("v", "d", CODE)).await), "success");
    assert!(caller.account("person").await.unwrap().locked());
}

fn check_config(text: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_otpd"));
    command.env_clear().env("OTPD_MASTER_KEYS", KEY_1).arg("check-config").arg("--config").arg(file.path());
    command.output().unwrap()
}

#[test]
fn production_refuses_it_unless_forced() {
    let common = "[store]\nurl = \"redis://127.0.0.1:6379\"\n[providers.gateway]\nkind = \"http-json\"\n\
                  base_url = \"https://sms.example.com\"\npath = \"/messages\"\n";
    let sandbox = format!("[sandbox]\ncode = \"{CODE}\"\ndestinations = [\"{NUMBER}\"]\n");
    let of_a_tenant = format!("[tenants.acme.sandbox]\ncode = \"{CODE}\"\ndestinations = [\"{NUMBER}\"]\n");
    let production = "profile = \"production\"\n[tenants.listed]\n";
    for listed in [&sandbox, &of_a_tenant] {
        let refused = check_config(&format!("{production}{common}{listed}"));
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{complaint}");
        assert!(complaint.contains("sandbox") && complaint.contains("force.sandbox"), "{complaint}");
        assert!(!complaint.contains(CODE) && !complaint.contains(NUMBER), "{complaint}");
        let forced = check_config(&format!("{production}{common}{listed}[force]\nsandbox = true\n"));
        assert_eq!(forced.status.code(), Some(0), "{}", String::from_utf8_lossy(&forced.stderr));
        let said = String::from_utf8(forced.stdout).unwrap();
        assert!(said.contains("warning: sandbox destinations"), "{said}");
        assert!(said.contains("warning: force.sandbox") && !said.contains(CODE), "{said}");
        assert_eq!(check_config(&format!("{common}{listed}")).status.code(), Some(0), "development");
    }
    let without = check_config(&format!("{production}{common}"));
    assert_eq!(without.status.code(), Some(0), "{}", String::from_utf8_lossy(&without.stderr));
}
