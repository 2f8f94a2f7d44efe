//! Walking over all records, a page at a time.
//!
//! A cursor is the address of a master and the master's own cursor. Masters are walked in the order of their addresses, so
//! that a scan goes on where others have come and gone.

use redis::{FromRedisValue, RedisError, RedisResult, Value};

use super::{
    Redis,
    answers::record,
    connection::{Connection, Master},
    keys::{self, RedisKey},
};
use crate::ports::{
    clock::Deadline,
    store::{Cursor, ScanPage, StoreError},
};

/// How many keys a server looks at for one page, about.
const COUNT: usize = 256;

impl Redis {
    pub(super) async fn scan_page(&self, from: Option<&Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        let (name, from) = from.map_or(("", 0), decode);
        let masters = self.link.connection("scan")?.masters();
        // Whichever comes next where the master of the cursor has gone.
        let Some(at) = masters.iter().position(|master| master.name().as_str() >= name) else {
            return Ok(ScanPage::default());
        };
        let Some(master) = masters.get(at) else { return Ok(ScanPage::default()) };
        let from = if master.name() == name { from } else { 0 };
        let asked = |connection: Connection| page(connection, master, from);
        let (next, found) = self.link.ask("scan", deadline, asked).await?;
        let mut records = Vec::with_capacity(found.len());
        for (partition, name, value) in found {
            records.extend(record("scan", value)?.map(|record| (partition, name, record)));
        }
        // A server ends its scan with the cursor 0.
        let next = match (next, masters.get(at + 1)) {
            (0, None) => None,
            (0, Some(master)) => Some(encode(&master.name(), 0)),
            (next, _) => Some(encode(&master.name(), next)),
        };
        Ok(ScanPage { records, next })
    }
}

type Found = Vec<(crate::ports::store::Partition, crate::ports::store::Name, Value)>;

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

fn encode(master: &str, next: u64) -> Cursor {
    Cursor([&next.to_be_bytes(), master.as_bytes()].concat())
}

fn decode(cursor: &Cursor) -> (&str, u64) {
    let split = cursor.0.split_first_chunk();
    split.map_or(("", 0), |(next, master)| (std::str::from_utf8(master).unwrap_or_default(), u64::from_be_bytes(*next)))
}
