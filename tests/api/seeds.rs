//! The documents that the contract was made from: their example bodies, as JSON, are requests as they stand, and the
//! answers have the shape of theirs.

use otpd::grpc::proto::{CreateChallengeRequest, FILE_DESCRIPTOR_SET, SendOtpRequest, VerifyOtpRequest};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage};
use serde_json::{Value, json};
use tonic::{Code, codegen::tokio_stream};
use tonic_reflection::pb;
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, Told, wrong},
    site::Site,
    words,
};

pub(crate) const SEND: &str = r#"{
"requestHeader": {
"protocolVersion": {
"major": 1
},
"requestId": "BKD0GF23KSD8S23",
"requestTimestamp": {
"epochMillis": "1481899949606"
},
"paymentIntegratorAccountId": "abcdef123456"
},
"enrollmentRequestId": "SFLKJS23542ALFJ",
"challengeOptionId": "G1MQ0YERJ0Q7LPM"
}"#;

pub(crate) const VERIFY: &str = r#"{
"requestHeader": {
"protocolVersion": {
"major": 1
},
"requestId": "cmVxdWVzdDE",
"requestTimestamp": {
"epochMillis": "1481899949606"
},
"paymentIntegratorAccountId": "SpeedyPaymentsIndia_INR"
},
"authenticateRequestId": "G112YZH4XPDV88J",
"otp": "123456"
}"#;

/// A message of the contract from its canonical JSON, which `grpcurl -d` reads. An unknown field is an error.
fn parse<T: prost::Message + Default>(name: &str, json: &str) -> T {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let descriptor = pool.get_message_by_name(name).unwrap();
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(descriptor, &mut reader).unwrap();
    reader.end().unwrap();
    message.transcode_to().unwrap()
}

/// The canonical JSON of a message, as `grpcurl` prints it.
fn print(name: &str, message: &impl prost::Message) -> Value {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut dynamic = DynamicMessage::new(pool.get_message_by_name(name).unwrap());
    dynamic.transcode_from(message).unwrap();
    assert_eq!(dynamic.descriptor().full_name(), name);
    serde_json::to_value(&dynamic).unwrap()
}

fn is_unknown<T>(told: &Told<T>) -> bool {
    let Err(status) = told else { return false };
    let info = status.get_details_error_info().unwrap();
    (status.code(), info.reason.as_str(), info.domain.as_str()) == (Code::NotFound, "INVALID_IDENTIFIER", "otp.v1")
}

