//! Walking over all records, a page at a time.
//!
//! A cursor is a digest of the cluster's layout, the master's own cursor, and the name of the master. Masters are walked in the
//! order of their names. Where slots or masters have moved since the scan began, records may have moved from a master that is
//! still to be walked to one that was: then the scan fails, and is to be begun again.

use redis::{FromRedisValue, RedisError, RedisResult, Value};
use tokio::time::timeout_at;

use super::{
    Redis,
    answers::record,
    connection::{Connection, Master},
    fault,
    keys::{self, RedisKey},
};
use crate::ports::{
    clock::Deadline,
    store::{Cursor, Name, Partition, ScanPage, StoreError},
};

/// How many keys a server looks at for one page, about.
const COUNT: usize = 256;

impl Redis {
    pub(super) async fn scan_page(&self, from: Option<&Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        let link = self.probe.as_ref().unwrap_or(&self.link);
        let (digest, mut masters) = masters(&link.connection("scan")?, deadline).await?;
        masters.sort_by_key(Master::name);
        let (begun, from, name) = from.map_or((digest, 0, ""), decode);
        if begun != digest {
            return Err(StoreError::new("scan", "slots or masters of the cluster have moved; begin again"));
        }
        let Some(at) = masters.iter().position(|master| master.name().as_str() >= name) else {
            return Ok(ScanPage::default());
        };
        let Some(master) = masters.get(at) else { return Ok(ScanPage::default()) };
        let asked = |connection: Connection| page(connection, master, from);
        let (next, found) = link.ask("scan", deadline, asked).await?;
        let mut records = Vec::with_capacity(found.len());
        for (partition, name, value) in found {
            records.extend(record("scan", value)?.map(|record| (partition, name, record)));
        }
        // A server ends its scan with the cursor 0.
        let next = match (next, masters.get(at + 1)) {
            (0, None) => None,
            (0, Some(master)) => Some(encode(digest, 0, &master.name())),
            (next, _) => Some(encode(digest, next, &master.name())),
        };
        Ok(ScanPage { records, next })
    }
}

/// The masters, and a digest of which they are and which slots they serve.
async fn masters(connection: &Connection, deadline: Deadline) -> Result<(u64, Vec<Master>), StoreError> {
    let Connection::Cluster(cluster, known) = connection else { return Ok((0, connection.masters())) };
    let mut cluster = cluster.clone();
    let asked = timeout_at(deadline.instant(), Connection::layout_now(&mut cluster, known.seed())).await;
    let layout = asked.map_err(|_| StoreError::timed_out("scan"))?;
    let layout = layout.map_err(|error| StoreError::new("scan", fault::words(&error)))?;
    Ok((layout.digest(), layout.masters()))
}

type Found = Vec<(Partition, Name, Value)>;

async fn page(mut connection: Connection, master: &Master, from: u64) -> RedisResult<(u64, Found)> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(from).arg("MATCH").arg(keys::RECORDS).arg("COUNT").arg(COUNT);
    let answer = connection.ask(master, &scan).await?;
    let (next, found): (u64, Vec<Vec<u8>>) = FromRedisValue::from_redis_value(answer).map_err(RedisError::from)?;
    let found: Vec<_> = found.iter().filter_map(|key| keys::decode_record_key(key)).collect();
    if found.is_empty() {
        return Ok((next, Vec::new()));
    }
    let mut gets = redis::pipe();
    for (partition, name) in &found {
        gets.cmd("GET").arg(RedisKey::Record(*partition, *name));
    }
    let values = connection.ask_all(master, gets).await?;
    Ok((next, found.into_iter().zip(values).map(|((partition, name), value)| (partition, name, value)).collect()))
}

fn encode(digest: u64, next: u64, master: &str) -> Cursor {
    Cursor([&digest.to_be_bytes(), &next.to_be_bytes(), master.as_bytes()].concat())
}

fn decode(cursor: &Cursor) -> (u64, u64, &str) {
    let parts = cursor.0.split_first_chunk().and_then(|(digest, rest)| Some((digest, rest.split_first_chunk()?)));
    parts.map_or((0, 0, ""), |(digest, (next, master))| {
        (u64::from_be_bytes(*digest), u64::from_be_bytes(*next), std::str::from_utf8(master).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(7, 8, "10.0.0.10:6379")), (7, 8, "10.0.0.10:6379"));
        assert_eq!(decode(&Cursor(vec![1, 2])), (0, 0, ""));
    }
}
