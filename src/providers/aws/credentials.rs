//! Where the credentials of an account come from: settings, variables, a shared credentials file, or a role that a web identity
//! may assume (IAM roles for service accounts).

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{fs::File, io::AsyncReadExt, time::timeout_at};

use super::{endpoint, field, printable};
use crate::{
    domain::time::Timestamp,
    ports::clock::Deadline,
    providers::{
        adapter::settings,
        http::{BaseUrl, Denied, Inbound, Issued, Outbound, Outside},
    },
    secret::Secret,
    settings::{Section, values},
};

/// How long the content of a shared credentials file is used before it is read again.
const FILE_LIFE: Duration = Duration::from_secs(300);

/// How long the credentials of a role are asked for, in seconds: every role allows an hour.
const ROLE_LIFE: u64 = 3600;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Access key and secret, and the token that goes with temporary ones.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret<String>,
    pub(super) session_token: Option<Secret<String>>,
}

/// Where keys come from.
#[derive(Clone)]
pub(super) enum Credentials {
    Given(Keys),
    File { path: PathBuf, profile: String },
    Role { token_file: PathBuf, role_arn: String, session_name: String, sts_url: BaseUrl },
}

impl Credentials {
    /// Reads them: what the settings say, or else what the variables of AWS's own tools say.
    pub(super) fn read(section: &mut Section<'_>, region: Option<&str>) -> Option<Self> {
        let id = section.optional_text("access_key_id", settings::word);
        let word = |text: &str| settings::word(text).map(Secret::new);
        let secret = section.optional_secret("secret_access_key", word);
        let token = section.optional_secret("session_token", word);
        let file = section.optional_text("credentials_file", values::path);
        let profile = section.optional_text("credentials_profile", settings::word);
        let role_arn = section.optional_text("role_arn", printable(2048));
        let token_file = section.optional_text("web_identity_token_file", values::path);
        let session_name = section.optional_text("role_session_name", session_name);
        let sts_url = section.text("sts_url", BaseUrl::parse);
        if sts_url.as_ref().is_some_and(BaseUrl::is_open) {
            section.cross_field_error("sts_url", "must be https: the identity is sent there");
        }
        if id.is_some() != secret.is_some() && !settings::is_wrong(section, "access_key_id") {
            section.cross_field_error("secret_access_key", "goes with access_key_id: set both or none");
            return None;
        }
        if role_arn.is_some() != token_file.is_some() && !settings::is_wrong(section, "role_arn") {
            section.cross_field_error("web_identity_token_file", "goes with role_arn: set both or none");
            return None;
        }
        let sources =
            [("access_key_id", id.is_some()), ("credentials_file", file.is_some()), ("role_arn", role_arn.is_some())];
        let mut set = sources.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
        if let (Some(first), Some(second)) = (set.next(), set.next()) {
            section.cross_field_error(second, format!("goes without {first}: credentials come from one source"));
            return None;
        }
        if token.is_some() && id.is_none() {
            section.cross_field_error("session_token", "goes with access_key_id and secret_access_key");
            return None;
        }
        if profile.is_some() && file.is_none() && section.variable("AWS_SHARED_CREDENTIALS_FILE").is_none() {
            section.cross_field_error("credentials_profile", "goes with credentials_file");
            return None;
        }
        if let Some((access_key_id, secret_access_key)) = id.zip(secret) {
            return Some(Self::Given(Keys { access_key_id, secret_access_key, session_token: token }));
        }
        let variable = |name| section.variable(name).map(str::to_owned);
        let profile = profile.or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned());
        if let Some(path) = file {
            return Some(Self::File { path, profile });
        }
        let sts_url = sts_url.or_else(|| BaseUrl::parse(&endpoint("sts", region?)).ok())?;
        let named = session_name.or_else(|| variable("AWS_ROLE_SESSION_NAME")).unwrap_or_else(|| "otpd".to_owned());
        let role = |(role_arn, token_file)| Self::Role { token_file, role_arn, session_name: named, sts_url };
        if let Some(set) = role_arn.zip(token_file) {
            return Some(role(set));
        }
        if let Some((access_key_id, secret)) = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")) {
            let session_token = variable("AWS_SESSION_TOKEN").map(Secret::new);
            return Some(Self::Given(Keys { access_key_id, secret_access_key: Secret::new(secret), session_token }));
        }
        let token_file = variable("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from);
        if let Some(set) = variable("AWS_ROLE_ARN").zip(token_file) {
            return Some(role(set));
        }
        if let Some(path) = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from) {
            return Some(Self::File { path, profile });
        }
        section.missing(
            "access_key_id",
            "credentials: keys, credentials_file, or role_arn and web_identity_token_file, here or as AWS_… variables",
        );
        None
    }

    /// The keys that need not be fetched.
    pub(super) fn given(&self) -> Option<&Keys> {
        if let Self::Given(keys) = self { Some(keys) } else { None }
    }

    /// Fetches the keys.
    pub(super) async fn fetch(&self, outside: &Outside<'_>) -> Result<Issued<Keys>, Denied> {
        match self {
            Self::Given(keys) => Ok(Issued { value: keys.clone(), life: FILE_LIFE }),
            Self::File { path, profile } => {
                let text = read(path, outside.deadline()).await?;
                let keys = of_profile(text.expose(), profile);
                let value = keys.ok_or(Denied::Refused("the credentials file has no keys for the profile"))?;
                Ok(Issued { value, life: FILE_LIFE })
            }
            Self::Role { token_file, role_arn, session_name, sts_url } => {
                let token = read(token_file, outside.deadline()).await?;
                let life = ROLE_LIFE.to_string();
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role_arn),
                    ("RoleSessionName", session_name),
                    ("DurationSeconds", &life),
                    ("WebIdentityToken", token.expose().trim()),
                ];
                let request = Outbound::post(sts_url.join("/")).form(&form);
                let answer = outside.ask(&request).await.ok_or(Denied::Unavailable("STS did not answer"))?;
                assumed(&answer, outside.now())
            }
        }
    }
}

