//! The kinds for Amazon Web Services against a server that computes each signature itself, and where their credentials come
//! from.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use otpd::{
    config::{Config, Source},
    metrics::Metrics,
    ports::{
        clock::Deadline,
        provider::{Delivered, Provider},
    },
    providers::{ProviderDeps, http::ProxyVariables},
};
use sha2::{Digest, Sha256};

use super::{
    probe::{FAILED, LONGEST_CALL, ManualClock, REFUSED, accepted, answer, delivery},
    server::{Act, Request, Server},
};

const PUBLISHED: &str = "<PublishResponse><PublishResult><MessageId>m1</MessageId></PublishResult></PublishResponse>";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Signature Version 4 (IAM User Guide, "Create a signed AWS API request"), from the canonical request and the scope.
fn signature(secret: &str, canonical: &str, time: &str, scope: &str) -> String {
    let digest = hex(&Sha256::digest(canonical));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
    hex(&mac(&key, &to_sign))
}

/// The example of AWS's documentation: ListUsers of IAM.
#[test]
fn the_known_example_has_its_known_signature() {
    let empty = hex(&Sha256::digest(""));
    let canonical = format!(
        "GET\n/\nAction=ListUsers&Version=2010-05-08\ncontent-type:application/x-www-form-urlencoded; charset=utf-8\n\
         host:iam.amazonaws.com\nx-amz-date:20150830T123600Z\n\ncontent-type;host;x-amz-date\n{empty}"
    );
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let scope = "20150830/us-east-1/iam/aws4_request";
    let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
    assert_eq!(signature(secret, &canonical, "20150830T123600Z", scope), expected);
}

/// The access key id of a request whose signature is right.
fn signer(request: &Request, secret: &str, service: &str) -> String {
    let authorization = request.header("authorization").expect("a signature");
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").expect("the algorithm");
    let field = |name: &str| {
        let found = fields.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.expect("a field of the signature").to_owned()
    };
    let (id, scope) = field("Credential").split_once('/').map(|(id, scope)| (id.to_owned(), scope.to_owned())).unwrap();
    let time = request.header("x-amz-date").unwrap();
    assert_eq!(scope, format!("{}/eu-central-1/{service}/aws4_request", &time[..8]));
    let signed = field("SignedHeaders");
    for needed in ["host", "x-amz-date", "content-type"] {
        assert!(signed.split(';').any(|name| name == needed), "{needed} in {signed}");
    }
    let line = |name: &str| format!("{name}:{}\n", request.header(name).expect("a signed header"));
    let headers = signed.split(';').map(line).collect::<Vec<_>>().concat();
    let body = hex(&Sha256::digest(&request.body));
    let canonical = format!("POST\n{}\n\n{headers}\n{signed}\n{body}", request.target);
    assert_eq!(field("Signature"), signature(secret, &canonical, time, &scope));
    id
}

/// The one provider of a configuration with these variables.
fn provider(section: &str, variables: &[(&str, &str)], clock: &Arc<ManualClock>) -> Result<Arc<dyn Provider>, String> {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Some(("otpd.toml".to_owned(), format!("[providers.aws]\n{section}")));
    let config = Config::load(&Source { file, environment }).map_err(|errors| errors.to_string())?;
    let deps = ProviderDeps {
        clock: clock.clone(),
        observer: Arc::new(Metrics::default()),
        proxies: ProxyVariables::default(),
    };
    Ok(config.providers.by_name["aws"].build("aws", &deps).unwrap())
}

async fn deliver(provider: &Arc<dyn Provider>) -> Delivered {
    provider.deliver(delivery("parameter-secret"), Deadline::after(LONGEST_CALL)).await
}

fn sns(url: &str, more: &str) -> String {
    format!("kind = \"aws-sns\"\nbase_url = \"{url}\"\n{more}")
}

#[tokio::test]
async fn every_request_is_signed() {
    let (server, clock) = (Server::start().await, Arc::new(ManualClock::default()));
    server.otherwise(Act::Send(answer(200, PUBLISHED)));
    let keys = "region = \"eu-central-1\"\naccess_key_id = \"AKIA1\"\nsecret_access_key = \"secret/1\"";
    let aws = provider(&sns(&server.url(), keys), &[], &clock).unwrap();
    for pause in [0, 1, 86_400] {
        clock.pass(Duration::from_secs(pause));
        assert_eq!(deliver(&aws).await, accepted("m1"));
        assert_eq!(signer(&server.seen().remove(0), "secret/1", "sns"), "AKIA1");
    }
}

