//! Which provider a message takes, as the configuration says it.

use otpd::grpc::proto::{
    Channel as By, CreateChallengeRequest, Destination, Purpose, SendOtpRequest, destination::Destination as To,
};
use serde_json::json;

use crate::{
    caller::{Caller, SMS, email, header_of, login, payment, send, sms},
    site::Site,
    upstream::{Upstream, down, gateway, ok, only, to},
    words::{created, sent},
};

const SETTINGS: &str = r#"
routes = ["everything"]
[requests]
accept_unlisted_tenants = true
[route.india]
country_prefix = "+91"
providers = ["india"]
[route.india-of-acme]
tenant = "acme"
country_prefix = "+91"
providers = ["acme-india", "india"]
[route.acme]
tenant = "acme"
providers = ["acme"]
[route.payments]
purpose = "transaction"
providers = ["payments"]
[route.payments-of-acme]
tenant = "acme"
purpose = "transaction"
channel = "sms"
providers = ["acme-payments"]
[route.calls]
channel = "voice"
providers = ["calls"]
"#;

/// Every provider at one server, which tells them apart by their paths.
fn site(upstream: &Upstream) -> Site {
    let names = ["everything", "india", "acme-india", "acme", "payments", "acme-payments"];
    let providers: String = names.map(|name| gateway(name, &upstream.url())).concat();
    let calls = gateway("calls", &upstream.url()) + "channels = [\"voice\", \"whatsapp\"]\n";
    Site::embedded().configured(&format!("{SETTINGS}{providers}{calls}"))
}

fn voice(number: &str) -> Destination {
    Destination { channel: By::Voice.into(), destination: Some(To::PhoneNumber(number.into())), ..sms("", SMS) }
}

#[tokio::test]
async fn the_closest_route_is_taken() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let (login_, pay) = (Purpose::Login, Purpose::Transaction);
    for (n, (tenant, purpose, destination, expected)) in [
        ("other", login_, sms("+14155550100", SMS), "/everything"),
        ("other", login_, sms("+918867772222", SMS), "/india"),
        ("acme", login_, sms("+918867772222", SMS), "/acme-india"),
        ("acme", login_, sms("+14155550100", SMS), "/acme"),
        ("other", pay, sms("+14155550100", SMS), "/payments"),
        ("acme", pay, sms("+14155550100", SMS), "/acme-payments"),
        // The prefix wins over all else.
        ("other", pay, sms("+918867772222", SMS), "/india"),
        ("other", login_, voice("+14155550100"), "/calls"),
    ]
    .into_iter()
    .enumerate()
    {
        let challenge = format!("c{n}");
        let transaction = if purpose == pay { payment(1_000_000, "Ravi") } else { None };
        let request = CreateChallengeRequest {
            request_header: header_of(tenant, &challenge),
            purpose: purpose.into(),
            transaction,
            ..login("", &challenge, "")
        };
        assert_eq!(created(&caller.create(to(destination, request)).await), "success", "{expected}");
        let request = SendOtpRequest { request_header: header_of(tenant, "s"), ..send("", &challenge) };
        assert_eq!(sent(&caller.send(request).await), "success", "{expected}");
        assert_eq!(only(&upstream).target, expected);
    }
}

/// A route decides alone: what it does not serve is refused at once, whatever other routes could do.
#[tokio::test]
async fn what_no_provider_serves_is_refused_at_once() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let refused = "FailedPrecondition PRECONDITION_VIOLATION";
    let destinations = [email("jane@example.com", SMS), voice("+918867772222")];
    for (n, destination) in destinations.into_iter().enumerate() {
        let request = to(destination, login(&format!("c{n}"), "person", ""));
        assert_eq!(created(&caller.create(request).await), refused);
    }
    let mixed = CreateChallengeRequest {
        destinations: vec![sms("+14155550100", "a"), email("jane@example.com", "b")],
        ..login("c2", "person", "")
    };
    assert_eq!(created(&caller.create(mixed).await), refused);
    assert_eq!(upstream.connections(), 0);
}

/// The stand-in of a route is that route's own.
#[tokio::test]
async fn a_route_fails_over_within_itself() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let header = |id: &str| header_of("acme", id);
    let request = CreateChallengeRequest { request_header: header("c"), ..login("c", "person", "+918867772222") };
    assert_eq!(created(&caller.create(request).await), "success");
    upstream.script([down(), ok(&json!({}))]);
    let request = SendOtpRequest { request_header: header("s"), ..send("s", "c") };
    assert_eq!(sent(&caller.send(request).await), "success");
    let ways: Vec<String> = upstream.seen().into_iter().map(|request| request.target).collect();
    assert_eq!(ways, ["/acme-india", "/india"]);
}
