//! What the servers must be: asked at every connect.

use redis::{FromRedisValue, RedisError, RedisResult, Value, cmd};
use tokio::{task::JoinSet, time::timeout_at};

use super::{
    connection::{Connection, Master},
    fault, rehearsal,
};
use crate::{
    ports::{clock::Deadline, store::StoreError},
    stores::Confirmation,
};

/// `PEXPIRE` and scripts are older, but nothing older is maintained or tested.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What the settings ask for.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    /// No key may be evicted.
    pub(super) noeviction: bool,
    /// What commits wait for.
    pub(super) confirmation: Confirmation,
}

/// What a server says of itself.
struct Greeting {
    version: String,
    mode: String,
    role: String,
}

/// Refuses servers that cannot keep records as they must be kept.
///
/// Of a cluster, masters that do not answer by the deadline are passed over: their accounts cannot be served, the others' can.
pub(super) async fn examine(connection: &Connection, expected: Expected, deadline: Deadline) -> Result<(), StoreError> {
    let mut asked = JoinSet::new();
    for master in connection.masters() {
        let mut connection = connection.clone();
        asked.spawn(async move {
            let examined = timeout_at(deadline.instant(), examine_master(&mut connection, &master, expected)).await;
            let late = |_| Err(StoreError::new("connect", "no answer in time"));
            let is_cluster = matches!(connection, Connection::Cluster(..));
            let examined = examined.unwrap_or_else(late);
            examined.map_err(|error| if is_cluster { error.at(master.name()) } else { error })
        });
    }
    let (mut answered, masters, mut unanswered) = (0, asked.len(), None);
    while let Some(examined) = asked.join_next().await {
        match examined.map_err(|cause| StoreError::new("connect", cause)).flatten() {
            Ok(()) => answered += 1,
            Err(error) if error.is_final => return Err(error),
            Err(error) => unanswered = Some(error),
        }
    }
    match unanswered {
        Some(error) if answered * 2 <= masters => Err(error),
        _ => Ok(()),
    }
}

async fn examine_master(connection: &mut Connection, master: &Master, expected: Expected) -> Result<(), StoreError> {
    let is_cluster = matches!(connection, Connection::Cluster(..));
    let greeting = greeting(connection, master).await?;
    if let Some(greeting) = greeting {
        judge(&greeting, is_cluster)?;
    }
    match rehearsal::run(connection, master, expected.confirmation).await {
        Err(failed) if !failed.is_busy => return Err(failed.error),
        _ => {}
    }
    if expected.confirmation.disk
        && setting(connection, master, "appendonly", "aof_enabled").await.as_deref() == Some("no")
    {
        return Err(StoreError::lasting("connect", "store.wait_fsync is set, but appendonly is no"));
    }
    let policy = setting(connection, master, "maxmemory-policy", "maxmemory_policy").await;
    if policy.as_deref() == Some("noeviction") {
        return Ok(());
    }
    let policy = policy.as_deref().unwrap_or("not known");
    if expected.noeviction {
        let cause = format!("maxmemory-policy is {policy}, and must be noeviction");
        return Err(StoreError::lasting("connect", cause));
    }
    tracing::warn!(
        maxmemory_policy = policy,
        "redis may evict keys when its memory is full, and locks with them; set maxmemory-policy to noeviction"
    );
    Ok(())
}

/// Whether a server of such a greeting is the one that the address means.
fn judge(greeting: &Greeting, is_cluster: bool) -> Result<(), StoreError> {
    let Greeting { version, mode, role } = greeting;
    let refused = |cause: &str| Err(StoreError::lasting("connect", cause));
    match mode.as_str() {
        "sentinel" => {
            return refused("is a sentinel; the address of its service is redis-sentinel://host,host/SERVICE");
        }
        "cluster" if !is_cluster => {
            return refused("is a node of a cluster, whose address is redis-cluster://host,host");
        }
        "standalone" if is_cluster => return refused("is no node of a cluster; its address is redis://host"),
        _ => {}
    }
    if number(version).is_some_and(|version| version < VERSION_MIN) {
        let (major, minor) = VERSION_MIN;
        return refused(&format!("redis {version} is older than {major}.{minor}"));
    }
    // A failover may be on its way.
    let is_replica = matches!(role.as_str(), "slave" | "replica");
    if is_replica { Err(StoreError::new("connect", "is a replica, which takes no writes")) } else { Ok(()) }
}