#[tokio::test]
async fn credentials_are_taken_from_the_variables_of_aws() {
    let (server, clock) = (Server::start().await, Arc::new(ManualClock::default()));
    server.otherwise(Act::Send(answer(200, PUBLISHED)));
    let variables = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "ASIA2"),
        ("AWS_SECRET_ACCESS_KEY", "secret2"),
        ("AWS_SESSION_TOKEN", "token2"),
    ];
    let aws = provider(&sns(&server.url(), ""), &variables, &clock).unwrap();
    assert_eq!(deliver(&aws).await, accepted("m1"));
    let request = server.seen().remove(0);
    assert_eq!(
        (signer(&request, "secret2", "sns").as_str(), request.header("x-amz-security-token")),
        ("ASIA2", Some("token2"))
    );
    // What the settings say wins.
    let own = "access_key_id = \"AKIA1\"\nsecret_access_key = \"secret1\"";
    let aws = provider(&sns(&server.url(), own), &variables, &clock).unwrap();
    assert_eq!(deliver(&aws).await, accepted("m1"));
    let request = server.seen().remove(0);
    assert_eq!((signer(&request, "secret1", "sns").as_str(), request.header("x-amz-security-token")), ("AKIA1", None));
    let nothing = provider(&sns(&server.url(), "region = \"eu-central-1\""), &[], &clock);
    assert!(nothing.err().unwrap().contains("providers.aws.access_key_id: required"));
}

#[tokio::test]
async fn a_credentials_file_is_read_anew() {
    let (server, clock) = (Server::start().await, Arc::new(ManualClock::default()));
    server.otherwise(Act::Send(answer(200, PUBLISHED)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    let settings =
        format!("region = \"eu-central-1\"\ncredentials_file = \"{}\"\ncredentials_profile = \"otpd\"", path.display());
    let aws = provider(&sns(&server.url(), &settings), &[], &clock).unwrap();
    assert_eq!(deliver(&aws).await, FAILED, "no file");
    let write = |id: &str| {
        let keys = format!("[otpd]\naws_access_key_id = {id}\naws_secret_access_key = secret-{id}\n");
        fs::write(&path, keys).unwrap();
    };
    for id in ["A1", "A2"] {
        write(id);
        clock.pass(Duration::from_secs(301));
        assert_eq!(deliver(&aws).await, accepted("m1"));
        assert_eq!(signer(&server.seen().remove(0), &format!("secret-{id}"), "sns"), id);
    }
    // Refused keys are read again at once.
    write("A3");
    server.script([Act::Send(answer(403, "<Error><Code>InvalidClientTokenId</Code></Error>"))]);
    assert_eq!(deliver(&aws).await, accepted("m1"));
    let seen = server.seen();
    assert_eq!(
        (signer(&seen[0], "secret-A2", "sns"), signer(&seen[1], "secret-A3", "sns")),
        ("A2".to_owned(), "A3".to_owned())
    );
}

#[test]
fn credentials_come_from_one_source() {
    let clock = Arc::new(ManualClock::default());
    let (keys, file) = ("access_key_id = \"A\"\nsecret_access_key = \"s\"", "credentials_file = \"/c\"");
    let role = "role_arn = \"r\"\nweb_identity_token_file = \"/t\"";
    for (settings, expected) in [
        (format!("{keys}\n{file}"), "credentials_file: goes without access_key_id"),
        (format!("{keys}\n{role}"), "role_arn: goes without access_key_id"),
        (format!("{file}\n{role}"), "role_arn: goes without credentials_file"),
        (format!("{role}\nsession_token = \"t\""), "session_token: goes with access_key_id"),
        (format!("{keys}\ncredentials_profile = \"p\""), "credentials_profile: goes with credentials_file"),
        (format!("{role}\nsts_url = \"http://sts.example.com\""), "sts_url: must be https"),
    ] {
        let settings = sns("https://sns.example.com", &format!("region = \"eu-central-1\"\n{settings}"));
        let wrong = provider(&settings, &[], &clock).err().unwrap_or_default();
        assert!(wrong.contains(&format!("providers.aws.{expected}")), "{settings}: {wrong}");
    }
    let shared = [("AWS_SHARED_CREDENTIALS_FILE", "/c"), ("AWS_REGION", "eu-central-1")];
    assert!(provider(&sns("https://sns.example.com", "credentials_profile = \"p\""), &shared, &clock).is_ok());
}

#[tokio::test]
async fn a_credentials_file_is_read_within_bounds() {
    let (server, clock) = (Server::start().await, Arc::new(ManualClock::default()));
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long");
    fs::write(&long, "x".repeat(100_000)).unwrap();
    // A pipe that nobody writes to: opening it blocks. One that has no end: it is not read to its end.
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, expected) in [(&long, REFUSED), (&pipe, FAILED), (&Path::new("/dev/zero").to_owned(), REFUSED)] {
        let settings =
            format!("region = \"eu-central-1\"\ntimeout = \"2s\"\ncredentials_file = \"{}\"", path.display());
        let aws = provider(&sns(&server.url(), &settings), &[], &clock).unwrap();
        assert_eq!(deliver(&aws).await, expected, "{path:?}");
    }
    // Lets the thread go that still waits for the pipe.
    drop(fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
    assert!(server.seen().is_empty());
}

/// A server for STS, one for SNS, and a provider whose role is assumed by a web identity.
struct Role {
    sts: Server,
    sns: Server,
    clock: Arc<ManualClock>,
    provider: Arc<dyn Provider>,
    _folder: tempfile::TempDir,
}

impl Role {
    async fn new() -> Self {
        let (sts, api, clock) = (Server::start().await, Server::start().await, Arc::new(ManualClock::default()));
        api.otherwise(Act::Send(answer(200, PUBLISHED)));
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, "web.identity.token\n").unwrap();
        let token = Path::new(&token).display().to_string();
        let variables = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/otpd"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ];
        let settings = sns(&api.url(), &format!("sts_url = \"{}\"", sts.url()));
        let provider = provider(&settings, &variables, &clock).unwrap();
        Self { sts, sns: api, clock, provider, _folder: folder }
    }
}

/// The answer of AWS's documentation, cut down.
fn assumed(id: &str, expiration: &str) -> Act {
    Act::Send(answer(
        200,
        &format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>token-{id}</SessionToken>\
             <SecretAccessKey>secret-{id}</SecretAccessKey><Expiration>{expiration}</Expiration>\
             <AccessKeyId>{id}</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        ),
    ))
}

