//! Forward proxies: which one a provider is reached through, and connections that are tunnelled by CONNECT (RFC 9110, 9.3.6).
//!
//! A proxy sees the host and the port of an https provider and nothing of the calls. One that is reached over TLS itself, and
//! SOCKS, are not supported.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri};
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::Service;

use super::BaseUrl;
use crate::secret::Secret;

/// The word for no proxy.
const DIRECT: &str = "direct";

/// Which proxy a provider is reached through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyChoice {
    /// None, whatever the environment says.
    Direct,
    /// This one.
    Through(ProxyUrl),
}

/// A proxy and the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    uri: Uri,
    authorization: Option<Secret<String>>,
}

impl ProxyChoice {
    /// Parses `direct` or `http://[user:password@]host:port`.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == DIRECT {
            return Ok(Self::Direct);
        }
        let wrong =
            || "must be http://host:port, with user:password@ where the proxy asks for it, or direct".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let (user, host) =
            authority.as_str().rsplit_once('@').map_or((None, authority.as_str()), |(user, host)| (Some(user), host));
        let port = if authority.port().is_some() { "" } else { ":80" };
        let uri = Uri::builder().scheme("http").authority(format!("{host}{port}")).path_and_query("/").build();
        let authorization = user.map(|user| {
            // Percent-encoded, as in every URL (RFC 3986, 3.2.1): decoding it as a form value differs in the plus alone.
            let pair = format!("pair={}", user.replace('+', "%2B"));
            let pair = form_urlencoded::parse(pair.as_bytes()).next().map(|(_, pair)| pair.into_owned());
            Secret::new(format!("Basic {}", STANDARD.encode(pair.unwrap_or_default())))
        });
        Ok(Self::Through(ProxyUrl { uri: uri.map_err(|_| wrong())?, authorization }))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}

/// The proxies of the environment: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl reads them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    https: String,
    http: String,
    all: String,
    no: String,
}

impl ProxyVariables {
    /// Reads them by a function that tells the value of a variable. HTTP_PROXY is read in lower case alone, because a request
    /// can set the other in CGI.
    pub(crate) fn read<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Self {
        // Like curl: without a scheme it is http.
        let with_scheme = |text: &str| {
            if text.is_empty() || text.contains("://") { text.to_owned() } else { format!("http://{text}") }
        };
        let first = |names: [&str; 2]| with_scheme(names.into_iter().find_map(&variable).unwrap_or_default());
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: with_scheme(variable("http_proxy").unwrap_or_default()),
            all: first(["ALL_PROXY", "all_proxy"]),
            no: ["NO_PROXY", "no_proxy"].into_iter().find_map(&variable).unwrap_or_default().to_owned(),
        }
    }

    /// The variables that name no proxy that can be used.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = &'static str> {
        let all = [("HTTPS_PROXY", &self.https), ("http_proxy", &self.http), ("ALL_PROXY", &self.all)];
        all.into_iter().filter(|(_, text)| !text.is_empty() && ProxyChoice::parse(text).is_err()).map(|(name, _)| name)
    }

    /// The proxy for a provider there. Hosts of this machine are reached without one.
    pub(in crate::providers) fn choice(&self, base_url: &BaseUrl) -> Option<ProxyChoice> {
        let matcher = Matcher::builder().no(self.no.clone()).all("http://any").build();
        let uri = base_url.uri()?;
        if base_url.is_loopback() || matcher.intercept(&uri).is_none() {
            return None;
        }
        let own = if uri.scheme() == Some(&uri::Scheme::HTTPS) { &self.https } else { &self.http };
        let text = if own.is_empty() { &self.all } else { own };
        ProxyChoice::parse(text).ok()
    }
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyVariables(..)")
    }
}

/// Makes connections, directly or by a tunnel.
#[derive(Clone)]
pub(super) enum Connector {
    Direct(HttpConnector),
    Tunnel(Tunnel<HttpConnector>),
}