#[tokio::test]
async fn example_bodies_are_requests_as_they_stand() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let send: SendOtpRequest = parse("otp.v1.SendOtpRequest", SEND);
    let verify: VerifyOtpRequest = parse("otp.v1.VerifyOtpRequest", VERIFY);
    // Well formed, and of challenges that there are not.
    assert!(is_unknown(&caller.send(send.clone()).await));
    assert!(is_unknown(&caller.verify(verify.clone()).await));

    let create = |header: &Value, option: &str, number: &str| {
        let body = json!({
            "requestHeader": header, "accountId": "person-1", "purpose": "PURPOSE_LOGIN",
            "destinations": [{"channel": "CHANNEL_SMS", "phoneNumber": number, "challengeOptionId": option}]
        });
        parse::<CreateChallengeRequest>("otp.v1.CreateChallengeRequest", &body.to_string())
    };
    let header = |example: &str, id: &str| {
        let mut header = serde_json::from_str::<Value>(example).unwrap()["requestHeader"].take();
        header["requestId"] = id.into();
        header
    };

    let opened = caller.create(create(&header(SEND, "SFLKJS23542ALFJ"), "G1MQ0YERJ0Q7LPM", "+14155550100")).await;
    let opened = print("otp.v1.CreateChallengeResponse", &opened.unwrap());
    let option = &opened["result"]["success"]["challengeOptions"][0];
    assert_eq!(option["challengeOptionId"], "G1MQ0YERJ0Q7LPM");
    assert_eq!(option["channel"], "CHANNEL_SMS");
    assert!(!option["maskedDestination"].as_str().unwrap().contains("4155550"), "{option}");

    let answer = print("otp.v1.SendOtpResponse", &caller.send(send.clone()).await.unwrap());
    let success = &answer["result"]["success"];
    assert_eq!(success["maxVerificationAttempts"], "5");
    assert_eq!(success["maxSendAttempts"], "3");
    assert_eq!(success["remainingSendAttempts"], "2");
    assert_eq!(success["deliveryState"], "DELIVERY_STATE_ACCEPTED");
    assert_eq!(success["otpLength"], "6");
    for at in [&answer["responseHeader"]["responseTimestamp"], &success["expirationTimestamp"]] {
        assert!(at["epochMillis"].as_str().unwrap().parse::<i64>().unwrap() > 1_700_000_000_000, "{answer}");
    }
    // The same body again: the same answer but for its time, and no second message.
    let again = print("otp.v1.SendOtpResponse", &caller.send(send).await.unwrap());
    assert_eq!(again["result"], answer["result"]);
    assert_eq!(site.codes("+14155550100").len(), 1);

    // An account of another tenant, without failures, says so.
    let clean = print("otp.v1.GetAccountResponse", &caller.account("person-1").await.unwrap());
    assert_eq!((&clean["failures"], &clean["locked"]), (&json!("0"), &json!(false)));
    let creations = json!({"quota": "account_creations", "uses": "0", "limit": "30", "window": "3600s"});
    assert_eq!(clean["quotas"], json!([creations]));

    let number = "+14155550101";
    let opened = caller.create(create(&header(VERIFY, "G112YZH4XPDV88J"), "G1MQ0YERJ0Q7LPM", number)).await;
    assert_eq!(words::created(&opened), "success");
    let mut body: Value = serde_json::from_str(SEND).unwrap();
    body["requestHeader"] = header(VERIFY, "send");
    body["enrollmentRequestId"] = "G112YZH4XPDV88J".into();
    let send: SendOtpRequest = parse("otp.v1.SendOtpRequest", &body.to_string());
    assert_eq!(words::sent(&caller.send(send).await), "success");
    // The code is the one thing that an example cannot know.
    let mut wrongly = verify.clone();
    wrongly.otp = wrong(&site.code(number), 0);
    wrongly.request_header.as_mut().unwrap().request_id = "wrong".into();
    let answer = print("otp.v1.VerifyOtpResponse", &caller.verify(wrongly).await.unwrap());
    assert_eq!(answer["result"], json!({"otpNotMatched": {"remainingVerificationAttempts": "4"}}));
    assert_eq!(answer.get("verified"), None);
    let rightly = VerifyOtpRequest { otp: site.code(number), ..verify };
    for _ in 0..2 {
        let answer = print("otp.v1.VerifyOtpResponse", &caller.verify(rightly.clone()).await.unwrap());
        assert_eq!(answer["result"], json!({"success": {}}));
        let mut proven = answer["verified"].clone();
        let at = proven.as_object_mut().unwrap().remove("verifiedTimestamp").unwrap();
        assert!(at["epochMillis"].is_string(), "{answer}");
        let expected = json!({
            "accountId": "person-1", "purpose": "PURPOSE_LOGIN", "challengeOptionId": "G1MQ0YERJ0Q7LPM",
            "channel": "CHANNEL_SMS", "maskedDestination": "+14*******01"
        });
        assert_eq!(proven, expected);
        assert!(answer["responseHeader"]["responseTimestamp"]["epochMillis"].is_string(), "{answer}");
    }
    let mut late = rightly;
    late.request_header.as_mut().unwrap().request_id = "late".into();
    let answer = print("otp.v1.VerifyOtpResponse", &caller.verify(late).await.unwrap());
    assert_eq!(answer["result"], json!({"otpAlreadyUsed": {}}));
}

/// `grpcurl` asks for v1 and falls back to v1alpha; others only know v1alpha.
#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let site = Site::embedded();
    let server = site.start();
    let channel = Caller::of(&server).await.channel;
    macro_rules! services {
        ($version:ident) => {{
            use pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let list = MessageRequest::ListServices(String::new());
            let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
            let mut client = ServerReflectionClient::new(channel.clone());
            let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else { panic!() };
            listed.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }
    for listed in [services!(v1), services!(v1alpha)] {
        for expected in ["otp.v1.OtpService", "otp.v1.OtpAdminService", "grpc.health.v1.Health"] {
            assert!(listed.iter().any(|name| name == expected), "{expected} is not in {listed:?}");
        }
    }
}
