//! The address of a store: checked when it is read, and shown without what is secret.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A checked address. Showing it never shows its credentials.
#[derive(Clone)]
pub struct StoreUrl(StoreAddress);

#[derive(Clone)]
enum StoreAddress {
    Embedded(PathBuf),
    Redis { shown: String, servers: Servers },
}

/// Which servers, and how they belong together.
#[derive(Clone)]
pub(super) enum Servers {
    /// One server.
    One(Box<ConnectionInfo>),
    /// Some nodes of a cluster. The others are found by them.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, which know the master of a service.
    Sentinels {
        /// Where they are.
        sentinels: Vec<ConnectionAddr>,
        /// The name by which they know the master.
        service: String,
        /// User, password and database at the master. Its address here is that of the first sentinel, and means nothing.
        master: Box<ConnectionInfo>,
    },
}

/// Why a text is no address. Never quotes what may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// No known scheme.
    #[error(
        "is none of embedded:DIR, redis://, rediss://, redis+unix://, redis-cluster://, rediss-cluster://, redis-sentinel://, rediss-sentinel://"
    )]
    UnknownScheme,
    /// `embedded:` and nothing else.
    #[error("embedded: needs a directory")]
    NoDirectory,
    /// Parameters after `?` or `#` that mean nothing here.
    #[error("{0} addresses have no such parameters; {1}")]
    Parameters(&'static str, &'static str),
    /// Parameters after `?` or `#` that mean nothing for a socket.
    #[error("redis+unix:// addresses have the parameters db, user and pass, each once, and no other")]
    SocketParameters,
    /// A cluster has one database.
    #[error("a cluster has database 0 only")]
    ClusterDatabase,
    /// No name of a service.
    #[error("{0} needs the name of the service, as in {0}host:26379,host:26379/SERVICE")]
    NoService(&'static str),
    /// The rest of the address is wrong.
    #[error("is no valid {0} address")]
    Malformed(&'static str),
}

const EMBEDDED: &str = "embedded:";
const UNIX: &str = "redis+unix://";
/// What an address begins with, and how redis-rs writes the address of each server of it.
const TCP: [(&str, RedisKind, &str); 6] = [
    ("redis://", RedisKind::One, "redis://"),
    ("rediss://", RedisKind::One, "rediss://"),
    ("redis-cluster://", RedisKind::Cluster, "redis://"),
    ("rediss-cluster://", RedisKind::Cluster, "rediss://"),
    ("redis-sentinel://", RedisKind::Sentinels, "redis://"),
    ("rediss-sentinel://", RedisKind::Sentinels, "rediss://"),
];
/// Where sentinels listen unless told otherwise.
const SENTINEL_PORT: u16 = 26_379;

#[derive(Clone, Copy, PartialEq, Eq)]
enum RedisKind {
    One,
    Cluster,
    Sentinels,
}

impl StoreUrl {
    /// The directory of an embedded store.
    pub fn directory(&self) -> Option<&Path> {
        match &self.0 {
            StoreAddress::Embedded(directory) => Some(directory),
            StoreAddress::Redis { .. } => None,
        }
    }

    /// The servers of a Redis.
    pub(super) fn servers(&self) -> Option<&Servers> {
        match &self.0 {
            StoreAddress::Embedded(_) => None,
            StoreAddress::Redis { servers, .. } => Some(servers),
        }
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(&self.0, StoreAddress::Redis { shown, .. } if shown.starts_with("rediss"))
    }

    /// Whether sentinels tell where the master is.
    pub fn has_sentinels(&self) -> bool {
        matches!(&self.0, StoreAddress::Redis { servers: Servers::Sentinels { .. }, .. })
    }

    /// Whether there is exactly one server, whose address is known beforehand.
    pub fn is_one_server(&self) -> bool {
        matches!(&self.0, StoreAddress::Redis { servers: Servers::One(_), .. })
    }
}

/// An address with a login that stood elsewhere. `None` where it has one already, or where there is none, as for an embedded store.
pub fn with_login(address: &str, user: Option<&str>, password: &str) -> Option<Secret<String>> {
    let (user, password) = (encoded(user.unwrap_or_default()), encoded(password));
    let (user, password) = (user.as_str(), password.as_str());
    if address.starts_with(UNIX) {
        let (_, query) = address.split_once('?').unwrap_or_default();
        let is_login = |pair: &str| pair.starts_with("user=") || pair.starts_with("pass=");
        let joint = if address.contains('?') { '&' } else { '?' };
        let user = if user.is_empty() { String::new() } else { format!("user={user}&") };
        let complete = || Secret::new(format!("{address}{joint}{user}pass={password}"));
        return (!query.split('&').any(is_login)).then(complete);
    }
    let (scheme, ..) = TCP.into_iter().find(|(scheme, ..)| address.starts_with(scheme))?;
    let rest = address.strip_prefix(scheme).filter(|rest| !rest.contains('@'))?;
    Some(Secret::new(format!("{scheme}{user}:{password}@{rest}")))
}

/// A text as it stands in an address: all but the unreserved characters (RFC 3986, 2.3) are percent-encoded.
fn encoded(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default().to_ascii_uppercase();
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(directory) = text.strip_prefix(EMBEDDED) {
            let address = StoreAddress::Embedded(PathBuf::from(directory));
            return if directory.is_empty() { Err(StoreUrlError::NoDirectory) } else { Ok(Self(address)) };
        }
        let address = if text.starts_with(UNIX) { socket(text) } else { tcp(text) };
        let (shown, servers) = address?;
        Ok(Self(StoreAddress::Redis { shown, servers }))
    }
}

