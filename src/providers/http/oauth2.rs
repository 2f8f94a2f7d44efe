//! OAuth 2.0 client credentials (RFC 6749, 4.4): a token that otpd fetches with a secret, and sends with each request.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::{
    BaseUrl, Inbound, Outbound,
    authority::{Authorised, Authority, Denied, Outside},
    renewable::{Issued, Renewable},
};
use crate::{
    providers::adapter::{answer, settings},
    secret::Secret,
    settings::{Section, values},
};

/// How long a token is used whose answer does not say how long it lasts.
const UNSTATED_LIFE: Duration = Duration::from_secs(300);
const LONGEST_LIFE: u64 = 86_400;

/// The longest token that is sent, in bytes: more than servers read as one header.
const MAX_TOKEN: usize = 16 * 1024;

/// Where tokens come from, and what for.
#[derive(Clone)]
pub(in crate::providers) struct OAuth2 {
    token_url: BaseUrl,
    client_id: String,
    client_secret: Secret<String>,
    scope: Option<String>,
    audience: Option<String>,
    in_body: bool,
}

impl OAuth2 {
    /// Reads `[providers.NAME.oauth2]`; `None` where there is none, or it is wrong.
    pub(in crate::providers) fn read(section: &mut Section<'_>) -> Option<Self> {
        section.section("oauth2", |section| {
            if section.is_empty() {
                return None;
            }
            let parse = |text: &str| BaseUrl::parse(text).map_err(|_| "must be a URL without a query".to_owned());
            let token_url = settings::required(section, "token_url", "where tokens are given out", parse);
            if token_url.as_ref().is_some_and(BaseUrl::is_open) {
                section.cross_field_error("token_url", "must be https: the secret is sent there");
            }
            let client_id = settings::required(section, "client_id", "the name of otpd there", settings::word);
            let client_secret = settings::secret(section, "client_secret", "its secret");
            let scope = section.optional_text("scope", settings::header_text);
            let audience = section.optional_text("audience", settings::header_text);
            let in_body =
                section.text("client_auth", values::word(&[("basic", false), ("body", true)])).unwrap_or(false);
            Some(Self {
                token_url: token_url?,
                client_id: client_id?,
                client_secret: client_secret?,
                scope,
                audience,
                in_body,
            })
        })
    }

    /// The authority that fetches and keeps tokens.
    pub(in crate::providers) fn authority(self) -> Box<dyn Authority> {
        Box::new(Bearer { source: self, token: Renewable::new() })
    }

    /// The request for a token.
    fn request(&self) -> Outbound {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(self.audience.as_deref().map(|audience| ("audience", audience)));
        let request = Outbound::post(self.token_url.join(""));
        if self.in_body {
            form.extend([("client_id", self.client_id.as_str()), ("client_secret", self.client_secret.expose())]);
            return request.form(&form);
        }
        // Both are encoded as in a form before they are put together (RFC 6749, 2.3.1).
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (user, password) = (encode(&self.client_id), Secret::new(encode(self.client_secret.expose())));
        request.basic(&user, &password).form(&form)
    }

    async fn fetch(&self, outside: &Outside<'_>) -> Result<Issued<Secret<String>>, Denied> {
        let answer =
            outside.ask(&self.request()).await.ok_or(Denied::Unavailable("the token server did not answer"))?;
        match answer.status {
            200 => match answer.json() {
                Some(token) => Token::issued(token).ok_or(Denied::Unavailable("the token cannot be sent")),
                None => Err(Denied::Unavailable("the token server's answer is not understood")),
            },
            429 | 500.. => Err(Denied::Unavailable("the token server has trouble")),
            _ => Err(Denied::Refused("the token server refuses otpd's credentials")),
        }
    }
}

/// The answer with a token (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Token {
    access_token: String,
    /// Seconds. Some servers write the number as a text.
    #[serde(default, deserialize_with = "answer::lenient")]
    expires_in: String,
}

impl Token {
    fn issued(self) -> Option<Issued<Secret<String>>> {
        let token = Secret::new(self.access_token);
        let fits = !token.expose().is_empty()
            && token.expose().len() <= MAX_TOKEN
            && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
        let seconds: Option<u64> = self.expires_in.parse().ok();
        let life = seconds.map_or(UNSTATED_LIFE, |seconds| Duration::from_secs(seconds.min(LONGEST_LIFE)));
        fits.then_some(Issued { value: token, life })
    }
}

/// Sends a token with each request.
struct Bearer {
    source: OAuth2,
    token: Renewable<Secret<String>>,
}

#[async_trait]
impl Authority for Bearer {
    async fn authorise(&self, request: &Outbound, outside: &Outside<'_>) -> Result<Authorised, Denied> {
        let (token, credentials) = self.token.get(outside, async || self.source.fetch(outside).await).await?;
        Ok(Authorised { request: request.clone().bearer(&token), credentials })
    }

    fn is_outdated(&self, credentials: u64, answer: &Inbound) -> bool {
        let refused = answer.status == 401;
        if refused {
            self.token.forget(credentials);
        }
        refused
    }
}
