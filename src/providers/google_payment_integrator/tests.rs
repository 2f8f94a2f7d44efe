//! What no fixture shows: the documentation's example of `sendOtp` to the letter, settings, ids in an account that tenants
//! share, and alarms.

use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{destination::Destination, ids::AccountId, purpose::Purpose, time::Timestamp},
    providers::adapter::settings::adapter_of,
    settings::ConfigErrors,
};

fn adapter(settings: &str) -> Result<GooglePaymentIntegrator, ConfigErrors> {
    adapter_of(settings, read)
}

fn check(tenant: &str) -> Check {
    let context = ChallengeContext {
        now: Timestamp::from_millis(1_481_899_949_606),
        tenant: Tenant::parse(tenant).unwrap(),
        challenge: RequestId::parse("C1").unwrap(),
        account: AccountId::parse("jane").unwrap(),
        purpose: Purpose::Login,
        transaction: None,
        option: None,
        channel: Channel::Sms,
        destination: Destination::OnFile,
        locale: String::new(),
        parameters: crate::ports::provider::Parameters::default(),
        client: crate::ports::provider::ClientContext::default(),
    };
    let (otp, reference) = (Secret::new("123456".to_owned()), String::new());
    Check { context, otp, reference, repeated: false, idempotency_key: "C1-check-1".to_owned() }
}

fn header(settings: &str, tenant: &str) -> (String, String) {
    let request = adapter(settings).unwrap().check(&check(tenant)).unwrap();
    let body: Value = serde_json::from_slice(request.content().expose()).unwrap();
    let text = |name: &str| body["requestHeader"][name].as_str().unwrap().to_owned();
    (text("paymentIntegratorAccountId"), text("requestId"))
}

#[test]
fn a_tenant_sends_the_documented_example() {
    let mut context = check("abcdef123456").context;
    let parameters = [("enrollment_request_id", "SFLKJS23542ALFJ"), ("challenge_option_id", "G1MQ0YERJ0Q7LPM")];
    context.parameters = parameters.map(|(name, id)| (name.to_owned(), Secret::new(id.to_owned()))).into();
    let (code_life, idempotency_key) = (Duration::from_secs(300), "BKD0GF23KSD8S23".to_owned());
    let delivery = Delivery {
        context,
        message: None,
        code_life,
        idempotency_key,
        number: 1,
        previous_reference: String::new(),
        running: Vec::new(),
    };
    let request = adapter("base_url = 'https://integrator.example'").unwrap().deliver(&delivery).unwrap();
    let expected = json!({
        "requestHeader": {
            "protocolVersion": { "major": 1 },
            "requestId": "BKD0GF23KSD8S23",
            "requestTimestamp": { "epochMillis": "1481899949606" },
            "paymentIntegratorAccountId": "abcdef123456"
        },
        "enrollmentRequestId": "SFLKJS23542ALFJ",
        "challengeOptionId": "G1MQ0YERJ0Q7LPM"
    });
    assert_eq!(serde_json::from_slice::<Value>(request.content().expose()).unwrap(), expected);
    assert_eq!(request.url().expose(), "https://integrator.example/virtual-cards-v1/sendOtp");
}

#[test]
fn tenants_that_share_an_account_have_ids_of_their_own() {
    let shared = "base_url = 'https://integrator.example'\naccount_id = 'acme'";
    assert_eq!(header(shared, "acme"), ("acme".to_owned(), "C1-check-1".to_owned()));
    let (account, id) = header(shared, "bold");
    assert_eq!((account.as_str(), RequestId::parse(&id).is_ok()), ("acme", true));
    assert_ne!(id, "C1-check-1");
    assert_eq!(header("base_url = 'https://integrator.example'", "bold"), ("bold".to_owned(), "C1-check-1".to_owned()));
}

#[test]
fn settings_that_are_wrong_are_all_reported() {
    let wrong = "base_url = 'ftp://x'\nsend_path = 'v1'\naccount_id = 'a b'\nauthorization = \"a\\nb\"\nmode = 'x'";
    let errors = adapter(wrong).err().unwrap().0;
    let settings: Vec<&str> = errors.iter().map(|error| error.setting.as_str()).collect();
    assert_eq!(settings, ["base_url", "send_path", "account_id", "authorization", "mode"]);
    assert_eq!(adapter("").err().unwrap().0.len(), 1);
}

#[test]
fn errors_that_an_operator_must_mend_are_alarms() {
    let adapter = adapter("base_url = 'https://integrator.example'").unwrap();
    let alarm = |status, body: &str| {
        let answer = Inbound { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() };
        adapter.alarm(&answer).map(|(Alarm::Credentials(text) | Alarm::Account(text) | Alarm::Request(text))| text)
    };
    let coded = |code: &str| format!(r#"{{"errorResponseCode":"{code}"}}"#);
    for code in [
        "INVALID_API_VERSION",
        "INVALID_PAYLOAD_SIGNATURE",
        "INVALID_PAYLOAD_ENCRYPTION",
        "REQUEST_TIMESTAMP_OUT_OF_RANGE",
        "IDEMPOTENCY_VIOLATION",
        "INVALID_FIELD_VALUE",
        "MISSING_REQUIRED_FIELD",
        "INVALID_DECRYPTED_REQUEST",
        "FORBIDDEN",
    ] {
        assert_eq!(alarm(400, &coded(code)), Some(code));
        assert_eq!(alarm(200, &coded(code)), None);
    }
    for code in ["INVALID_IDENTIFIER", "PRECONDITION_VIOLATION", "USER_ACTION_IN_PROGRESS", "NEW", ""] {
        assert_eq!(alarm(400, &coded(code)), None, "{code}");
    }
    assert_eq!(alarm(403, r#"{"errorResponseResult":{"forbidden":{}}}"#), Some("FORBIDDEN"));
    assert_eq!(alarm(500, "<html>"), None);
}