/// What STS answered (AWS STS API, "AssumeRoleWithWebIdentity").
fn assumed(answer: &Inbound, now: Timestamp) -> Result<Issued<Keys>, Denied> {
    match answer.status {
        200 => {
            let get = |name| field(answer, name);
            let secret = |name| get(name).map(Secret::new);
            let keys = get("AccessKeyId").zip(secret("SecretAccessKey")).zip(secret("SessionToken"));
            let ((access_key_id, secret_access_key), session_token) =
                keys.ok_or(Denied::Unavailable("the answer of STS is not understood"))?;
            let life = get("Expiration").and_then(|text| since(&text, now)).unwrap_or(Duration::from_secs(ROLE_LIFE));
            let value = Keys { access_key_id, secret_access_key, session_token: Some(session_token) };
            Ok(Issued { value, life: life.min(Duration::from_secs(ROLE_LIFE)) })
        }
        // IDPCommunicationError, which comes with 400, may pass.
        429 | 500.. => Err(Denied::Unavailable("STS has trouble")),
        _ if answer.text().contains("IDPCommunicationError") => Err(Denied::Unavailable("STS has trouble")),
        _ => Err(Denied::Refused("STS refuses the role")),
    }
}

/// The span until a time, which is written as RFC 3339 or in seconds since 1970.
fn since(text: &str, now: Timestamp) -> Option<Duration> {
    let written =
        humantime::parse_rfc3339_weak(text).ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let counted = || text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let until = written.or_else(counted)?;
    Some(until.saturating_sub(Duration::from_millis(now.as_millis())))
}

/// Reads a file. One that blocks, such as a pipe or a file of a server that is away, costs no more than the call.
async fn read(path: &Path, deadline: Deadline) -> Result<Secret<String>, Denied> {
    let reading = async {
        let mut text = String::new();
        File::open(path).await?.take(MAX_FILE + 1).read_to_string(&mut text).await?;
        Ok::<_, io::Error>(Secret::new(text))
    };
    let text = timeout_at(deadline.instant(), reading).await;
    let text = text.map_err(|_| Denied::Unavailable("a file of the credentials was not read in time"))?;
    let text = text.map_err(|_| Denied::Unavailable("a file of the credentials cannot be read"))?;
    if u64::try_from(text.expose().len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(text)
    } else {
        Err(Denied::Refused("a file of the credentials is too long"))
    }
}

/// The keys of a profile in a shared credentials file (AWS SDKs and Tools Reference, "Shared config and credentials files").
fn of_profile(text: &str, profile: &str) -> Option<Keys> {
    let mut is_inside = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_inside = name.trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            let value = settings::word(value.trim()).ok();
            match key.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value.map(Secret::new),
                "aws_session_token" => token = value.map(Secret::new),
                _ => {}
            }
        }
    }
    Some(Keys { access_key_id: id?, secret_access_key: secret?, session_token: token })
}

/// A name of a session: 2 to 64 of `[\w+=,.@-]`.
fn session_name(text: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    let fits = (2..=64).contains(&text.len()) && text.bytes().all(letter);
    if fits { Ok(text.to_owned()) } else { Err("must be 2 to 64 of [A-Za-z0-9_+=,.@-]".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_its_own_keys() {
        let file = "# c\n[default]\naws_access_key_id = A\naws_secret_access_key=s/1\n\n[other]\r\naws_access_key_id=B\r\n\
                    aws_secret_access_key = s2\r\naws_session_token = t\r\n[bare]\naws_access_key_id=C\n";
        let keys = |profile| of_profile(file, profile).map(|keys| (keys.access_key_id, keys.session_token.is_some()));
        assert_eq!(keys("default"), Some(("A".to_owned(), false)));
        assert_eq!(keys("other"), Some(("B".to_owned(), true)));
        assert_eq!((keys("bare"), keys("none")), (None, None));
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let now = Timestamp::from_millis(1_481_414_400_000);
        for text in ["2016-12-11T00:10:00Z", "2016-12-11T00:10:00.000Z", "1481415000", "1.481415E9"] {
            assert_eq!(since(text, now), Some(Duration::from_secs(600)), "{text}");
        }
        assert_eq!(since("2016-12-10T00:00:00Z", now), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "inf"] {
            assert_eq!(since(text, now), None, "{text}");
        }
    }
}
