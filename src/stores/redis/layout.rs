//! Which masters a cluster has, and which slots each serves.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
};

use redis::{
    Value,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};

use super::{
    connection::Master,
    keys::{RedisKey, Rehearsed},
};

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClusterNode {
    pub(super) host: String,
    pub(super) port: u16,
}

impl ClusterNode {
    /// Sends a command to this node, whatever its keys are.
    pub(super) fn routing(&self) -> RoutingInfo {
        RoutingInfo::SingleNode(self.single_routing())
    }

    /// The same for several commands at once.
    pub(super) fn single_routing(&self) -> SingleNodeRoutingInfo {
        SingleNodeRoutingInfo::ByAddress { host: self.host.clone(), port: self.port }
    }
}

/// The masters, by address, with the slots that each serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    masters: BTreeMap<ClusterNode, Vec<RangeInclusive<u16>>>,
    /// The host of a node that does not know its own.
    seed: String,
}

impl Layout {
    /// Reads the answer to `CLUSTER SLOTS`: for each range its first and last slot, its master, and its replicas.
    pub(super) fn parse(answer: &Value, seed: &str) -> Option<Self> {
        let mut masters = BTreeMap::<ClusterNode, Vec<_>>::new();
        let Value::Array(ranges) = answer else { return None };
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            // The only node of a cluster does not know its own host: it is where the address says.
            let host = match host {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                Value::SimpleString(host) => host,
                Value::Nil => "",
                _ => return None,
            };
            let host = if host.is_empty() { seed } else { host };
            let node = ClusterNode { host: host.to_owned(), port: u16::try_from(*port).ok()? };
            masters.entry(node).or_default().push(u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?);
        }
        Some(Self { masters, seed: seed.to_owned() })
    }

    /// Whether no node serves a slot.
    pub(super) fn is_empty(&self) -> bool {
        self.masters.is_empty()
    }

    /// The host of a node that does not know its own.
    pub(super) fn seed(&self) -> &str {
        &self.seed
    }

    /// Each master with a number whose keys it serves.
    pub(super) fn masters(&self) -> Vec<Master> {
        let number = |slots: &[RangeInclusive<u16>]| {
            // One number of three will do where there are three masters; a master of one slot would need thousands.
            (0..u32::from(SLOTS) * 16).find(|number| {
                let slot = slot(&RedisKey::Rehearsal(*number, Rehearsed::Record).to_string());
                slots.iter().any(|range| range.contains(&slot))
            })
        };
        let master = |(node, slots): (&ClusterNode, &Vec<_>)| Some(Master::of_cluster(node.clone(), number(slots)?));
        self.masters.iter().filter_map(master).collect()
    }

    /// A number that is another one where masters or slots are others. Means nothing beyond this process.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.masters.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the same nodes are masters. redis-rs learns of slots that moved between them by itself.
    pub(super) fn has_same_masters(&self, other: &Self) -> bool {
        self.masters.keys().eq(other.masters.keys())
    }
}

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// The slot of a key (Redis Cluster specification, "Key distribution model"). What is in braces decides alone.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use redis::cluster_routing::{Route, Slot, SlotAddr};

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![text(host), Value::Int(port), text("id")])
    }

    #[test]
    fn masters_are_those_that_serve_slots() {
        let range = |from, to, nodes: &[Value]| Value::Array([&[Value::Int(from), Value::Int(to)], nodes].concat());
        let answer = Value::Array(vec![
            range(0, 99, &[node("10.0.0.1", 7000), node("10.0.0.9", 7000)]),
            range(100, 199, &[node("", 7001)]),
            range(200, 299, &[node("10.0.0.1", 7000)]),
        ]);
        let layout = Layout::parse(&answer, "seed").unwrap();
        let shown: Vec<_> =
            layout.masters.iter().map(|(node, slots)| format!("{}:{} {slots:?}", node.host, node.port)).collect();
        assert_eq!(shown, ["10.0.0.1:7000 [0..=99, 200..=299]", "seed:7001 [100..=199]"]);
        assert_eq!(Layout::parse(&Value::Nil, "seed"), None);
    }

    #[test]
    fn slots_are_those_of_redis() {
        for key in ["foo", "123456789", "otp:{-_v7-_v7-_v7-_v7-_v7}:l", "otp:w:{otp:i:x}", "a{}b", "{", "}{x}"] {
            let expected = Route::with_slot(Slot::for_key(key), SlotAddr::Master);
            assert_eq!(Route::new(slot(key), SlotAddr::Master), expected, "{key}");
        }
        assert_eq!(slot("foo"), 12_182);
    }
}
