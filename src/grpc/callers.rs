//! Who calls: what a call shows of its caller, and whom that makes known.
//!
//! A call may show a client certificate, headers of a trusted sidecar, and a bearer token. Whatever it shows must be good, and all
//! of it must be of one caller: nothing falls back to something weaker, and what is wrong is as good as nothing at all.

use std::{
    collections::HashMap,
    iter::{empty, once},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use subtle::Choice;

use super::{shed::CallerCalls, xfcc::ForwardedCertificate};
use crate::domain::{
    caller::{CallerName, CallerRights, ListedCaller},
    identity::{Identity, SidecarTrust, TokenHash},
};

/// What Envoy tells of the certificate of its client.
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// What the proxy of Linkerd tells of its client.
const L5D_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
/// How a bearer token begins (RFC 6750, 2.1). The scheme is in any case (RFC 9110, 11.1).
const BEARER: &[u8] = b"bearer ";
/// The longest bearer token.
const MAX_TOKEN: usize = 4096;

/// A caller that is known, with the calls of it that are worked on.
#[derive(Debug)]
pub(crate) struct KnownCaller {
    /// `None` on a server that knows no callers.
    pub(crate) name: Option<CallerName>,
    /// What it may do.
    pub(crate) rights: Arc<CallerRights>,
    calls: CallerCalls,
}

impl KnownCaller {
    fn new(name: Option<CallerName>, rights: CallerRights) -> Arc<Self> {
        let calls = CallerCalls::at_most(rights.max_in_flight);
        Arc::new(Self { name, rights: Arc::new(rights), calls })
    }

    /// Its calls on all connections, which share its permits. On a server that knows no callers each connection has its own.
    pub(super) fn counted(&self) -> Option<&CallerCalls> {
        self.name.is_some().then_some(&self.calls)
    }

    /// Whoever calls a server that knows no callers.
    pub(crate) fn everybody() -> Arc<Self> {
        Self::new(None, CallerRights::of_everybody())
    }
}

/// What one part of a call shows of its caller.
#[derive(Clone, Debug, Default)]
pub(crate) enum ShownIdentity {
    /// It is not there.
    #[default]
    Nothing,
    /// It is malformed, or of nobody that is known.
    Unknown,
    /// It is good.
    Of(Arc<KnownCaller>),
}

/// What is known of the other side of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerIdentity {
    /// Whether it is on this machine: over loopback or a Unix socket.
    pub(crate) is_local: bool,
    /// By its client certificate, which an authority of ours has signed.
    pub(crate) certificate: ShownIdentity,
}

/// All callers, and how they are known.
pub(crate) enum CallerDirectory {
    /// No callers are configured: whoever reaches the port may do everything.
    Everybody(Arc<KnownCaller>),
    /// The same, but for those without a certificate of our authority.
    Certified(Arc<KnownCaller>),
    /// Those that are configured.
    Listed(ListedCallers),
}

/// Callers by their identities.
pub(crate) struct ListedCallers {
    by_certificate: HashMap<Identity, Arc<KnownCaller>>,
    by_token: Vec<(TokenHash, Arc<KnownCaller>)>,
    sidecar: SidecarTrust,
}

impl CallerDirectory {
    /// `needs_certificate`: where no callers are listed, only those with a certificate of our authority are served.
    pub(crate) fn new(listed: &[ListedCaller], sidecar: SidecarTrust, needs_certificate: bool) -> Self {
        if listed.is_empty() {
            let everybody = KnownCaller::everybody();
            return if needs_certificate { Self::Certified(everybody) } else { Self::Everybody(everybody) };
        }
        let (mut by_certificate, mut by_token) = (HashMap::new(), Vec::new());
        for listed in listed {
            let caller = KnownCaller::new(Some(listed.name.clone()), listed.rights.clone());
            for identity in &listed.identities {
                if let Identity::Token(hash) = identity {
                    by_token.push((*hash, Arc::clone(&caller)));
                } else {
                    by_certificate.insert(identity.clone(), Arc::clone(&caller));
                }
            }
        }
        Self::Listed(ListedCallers { by_certificate, by_token, sidecar })
    }

    /// Who shows a certificate with these names.
    pub(crate) fn of_certificate<'a>(
        &self,
        uris: impl Iterator<Item = &'a str>,
        dns: impl Iterator<Item = &'a str>,
    ) -> ShownIdentity {
        match self {
            Self::Everybody(caller) | Self::Certified(caller) => ShownIdentity::Of(Arc::clone(caller)),
            Self::Listed(callers) => callers.of_names(uris, dns),
        }
    }

    /// Who connects over a Unix socket, where no certificate can be shown. Its mode tells who may: where no callers are listed,
    /// these are served.
    pub(super) fn of_socket(&self) -> ShownIdentity {
        match self {
            Self::Everybody(caller) | Self::Certified(caller) => ShownIdentity::Of(Arc::clone(caller)),
            Self::Listed(_) => ShownIdentity::Nothing,
        }
    }

    /// Whether nobody is a stranger.
    pub(super) fn is_everybody(&self) -> bool {
        matches!(self, Self::Everybody(_))
    }

    /// Who makes a call; `None`: it is not known.
    pub(crate) fn of_call(&self, peer: &PeerIdentity, headers: &HeaderMap) -> Option<Arc<KnownCaller>> {
        match (self, &peer.certificate) {
            (Self::Everybody(caller), _) | (Self::Certified(caller), ShownIdentity::Of(_)) => Some(Arc::clone(caller)),
            (Self::Certified(_), ShownIdentity::Nothing | ShownIdentity::Unknown) => None,
            (Self::Listed(callers), certificate) => callers.of_call(peer.is_local, certificate, headers),
        }
    }
}

