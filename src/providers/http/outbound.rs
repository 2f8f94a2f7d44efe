//! A request to a provider. It cannot be printed, because it holds codes, destinations and credentials.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use serde::Serialize;

use crate::secret::Secret;

/// A request to a provider.
#[derive(Clone)]
pub struct Outbound {
    pub(super) method: Method,
    pub(super) url: Secret<String>,
    pub(super) headers: Vec<(String, Secret<String>)>,
    pub(super) body: Secret<Vec<u8>>,
}

impl Outbound {
    /// A request without a body.
    pub fn new(method: Method, url: String) -> Self {
        Self { method, url: Secret::new(url), headers: Vec::new(), body: Secret::new(Vec::new()) }
    }

    /// A POST.
    pub fn post(url: String) -> Self {
        Self::new(Method::POST, url)
    }

    /// A GET.
    pub fn get(url: String) -> Self {
        Self::new(Method::GET, url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), Secret::new(value.to_owned())));
        self
    }

    /// Authorises with user and password (RFC 7617).
    #[must_use]
    pub fn basic(self, user: &str, password: &Secret<String>) -> Self {
        let pair = Secret::new(format!("{user}:{}", password.expose()));
        let value = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
        self.header("authorization", value.expose())
    }

    /// Authorises with a token (RFC 6750).
    #[must_use]
    pub fn bearer(self, token: &Secret<String>) -> Self {
        let value = Secret::new(format!("Bearer {}", token.expose()));
        self.header("authorization", value.expose())
    }

    /// Adds a query string of encoded pairs.
    #[must_use]
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        let query = encoded(pairs);
        let joint = if self.url.expose().contains('?') { '&' } else { '?' };
        self.url = Secret::new(format!("{}{joint}{}", self.url.expose(), query.expose()));
        self
    }

    /// A body of JSON.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        // Adapters serialise structures, and maps with text keys, which cannot fail.
        self.body = Secret::new(serde_json::to_vec(body).unwrap_or_default());
        self.header("content-type", "application/json")
    }

    /// A body of encoded pairs.
    #[must_use]
    pub fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        self.body = Secret::new(encoded(pairs).expose().clone().into_bytes());
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    /// A body of any type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.body = Secret::new(body);
        self.header("content-type", content_type)
    }

    /// The method, for authorities and tests.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The URL, for authorities and tests.
    pub fn url(&self) -> &Secret<String> {
        &self.url
    }

    /// The headers, for authorities and tests.
    pub fn headers(&self) -> &[(String, Secret<String>)] {
        &self.headers
    }

    /// The body, for authorities and tests.
    pub fn content(&self) -> &Secret<Vec<u8>> {
        &self.body
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({})", self.method)
    }
}

fn encoded(pairs: &[(&str, &str)]) -> Secret<String> {
    Secret::new(form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}