impl Connector {
    pub(super) fn new(http: HttpConnector, choice: Option<&ProxyChoice>) -> Self {
        let Some(ProxyChoice::Through(proxy)) = choice else { return Self::Direct(http) };
        let tunnel = Tunnel::new(proxy.uri.clone(), http);
        let authorization = proxy.authorization.as_ref().and_then(|text| HeaderValue::from_str(text.expose()).ok());
        Self::Tunnel(match authorization {
            Some(authorization) => tunnel.with_auth(authorization),
            None => tunnel,
        })
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Direct(http) => http.poll_ready(cx).map_err(io::Error::other),
            Self::Tunnel(tunnel) => tunnel.poll_ready(cx).map_err(io::Error::other),
        }
    }

    fn call(&mut self, to: Uri) -> Connecting {
        match self {
            Self::Direct(http) => {
                let connecting = http.call(to);
                Box::pin(async move { connecting.await.map_err(io::Error::other) })
            }
            Self::Tunnel(tunnel) => {
                let connecting = tunnel.call(with_port(to));
                Box::pin(async move { connecting.await.map_err(io::Error::other) })
            }
        }
    }
}

/// The URI with its port, since a tunnel takes 443 where there is none.
fn with_port(to: Uri) -> Uri {
    let mut parts = to.clone().into_parts();
    if let (Some("http"), Some(host), None) = (to.scheme_str(), to.host(), to.port()) {
        parts.authority = format!("{host}:80").parse().ok();
    }
    Uri::from_parts(parts).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_http_with_a_host() {
        for good in ["http://proxy:3128", "http://proxy", "http://u:p%40@proxy:1/", "http://[::1]:3128"] {
            assert!(matches!(ProxyChoice::parse(good), Ok(ProxyChoice::Through(_))), "{good}");
        }
        assert_eq!(ProxyChoice::parse(" direct "), Ok(ProxyChoice::Direct));
        for bad in ["", "proxy:3128", "https://proxy:3128", "socks5://proxy:1", "http://", "http://p/x", "http://p/?q"]
        {
            assert!(ProxyChoice::parse(bad).is_err(), "{bad}");
        }
        let Ok(ProxyChoice::Through(proxy)) = ProxyChoice::parse("http://us+er:p%40ss@proxy") else { panic!() };
        assert_eq!((proxy.uri.to_string().as_str(), proxy.uri.port_u16()), ("http://proxy:80/", Some(80)));
        assert_eq!(proxy.authorization.unwrap().expose(), &format!("Basic {}", STANDARD.encode("us+er:p@ss")));
    }

    #[test]
    fn the_environment_names_a_proxy_by_scheme_and_host() {
        let variables = |pairs: &'static [(&str, &str)]| {
            ProxyVariables::read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        let host = |variables: &ProxyVariables, base_url: &str| {
            let choice = variables.choice(&BaseUrl::parse(base_url).unwrap());
            choice.and_then(|choice| match choice {
                ProxyChoice::Through(proxy) => proxy.uri.host().map(str::to_owned),
                ProxyChoice::Direct => None,
            })
        };
        let all = variables(&[
            ("HTTPS_PROXY", "http://secure:1"),
            ("http_proxy", "http://plain:1"),
            ("NO_PROXY", "internal.example,.corp.example,10.0.0.0/8"),
        ]);
        for (base_url, expected) in [
            ("https://api.example.com", Some("secure")),
            ("http://api.example.com:8080/v1", Some("plain")),
            ("https://internal.example", None),
            ("https://a.corp.example", None),
            ("https://10.1.2.3", None),
            ("http://127.0.0.1:1", None),
            ("https://localhost", None),
        ] {
            assert_eq!(host(&all, base_url).as_deref(), expected, "{base_url}");
        }
        let other = variables(&[("all_proxy", "any:1"), ("HTTP_PROXY", "http://cgi:1")]);
        assert_eq!(host(&other, "http://a").as_deref(), Some("any"));
        assert_eq!(host(&ProxyVariables::default(), "https://a"), None);
        let wrong = variables(&[("https_proxy", "socks5://a:1")]);
        assert_eq!(wrong.unusable().collect::<Vec<_>>(), ["HTTPS_PROXY"]);
    }

    #[test]
    fn a_tunnel_goes_to_the_port_of_the_scheme() {
        for (uri, expected) in
            [("http://a/x", "http://a:80/x"), ("http://a:8/", "http://a:8/"), ("https://a/", "https://a/")]
        {
            assert_eq!(with_port(uri.parse().unwrap()).to_string(), expected);
        }
    }
}
