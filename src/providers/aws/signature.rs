//! Signature Version 4 of requests, by the crate of AWS.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use tracing::Dispatch;

use super::{
    Fault,
    credentials::{Credentials, Keys},
};
use crate::{
    domain::time::Timestamp,
    providers::http::{Authorised, Authority, Denied, Inbound, Outbound, Outside, Renewable},
};

/// Signs requests to one service in one region.
pub(super) struct Signature {
    service: &'static str,
    region: String,
    credentials: Credentials,
    fetched: Renewable<Keys>,
}

impl Signature {
    pub(super) fn new(service: &'static str, region: String, credentials: Credentials) -> Self {
        Self { service, region, credentials, fetched: Renewable::new() }
    }

    fn sign(&self, request: &Outbound, keys: &Keys, now: Timestamp) -> Option<Outbound> {
        let token = keys.session_token.as_ref().map(|token| token.expose().clone());
        let (id, secret) = (keys.access_key_id.clone(), keys.secret_access_key.expose().clone());
        let identity = AwsCredentials::new(id, secret, token, None, "otpd").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(now.as_millis()))
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.expose().as_str()));
        let body = SignableBody::Bytes(request.content().expose());
        let signable = SignableRequest::new(request.method().as_str(), request.url().expose(), headers, body).ok()?;
        // The crate traces what it signs, with the access key and, where a variable says so, the body.
        let signed = tracing::dispatcher::with_default(&Dispatch::none(), || sign(signable, &params));
        let (instructions, _) = signed.ok()?.into_parts();
        let added = instructions.headers();
        Some(added.fold(request.clone(), |request, (name, value)| request.header(name, value)))
    }
}

#[async_trait]
impl Authority for Signature {
    async fn authorise(&self, request: &Outbound, outside: &Outside<'_>) -> Result<Authorised, Denied> {
        let (keys, credentials) = match self.credentials.given() {
            Some(keys) => (keys.clone(), 0),
            None => self.fetched.get(outside, async || self.credentials.fetch(outside).await).await?,
        };
        let signed = self.sign(request, &keys, outside.now());
        Ok(Authorised { request: signed.ok_or(Denied::Refused("the request cannot be signed"))?, credentials })
    }

    fn is_outdated(&self, credentials: u64, answer: &Inbound) -> bool {
        let fault = || Fault::of(answer);
        let refused = matches!(answer.status, 400 | 401 | 403) && fault().is_about_credentials();
        let renewable = refused && self.credentials.given().is_none();
        if renewable {
            self.fetched.forget(credentials);
        }
        renewable
    }
}
