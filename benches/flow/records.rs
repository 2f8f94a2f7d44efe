//! What Redis tells of itself: processor time, and the bytes of each kind of record.

use std::{collections::BTreeMap, time::Duration};

use super::redis_server::RedisServer;

pub(crate) fn cpu(redis: &RedisServer) -> Duration {
    let info = redis.cli(&["INFO", "cpu"]);
    let seconds = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        Duration::from_secs_f64(value.trim().parse().expect("seconds"))
    };
    seconds("used_cpu_sys:") + seconds("used_cpu_user:")
}

/// All of the data, in MiB.
pub(crate) fn dataset(redis: &RedisServer) -> f64 {
    let info = redis.cli(&["INFO", "memory"]);
    let bytes = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap_or("0");
    bytes.trim().parse::<f64>().expect("a number") / 1024.0 / 1024.0
}

/// The bytes of every key that otpd has written, by what it holds.
pub(crate) fn by_kind(redis: &RedisServer) -> BTreeMap<&'static str, Vec<u64>> {
    let mut kinds: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for key in redis.cli(&["KEYS", "otp:*"]).lines() {
        let bytes = redis.cli(&["MEMORY", "USAGE", key]).parse().unwrap_or_default();
        kinds.entry(kind(key)).or_default().push(bytes);
    }
    for bytes in kinds.values_mut() {
        bytes.sort_unstable();
    }
    kinds
}

fn kind(key: &str) -> &'static str {
    match key.strip_prefix("otp:").unwrap_or(key) {
        key if key.starts_with("i:") => "index entry",
        key if key.starts_with("q:") => "quota",
        key if key.starts_with('{') && key.ends_with("}:l") => "lockout",
        key if key.starts_with('{') => "challenge",
        _ => "probe of the store",
    }
}