/// What the server says of itself. `HELLO` needs no permission; of what does not know it, `INFO` is asked. `None`: it tells
/// nothing, and only what it does counts.
async fn greeting(connection: &mut Connection, master: &Master) -> Result<Option<Greeting>, StoreError> {
    let answer = match connection.ask(master, &cmd("HELLO")).await {
        Err(error) if fault::is_refusal(&error) => return Ok(info(connection, master).await),
        answer => answer.map_err(|error| fault::while_connecting(&error))?,
    };
    let pairs = match answer {
        Value::Array(values) => values.chunks(2).filter_map(pair).collect(),
        Value::Map(pairs) => pairs.into_iter().filter_map(|(name, value)| pair(&[name, value])).collect(),
        _ => Vec::new(),
    };
    let of = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let text = |wanted| of(wanted).unwrap_or_default();
    Ok(Some(Greeting { version: text("version"), mode: text("mode"), role: text("role") }))
}

/// A name and its value, if both are texts.
fn pair(pair: &[Value]) -> Option<(String, String)> {
    let [name, value] = pair else { return None };
    Some((String::from_redis_value_ref(name).ok()?, String::from_redis_value_ref(value).ok()?))
}

async fn info(connection: &mut Connection, master: &Master) -> Option<Greeting> {
    let text = String::from_redis_value(connection.ask(master, &cmd("INFO")).await.ok()?).ok()?;
    let of = |name| field(&text, name).unwrap_or_default().to_owned();
    Some(Greeting { version: of("redis_version"), mode: of("redis_mode"), role: of("role") })
}

/// A setting of the server. `CONFIG` is often denied, then `INFO` may tell it.
async fn setting(connection: &mut Connection, master: &Master, name: &str, in_info: &str) -> Option<String> {
    let mut get = cmd("CONFIG");
    get.arg("GET").arg(name);
    let pair: RedisResult<Vec<String>> = connection.ask(master, &get).await.and_then(parsed);
    if let Some(value) = pair.ok().and_then(|pair| pair.into_iter().nth(1)) {
        return Some(value);
    }
    let info: RedisResult<String> = connection.ask(master, &cmd("INFO")).await.and_then(parsed);
    let value = info.ok().and_then(|info| field(&info, in_info).map(str::to_owned))?;
    Some(match value.as_str() {
        "0" => "no".to_owned(),
        "1" => "yes".to_owned(),
        _ => value,
    })
}

fn parsed<T: FromRedisValue>(value: Value) -> RedisResult<T> {
    T::from_redis_value(value).map_err(RedisError::from)
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
        assert_eq!(number("unknown"), None);
    }

    #[test]
    fn what_the_address_does_not_mean_is_refused_by_name() {
        let judged = |mode: &str, role: &str, version: &str, is_cluster| {
            let [version, mode, role] = [version, mode, role].map(str::to_owned);
            judge(&Greeting { version, mode, role }, is_cluster).map_err(|error| (error.is_final, error.cause))
        };
        assert_eq!(judged("standalone", "master", "7.0.15", false), Ok(()));
        assert_eq!(judged("cluster", "master", "9.0.1", true), Ok(()));
        for (mode, role, version, is_cluster, is_final, words) in [
            ("sentinel", "sentinel", "7.0.15", false, true, "redis-sentinel://"),
            ("sentinel", "sentinel", "7.0.15", true, true, "redis-sentinel://"),
            ("cluster", "master", "7.0.15", false, true, "redis-cluster://"),
            ("standalone", "master", "7.0.15", true, true, "redis://host"),
            ("standalone", "master", "6.0.16", false, true, "older than 6.2"),
            ("standalone", "slave", "7.0.15", false, false, "replica"),
            ("standalone", "replica", "9.0.0", false, false, "replica"),
        ] {
            let (judged_final, cause) = judged(mode, role, version, is_cluster).expect_err(words);
            assert!(judged_final == is_final && cause.contains(words), "{cause}");
        }
    }
}