fn socket(text: &str) -> Result<(String, Servers), StoreUrlError> {
    let malformed = StoreUrlError::Malformed(UNIX);
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let known = |pair: &str| ["db=", "user=", "pass="].iter().any(|name| pair.starts_with(name));
    let names: Vec<&str> = query.split('&').filter_map(|pair| pair.split_once('=').map(|(name, _)| name)).collect();
    let is_twice = names.iter().enumerate().any(|(at, name)| names.iter().take(at).any(|before| before == name));
    if path.contains('#') || is_twice || !query.split('&').filter(|pair| !pair.is_empty()).all(known) {
        return Err(StoreUrlError::SocketParameters);
    }
    if path == UNIX {
        return Err(malformed);
    }
    let server = text.into_connection_info().map_err(|_| malformed)?;
    let shown = match server.redis_settings().db() {
        0 => path.to_owned(),
        database => format!("{path}?db={database}"),
    };
    Ok((shown, Servers::One(Box::new(server))))
}

fn tcp(text: &str) -> Result<(String, Servers), StoreUrlError> {
    let known = TCP.into_iter().find(|(scheme, ..)| text.starts_with(scheme)).ok_or(StoreUrlError::UnknownScheme)?;
    let (scheme, kind, each) = known;
    let malformed = || StoreUrlError::Malformed(scheme);
    let rest = text.strip_prefix(scheme).unwrap_or_default();
    let (credentials, location) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    if location.contains(['?', '#']) {
        return Err(StoreUrlError::Parameters(
            scheme,
            match kind {
                RedisKind::One => "the database is written after a slash, as in host:6379/3",
                RedisKind::Cluster => "a cluster has database 0 only",
                RedisKind::Sentinels => "the database is written after the service, as in host:26379/SERVICE/3",
            },
        ));
    }
    let (hosts, path) = location.split_once('/').unwrap_or((location, ""));
    let (service, database) = match kind {
        RedisKind::Sentinels => path.split_once('/').unwrap_or((path, "")),
        RedisKind::One | RedisKind::Cluster => ("", path),
    };
    let server = |host: &str| {
        // An empty host would silently mean localhost.
        let named = !host.is_empty() && !host.starts_with(':');
        let credentials = credentials.map(|credentials| format!("{credentials}@")).unwrap_or_default();
        let parsed = format!("{each}{credentials}{host}/{database}").into_connection_info().ok();
        // Port 0 is nobody's, and databases are numbered from 0.
        let is_reachable = |server: &ConnectionInfo| {
            let port = match server.addr() {
                ConnectionAddr::Tcp(_, port) | ConnectionAddr::TcpTls { port, .. } => *port,
                _ => 1,
            };
            port != 0 && server.redis_settings().db() >= 0
        };
        parsed.filter(is_reachable).filter(|_| named).ok_or_else(malformed)
    };
    let servers = hosts.split(',').map(|host| server(host.trim())).collect::<Result<Vec<_>, _>>()?;
    let first = servers.first().ok_or_else(malformed)?.clone();
    let number = first.redis_settings().db();
    let suffix = if number == 0 { String::new() } else { format!("/{number}") };
    let shown = |default: u16| {
        let hosts: Vec<_> = servers.iter().map(|server| host_and_port(server.addr(), default)).collect();
        format!("{scheme}{}", hosts.join(","))
    };
    match kind {
        RedisKind::One if servers.len() > 1 => Err(malformed()),
        RedisKind::One => Ok((shown(DEFAULT_PORT) + &suffix, Servers::One(Box::new(first)))),
        RedisKind::Cluster if number != 0 => Err(StoreUrlError::ClusterDatabase),
        RedisKind::Cluster => Ok((shown(DEFAULT_PORT), Servers::Cluster(servers))),
        RedisKind::Sentinels if service.is_empty() => Err(StoreUrlError::NoService(scheme)),
        RedisKind::Sentinels => {
            let with_port = |host: &str| host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let ports = hosts.split(',').map(|host| with_port(host.trim()));
            let sentinels = servers.iter().zip(ports).map(|(server, has_port)| sentinel(server.addr(), has_port));
            let sentinels: Vec<_> = sentinels.collect();
            let hosts: Vec<_> = sentinels.iter().map(|address| host_and_port(address, SENTINEL_PORT)).collect();
            let shown = format!("{scheme}{}/{service}{suffix}", hosts.join(","));
            Ok((shown, Servers::Sentinels { sentinels, service: service.to_owned(), master: Box::new(first) }))
        }
    }
}