impl ListedCallers {
    fn of_call(&self, is_local: bool, certificate: &ShownIdentity, headers: &HeaderMap) -> Option<Arc<KnownCaller>> {
        let forwarded =
            if is_local { self.of_sidecar(headers) } else { [ShownIdentity::Nothing, ShownIdentity::Nothing] };
        let mut found: Option<Arc<KnownCaller>> = None;
        for shown in forwarded.into_iter().chain([certificate.clone(), self.of_token(headers)]) {
            match (shown, &found) {
                (ShownIdentity::Nothing, _) => {}
                (ShownIdentity::Of(caller), None) => found = Some(caller),
                (ShownIdentity::Of(caller), Some(other)) if Arc::ptr_eq(&caller, other) => {}
                (ShownIdentity::Of(_), Some(_)) | (ShownIdentity::Unknown, _) => return None,
            }
        }
        found
    }

    fn of_sidecar(&self, headers: &HeaderMap) -> [ShownIdentity; 2] {
        let xfcc = if self.sidecar.xfcc_by.is_empty() { ShownIdentity::Nothing } else { self.of_xfcc(headers) };
        let l5d = if self.sidecar.l5d_client_id { self.of_l5d(headers) } else { ShownIdentity::Nothing };
        [xfcc, l5d]
    }

    fn of_xfcc(&self, headers: &HeaderMap) -> ShownIdentity {
        let lines: Vec<&[u8]> = headers.get_all(XFCC).iter().map(HeaderValue::as_bytes).collect();
        if lines.is_empty() {
            return ShownIdentity::Nothing;
        }
        let is_ours = |by: &String| Identity::spiffe(by).is_some_and(|by| self.sidecar.xfcc_by.contains(&by));
        // Earlier elements may be the caller's own; the last one is our sidecar's.
        let Ok(last) = ForwardedCertificate::last_of(&lines, is_ours) else { return ShownIdentity::Unknown };
        if last.by.is_empty() || !last.by.iter().all(is_ours) || last.has_uri_after_dns {
            return ShownIdentity::Unknown;
        }
        // Envoy writes an empty one where the certificate has none.
        let uris = if last.uris == [""] { &[] } else { last.uris.as_slice() };
        self.of_names(uris.iter().map(String::as_str), last.dns.iter().map(String::as_str))
    }

    fn of_l5d(&self, headers: &HeaderMap) -> ShownIdentity {
        match only(headers, L5D_CLIENT_ID) {
            Only::None => ShownIdentity::Nothing,
            Only::One(value) => match value.to_str() {
                Ok(uri) if uri.contains("://") => self.of_names(once(uri), empty()),
                Ok(name) => self.of_names(empty(), once(name)),
                Err(_) => ShownIdentity::Unknown,
            },
            Only::Several => ShownIdentity::Unknown,
        }
    }

    /// By the names of a certificate: its one URI, or where it has none, its DNS names, which must be of one caller.
    fn of_names<'a>(&self, uris: impl Iterator<Item = &'a str>, dns: impl Iterator<Item = &'a str>) -> ShownIdentity {
        let uris: Vec<&str> = uris.take(2).collect();
        let known = |identity: Option<Identity>| self.by_certificate.get(&identity?);
        match uris.as_slice() {
            [] => {
                let mut found: Option<&Arc<KnownCaller>> = None;
                for caller in dns.filter_map(|name| known(Identity::dns(name))) {
                    if found.is_some_and(|other| !Arc::ptr_eq(caller, other)) {
                        return ShownIdentity::Unknown;
                    }
                    found = Some(caller);
                }
                found.map_or(ShownIdentity::Unknown, |caller| ShownIdentity::Of(Arc::clone(caller)))
            }
            [uri] => known(Identity::spiffe(uri))
                .map_or(ShownIdentity::Unknown, |caller| ShownIdentity::Of(Arc::clone(caller))),
            _ => ShownIdentity::Unknown,
        }
    }

    fn of_token(&self, headers: &HeaderMap) -> ShownIdentity {
        let value = match only(headers, AUTHORIZATION) {
            Only::None => return ShownIdentity::Nothing,
            Only::One(value) => value.as_bytes(),
            Only::Several => return ShownIdentity::Unknown,
        };
        let Some((scheme, token)) = value.split_at_checked(BEARER.len()) else { return ShownIdentity::Unknown };
        let token = token.trim_ascii();
        let is_token = (1..=MAX_TOKEN).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        if !scheme.eq_ignore_ascii_case(BEARER) || !is_token {
            return ShownIdentity::Unknown;
        }
        let hash = TokenHash::of(token);
        // All are compared, so that the time tells nothing of them.
        let mut found = None;
        for (known, caller) in &self.by_token {
            let matches: Choice = known.matches(&hash);
            if matches.into() {
                found = Some(caller);
            }
        }
        found.map_or(ShownIdentity::Unknown, |caller| ShownIdentity::Of(Arc::clone(caller)))
    }
}

/// A header that may be there once.
enum Only<'a> {
    None,
    One(&'a HeaderValue),
    Several,
}

fn only(headers: &HeaderMap, name: HeaderName) -> Only<'_> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Only::None,
        (Some(value), None) => Only::One(value),
        (Some(_), Some(_)) => Only::Several,
    }
}

#[cfg(test)]
mod tests;
