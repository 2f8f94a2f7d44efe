//! What the server must be: asked once, when the store is opened.

use redis::{RedisResult, aio::MultiplexedConnection};

use super::fault;
use crate::ports::store::StoreError;

/// `PEXPIRE` and scripts are older, but nothing older is maintained or tested.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Refuses a server that is too old, and warns of one that may evict keys, or refuses it too.
pub(super) async fn examine(
    connection: &mut MultiplexedConnection,
    require_noeviction: bool,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::new("open", fault::words(&error));
    let server: String = redis::cmd("INFO").arg("server").query_async(connection).await.map_err(failed)?;
    let version = field(&server, "redis_version").unwrap_or("unknown");
    if number(version) < Some(VERSION_MIN) {
        let (major, minor) = VERSION_MIN;
        return Err(StoreError::new("open", format!("redis {version} is older than {major}.{minor}")));
    }

    let policy = policy(connection).await;
    if policy.as_deref() == Some("noeviction") {
        return Ok(());
    }
    let policy = policy.as_deref().unwrap_or("not known");
    if require_noeviction {
        return Err(StoreError::new("open", format!("maxmemory-policy is {policy}, and must be noeviction")));
    }
    tracing::warn!(
        maxmemory_policy = policy,
        "redis may evict keys when its memory is full, and locks with them; set maxmemory-policy to noeviction"
    );
    Ok(())
}

/// The eviction policy. `CONFIG` is often denied, then `INFO` tells it.
async fn policy(connection: &mut MultiplexedConnection) -> Option<String> {
    let config: RedisResult<Vec<String>> =
        redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(connection).await;
    if let Some(policy) = config.ok().and_then(|pair| pair.into_iter().nth(1)) {
        return Some(policy);
    }
    let memory: RedisResult<String> = redis::cmd("INFO").arg("memory").query_async(connection).await;
    memory.ok().and_then(|memory| field(&memory, "maxmemory_policy").map(str::to_owned))
}

/// The value of a line `name:value`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn number(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_info() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(field(info, "redis_version"), Some("7.0.15"));
        assert_eq!(field(info, "redis_vers"), None);
        assert!(number("6.0.16") < Some(VERSION_MIN));
        assert!(number("10.1") > Some(VERSION_MIN));
        assert!(number("unknown") < Some(VERSION_MIN));
    }
}