/// Where servers listen unless told otherwise.
const DEFAULT_PORT: u16 = 6_379;

/// The address of a sentinel, whose port differs from that of servers where none is given.
fn sentinel(address: &ConnectionAddr, has_port: bool) -> ConnectionAddr {
    match address.clone() {
        ConnectionAddr::Tcp(host, port) => ConnectionAddr::Tcp(host, if has_port { port } else { SENTINEL_PORT }),
        ConnectionAddr::TcpTls { host, port, insecure, tls_params } => {
            ConnectionAddr::TcpTls { host, port: if has_port { port } else { SENTINEL_PORT }, insecure, tls_params }
        }
        other => other,
    }
}

/// An address as it is shown.
pub(super) fn host_and_port(address: &ConnectionAddr, default: u16) -> String {
    let (host, port) = match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host.as_str(), *port),
        _ => return address.to_string(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default { host } else { format!("{host}:{port}") }
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
    fn addresses_are_parsed_and_shown_without_credentials() {
        for (text, expected) in [
            ("embedded:./otpd-data", "embedded:./otpd-data"),
            ("redis://localhost", "redis://localhost"),
            ("redis://:hunter2@db:6380/3", "redis://db:6380/3"),
            ("redis://user:hunter2@db:6379/", "redis://db"),
            ("rediss://user:hunter2@db.example:6380", "rediss://db.example:6380"),
            ("redis://[::1]:6380", "redis://[::1]:6380"),
            ("redis+unix:///run/redis.sock?db=2&pass=hunter2", "redis+unix:///run/redis.sock?db=2"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("redis-cluster://a,b:7001", "redis-cluster://a,b:7001"),
            ("rediss-cluster://user:hunter2@a:7000,b:7001/", "rediss-cluster://a:7000,b:7001"),
            ("redis-sentinel://a,b:5000/main", "redis-sentinel://a,b:5000/main"),
            ("redis-sentinel://a:26379/main", "redis-sentinel://a/main"),
            ("rediss-sentinel://u:hunter2@a,b/main/3", "rediss-sentinel://a,b/main/3"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
            assert!(!format!("{:?}", text.parse::<StoreUrl>()).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_login_that_stands_elsewhere_is_put_in() {
        for (address, user, expected) in [
            ("redis://db:6380/3", None, Some("redis://:p%40%2F%3A%20x@db:6380/3")),
            ("rediss-cluster://a,b", Some("o:"), Some("rediss-cluster://o%3A:p%40%2F%3A%20x@a,b")),
            ("redis-sentinel://a/main", Some("o"), Some("redis-sentinel://o:p%40%2F%3A%20x@a/main")),
            ("redis+unix:///s", None, Some("redis+unix:///s?pass=p%40%2F%3A%20x")),
            ("redis+unix:///s?db=2", Some("o"), Some("redis+unix:///s?db=2&user=o&pass=p%40%2F%3A%20x")),
            ("redis://:p@db", None, None),
            ("redis+unix:///s?pass=p", None, None),
            ("embedded:./x", None, None),
        ] {
            let complete = with_login(address, user, "p@/: x");
            assert_eq!(complete.as_ref().map(|complete| complete.expose().as_str()), expected, "{address}");
            let Some(complete) = complete else { continue };
            let parsed: StoreUrl = complete.expose().parse().unwrap();
            let login = match parsed.servers().unwrap() {
                Servers::One(server) => server,
                Servers::Cluster(servers) => &servers[0],
                Servers::Sentinels { master, .. } => master,
            };
            assert_eq!(login.redis_settings().password(), Some("p@/: x"), "{address}");
            assert_eq!(login.redis_settings().username(), if user == Some("o:") { Some("o:") } else { user });
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_secret_quoted() {
        let unknown = "is none of embedded:DIR,";
        for (text, expected) in [
            ("embedded:", "embedded: needs a directory"),
            ("redis://", "is no valid redis:// address"),
            ("redis://:6379", "is no valid redis:// address"),
            ("redis://h:hunter2@", "is no valid redis:// address"),
            ("redis://hunter2:x@db:notaport", "is no valid redis:// address"),
            ("redis://a,b", "is no valid redis:// address"),
            ("redis+unix://", "is no valid redis+unix:// address"),
            ("redis://db?db=3", "redis:// addresses have no such parameters; the database is written after a slash"),
            ("rediss://db/#insecure", "rediss:// addresses have no such parameters"),
            ("redis-cluster://a?hunter2", "redis-cluster:// addresses have no such parameters"),
            ("redis+unix:///s?database=3", "redis+unix:// addresses have the parameters db, user and pass"),
            ("redis+unix:///s?db=3&db=4", "redis+unix:// addresses have the parameters db, user and pass"),
            ("redis://db/-1", "is no valid redis:// address"),
            ("redis://db:0", "is no valid redis:// address"),
            (
                "redis-sentinel://a:26379/mymaster?db=2",
                "redis-sentinel:// addresses have no such parameters; the database is written after the service",
            ),
            (
                "redis-cluster://a,b/?db=1",
                "redis-cluster:// addresses have no such parameters; a cluster has database 0",
            ),
            ("redis+unix:///s?hunter2", "redis+unix:// addresses have the parameters db, user and pass"),
            ("redis-cluster://a/3", "a cluster has database 0 only"),
            ("redis-cluster://a,,b", "is no valid redis-cluster:// address"),
            ("redis-sentinel://a", "redis-sentinel:// needs the name of the service"),
            ("redis-sentinel://a/main/x", "is no valid redis-sentinel:// address"),
            ("hunter2", unknown),
            ("redis-clusters://a", unknown),
        ] {
            let shown = shown(text);
            assert!(shown.starts_with(&format!("error: {expected}")), "{text}: {shown}");
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
        }
    }
}
