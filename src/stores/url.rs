//! The address of a store: checked when it is read, and masked when it is shown.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use redis::{ConnectionInfo, IntoConnectionInfo};

/// A checked address. Showing it never shows its credentials.
#[derive(Clone)]
pub struct StoreUrl(StoreAddress);

#[derive(Clone)]
enum StoreAddress {
    Embedded(PathBuf),
    Redis { shown: String, server: Box<ConnectionInfo> },
}

/// Why a text is no address. Never quotes what may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// No known scheme.
    #[error("is none of embedded:DIR, redis://, rediss://, redis+unix://")]
    UnknownScheme,
    /// A scheme that is reserved.
    #[error("{0} is not supported yet")]
    NotSupported(&'static str),
    /// `embedded:` and nothing else.
    #[error("embedded: needs a directory")]
    NoDirectory,
    /// The rest of the address is wrong.
    #[error("is no valid {0} address")]
    Malformed(&'static str),
}

const EMBEDDED: &str = "embedded:";
const REDIS: [&str; 3] = ["redis://", "rediss://", "redis+unix://"];
const NOT_YET: [&str; 2] = ["redis-cluster://", "redis-sentinel://"];

impl StoreUrl {
    /// The directory of an embedded store.
    pub fn directory(&self) -> Option<&Path> {
        match &self.0 {
            StoreAddress::Embedded(directory) => Some(directory),
            StoreAddress::Redis { .. } => None,
        }
    }

    /// Where and how to connect to Redis.
    pub(super) fn server(&self) -> Option<&ConnectionInfo> {
        match &self.0 {
            StoreAddress::Embedded(_) => None,
            StoreAddress::Redis { server, .. } => Some(server),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(directory) = text.strip_prefix(EMBEDDED) {
            let address = StoreAddress::Embedded(PathBuf::from(directory));
            return if directory.is_empty() { Err(StoreUrlError::NoDirectory) } else { Ok(Self(address)) };
        }
        if let Some(scheme) = NOT_YET.into_iter().find(|scheme| text.starts_with(scheme)) {
            return Err(StoreUrlError::NotSupported(scheme));
        }
        let scheme = REDIS.into_iter().find(|scheme| text.starts_with(scheme)).ok_or(StoreUrlError::UnknownScheme)?;
        let rest = text.strip_prefix(scheme).unwrap_or_default();
        // An empty host would silently mean localhost.
        if rest.is_empty() || rest.starts_with('?') {
            return Err(StoreUrlError::Malformed(scheme));
        }
        let server = text.into_connection_info().map_err(|_| StoreUrlError::Malformed(scheme))?;
        Ok(Self(StoreAddress::Redis { shown: masked(scheme, rest), server: Box::new(server) }))
    }
}

/// Drops what may hold credentials: all before the last `@`, and the query.
fn masked(scheme: &str, rest: &str) -> String {
    let (user, location) = rest.rsplit_once('@').map_or(("", rest), |(_, location)| ("***@", location));
    let (location, query) = location.split_once('?').map_or((location, ""), |(location, _)| (location, "?***"));
    format!("{scheme}{user}{location}{query}")
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StoreAddress::Embedded(directory) => write!(f, "{EMBEDDED}{}", directory.display()),
            StoreAddress::Redis { shown, .. } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<StoreUrl>().map_or_else(|error| format!("error: {error}"), |url| url.to_string())
    }

    #[test]
    fn addresses_are_parsed_and_masked() {
        for (text, expected) in [
            ("embedded:./otpd-data", "embedded:./otpd-data"),
            ("redis://localhost", "redis://localhost"),
            ("redis://:hunter2@db:6380/3", "redis://***@db:6380/3"),
            ("rediss://user:hunter2@db.example:6380", "rediss://***@db.example:6380"),
            ("redis+unix:///run/redis.sock?db=2&pass=hunter2", "redis+unix:///run/redis.sock?***"),
            ("embedded:", "error: embedded: needs a directory"),
            ("redis-cluster://a,b", "error: redis-cluster:// is not supported yet"),
            ("redis-sentinel://a/main", "error: redis-sentinel:// is not supported yet"),
            ("redis://", "error: is no valid redis:// address"),
            ("redis://h:hunter2@", "error: is no valid redis:// address"),
            ("redis://hunter2:x@db:notaport", "error: is no valid redis:// address"),
            ("hunter2", "error: is none of embedded:DIR, redis://, rediss://, redis+unix://"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url: StoreUrl = "redis://user:hunter2@db".parse().unwrap();
        assert_eq!(format!("{url:?}"), "StoreUrl(redis://***@db)");
    }
}