#[tokio::test]
async fn a_role_is_assumed_and_renewed_before_its_credentials_end() {
    let role = Role::new().await;
    // The manual clock begins at 2023-11-14T22:13:20Z.
    role.sts.script([assumed("ASIA1", "2023-11-14T23:13:20Z"), assumed("ASIA2", "2023-11-15T00:13:20Z")]);
    for _ in 0..2 {
        assert_eq!(deliver(&role.provider).await, accepted("m1"));
    }
    let asked = role.sts.seen();
    assert_eq!(asked.len(), 1);
    let form: Vec<(String, String)> = form_urlencoded::parse(&asked[0].body).into_owned().collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        pair("Action", "AssumeRoleWithWebIdentity"),
        pair("Version", "2011-06-15"),
        pair("RoleArn", "arn:aws:iam::123456789012:role/otpd"),
        pair("RoleSessionName", "otpd"),
        pair("DurationSeconds", "3600"),
        pair("WebIdentityToken", "web.identity.token"),
    ];
    assert_eq!(form, expected);
    assert_eq!(asked[0].header("authorization"), None, "the call is not signed");
    for request in role.sns.seen() {
        assert_eq!(signer(&request, "secret-ASIA1", "sns"), "ASIA1");
        assert_eq!(request.header("x-amz-security-token"), Some("token-ASIA1"));
    }
    role.clock.pass(Duration::from_secs(3600 - 59));
    assert_eq!(deliver(&role.provider).await, accepted("m1"));
    assert_eq!(signer(&role.sns.seen().remove(0), "secret-ASIA2", "sns"), "ASIA2");
}

#[tokio::test]
async fn an_expired_token_is_replaced_once() {
    let role = Role::new().await;
    let soon = "2023-11-14T23:13:20Z";
    role.sts.script([assumed("ASIA1", soon), assumed("ASIA2", soon)]);
    let expired = answer(403, "<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>");
    role.sns.script([Act::Send(expired.clone()), Act::Send(answer(200, PUBLISHED))]);
    assert_eq!(deliver(&role.provider).await, accepted("m1"));
    role.sts.script([assumed("ASIA3", soon)]);
    role.sns.script([Act::Send(expired.clone()), Act::Send(expired)]);
    assert_eq!(deliver(&role.provider).await, REFUSED);
    assert_eq!((role.sts.seen().len(), role.sns.seen().len()), (3, 4));
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let error = |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
    for (act, expected) in [
        (Act::Send(answer(403, &error("AccessDenied"))), REFUSED),
        (Act::Send(answer(400, &error("InvalidIdentityToken"))), REFUSED),
        (Act::Send(answer(400, &error("ExpiredTokenException"))), REFUSED),
        (Act::Send(answer(400, &error("IDPCommunicationError"))), FAILED),
        (Act::Send(answer(503, "")), FAILED),
        (Act::Send(answer(200, "<html>")), FAILED),
        (Act::Close, FAILED),
    ] {
        let role = Role::new().await;
        role.sts.script([act.clone()]);
        assert_eq!(deliver(&role.provider).await, expected, "{act:?}");
        assert!(role.sns.seen().is_empty(), "{act:?}");
    }
}
