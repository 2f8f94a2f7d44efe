//! What an error of Redis means: for the connection, and in words that may be logged.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::ports::store::{StoreError, StoreFault};

/// What an error says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkHealth {
    /// The server answered; the connection is as good as before.
    Healthy,
    /// No answer in time. Once is nothing, several in a row are a server that hangs.
    Slow,
    /// The connection, or the server behind it, cannot serve: connect anew, maybe to another server.
    Broken,
}

/// What an error says about the connection.
pub(super) fn health(error: &RedisError) -> LinkHealth {
    match error.kind() {
        // A demoted, loading or orphaned server keeps the connection open, and would refuse for ever.
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
            LinkHealth::Broken
        }
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => LinkHealth::Healthy,
        ErrorKind::Io if error.is_timeout() => LinkHealth::Slow,
        _ => LinkHealth::Broken,
    }
}

/// In which way an operation failed.
pub(super) fn kind(error: &RedisError) -> StoreFault {
    match health(error) {
        LinkHealth::Healthy => StoreFault::Failed,
        LinkHealth::Slow => StoreFault::Late,
        LinkHealth::Broken => StoreFault::Unreachable,
    }
}

/// Whether the server does not do what it was asked, now or later: a command is not there, or not for this user.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError))
}

/// Whether the server says that this command, or this key, is not for this user, or that there is no such command.
pub(super) fn is_denial(error: &RedisError) -> bool {
    let unknown = || error.detail().is_some_and(|detail| detail.to_ascii_lowercase().starts_with("unknown command"));
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || unknown()
}

/// Whether a denial is about keys rather than about a command.
pub(super) fn is_about_keys(error: &RedisError) -> bool {
    // The user's name may be in the text.
    let words = ["access a key", "access one of the keys"];
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        && error.detail().is_some_and(|text| words.iter().any(|words| text.contains(words)))
}

/// An error while connecting or examining, and whether waiting helps. Wrong credentials, certificates and addresses stay
/// wrong.
pub(super) fn while_connecting(error: &RedisError) -> StoreError {
    let detail = error.detail().unwrap_or_default();
    let text = error.to_string();
    let certificate = ["invalid peer certificate", "AlertReceived", "received fatal alert", "received corrupt message"];
    if detail.contains("cluster support disabled") || detail.to_ascii_lowercase().contains("unknown command 'cluster'")
    {
        return StoreError::lasting("connect", "is no node of a cluster; its address is redis://host");
    }
    if text.contains("does not point to a sentinel") {
        return StoreError::lasting("connect", "is no sentinel; the address of a server is redis://host");
    }
    // redis-rs tells it by this text alone.
    if text.contains("refused to switch database") {
        let is_denied = detail.contains("no permissions");
        let why = if is_denied { "its user may not use: select" } else { "there is no database of this number" };
        return StoreError::lasting("connect", format!("the database of the address cannot be used; {why}"));
    }
    if error.code() == Some("NOAUTH") {
        return StoreError::lasting("connect", "the server asks for a password");
    }
    if text.contains("tls handshake eof") {
        return StoreError::new("connect", "the server ended the TLS handshake; does it speak TLS on this port?");
    }
    let is_final = is_denial(error)
        || error.code() == Some("WRONGPASS")
        || matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
        // Of a cluster's nodes redis-rs tells only the text.
        || text.contains("AuthenticationFailed")
        || (error.is_io_error() && certificate.iter().any(|words| text.contains(words)));
    let words = words(error);
    if is_final { StoreError::lasting("connect", words) } else { StoreError::new("connect", words) }
}

/// Codes whose text never quotes what was sent. Others do: an unknown command is echoed with its arguments.
const PLAIN: [&str; 12] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "WRONGPASS",
    "WRONGTYPE",
];

/// The error in words that hold no record, no name and no password.
pub(super) fn words(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) if PLAIN.contains(&code) => format!("{code} {detail}"),
        (Some(code), _) => format!("the server answered {code}"),
        (None, _) if error.kind() == ErrorKind::AuthenticationFailed => "authentication failed".to_owned(),
        (None, _) if error.is_timeout() => "no answer in time".to_owned(),
        (None, _) if error.is_io_error() => {
            let text = error.to_string();
            text.strip_prefix("Failed to create initial connections - Io: ").unwrap_or(&text).to_owned()
        }
        (None, _) => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_does_not_help_is_told_apart() {
        let server = |code: &str, detail: &str| {
            let answer = redis::parse_redis_value(format!("-{code} {detail}\r\n").as_bytes()).unwrap();
            answer.extract_error().unwrap_err()
        };
        let io = |text: &str| RedisError::from(std::io::Error::other(text.to_owned()));
        for (error, is_final) in [
            (server("WRONGPASS", "invalid username-password pair"), true),
            (server("NOAUTH", "Authentication required."), true),
            (server("NOPERM", "this user has no permissions to run the 'get' command"), true),
            (server("ERR", "unknown command 'HELLO', with args beginning with:"), true),
            (server("ERR", "This instance has cluster support disabled"), true),
            (io("invalid peer certificate: UnknownIssuer"), true),
            (io("received fatal alert: CertificateRequired"), true),
            (RedisError::from((ErrorKind::Io, "Failed", "x - AuthenticationFailed".to_owned())), true),
            (RedisError::from((ErrorKind::InvalidClientConfig, "Address does not point to a sentinel node")), true),
            (server("LOADING", "Redis is loading the dataset in memory"), false),
            (server("READONLY", "You can't write against a read only replica."), false),
            (server("OOM", "command not allowed"), false),
            (server("CLUSTERDOWN", "The cluster is down"), false),
            (io("tls handshake eof"), false),
            (std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into(), false),
        ] {
            assert_eq!(while_connecting(&error).is_final, is_final, "{error}");
        }
    }

    #[test]
    fn words_never_quote_arguments() {
        let echo = redis::make_extension_error("ERR".to_owned(), Some("unknown command 'GET' 'otp:r:x'".to_owned()));
        assert_eq!(words(&echo), "the server answered ERR");
        let oom = redis::make_extension_error("OOM".to_owned(), Some("command not allowed".to_owned()));
        assert_eq!((words(&oom), health(&oom)), ("OOM command not allowed".to_owned(), LinkHealth::Healthy));
    }

    #[test]
    fn a_cut_connection_is_broken_and_a_late_answer_is_slow() {
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let late = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert_eq!((health(&cut), health(&late)), (LinkHealth::Broken, LinkHealth::Slow));
    }
}
