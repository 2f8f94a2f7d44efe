//! What is read when the metrics are asked for, and counted elsewhere: readiness, permits, keys, what the log and the
//! exporter have dropped.

use std::{fmt, sync::OnceLock};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    family::{counter, gauge, single_counter, single_gauge},
    names, process,
};
use crate::ports::observer::{AuditSink, AuditSinkReading, AuditSinkState, PermitUsage};

/// Reads something now.
type Read<T> = Box<dyn Fn() -> T + Send + Sync>;

/// A master key, and how many records were opened with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterKeyUse {
    /// The key's number.
    pub id: u32,
    /// `active`, `index` or `other`.
    pub role: &'static str,
    /// How many records were opened with it.
    pub opened: u64,
}

/// Where to read from. Each is set once, at the start.
#[derive(Default)]
pub struct Sources {
    readiness: OnceLock<Read<Vec<(&'static str, bool)>>>,
    permits: OnceLock<PermitUsage>,
    keys: OnceLock<Read<Vec<MasterKeyUse>>>,
    audit_sinks: [OnceLock<AuditSinkReading>; AuditSink::ALL.len()],
    log_lines_dropped: OnceLock<Read<u64>>,
    telemetry_dropped: OnceLock<Read<[(&'static str, u64); 2]>>,
}

/// A second setting of a source changes nothing.
impl Sources {
    /// All reasons not to be ready, and which of them apply.
    pub fn readiness(&self, read: impl Fn() -> Vec<(&'static str, bool)> + Send + Sync + 'static) {
        let _ = self.readiness.set(Box::new(read));
    }

    /// The permits of the server.
    pub fn permits(&self, read: PermitUsage) {
        let _ = self.permits.set(read);
    }

    /// The master keys.
    pub fn keys(&self, read: impl Fn() -> Vec<MasterKeyUse> + Send + Sync + 'static) {
        let _ = self.keys.set(Box::new(read));
    }

    /// A sink of the audit.
    pub fn audit_sink(&self, sink: AuditSink, read: AuditSinkReading) {
        if let Some((_, reading)) = self.sinks().find(|(known, _)| *known == sink) {
            let _ = reading.set(read);
        }
    }

    fn sinks(&self) -> impl Iterator<Item = (AuditSink, &OnceLock<AuditSinkReading>)> {
        AuditSink::ALL.into_iter().zip(&self.audit_sinks)
    }

    /// How many lines of the log were dropped.
    pub fn log_lines_dropped(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.log_lines_dropped.set(Box::new(read));
    }

    /// How much an exporter has dropped, by signal.
    pub fn telemetry_dropped(&self, read: impl Fn() -> [(&'static str, u64); 2] + Send + Sync + 'static) {
        let _ = self.telemetry_dropped.set(Box::new(read));
    }

    fn encode_readiness(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(reasons) = self.readiness.get().map(|read| read()) else { return Ok(()) };
        let is_ready = !reasons.iter().any(|(_, applies)| *applies);
        single_gauge(encoder, &names::READY, i64::from(is_ready))?;
        let reasons = reasons.into_iter().map(|(reason, applies)| ([("reason", reason)], i64::from(applies)));
        gauge(encoder, &names::NOT_READY, reasons)
    }

    fn encode_permits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(pools) = self.permits.get().map(|read| read()) else { return Ok(()) };
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let limits = pools.iter().map(|pool| ([("pool", pool.pool)], whole(pool.limit)));
        gauge(encoder, &names::PERMITS, limits)?;
        let in_use = pools.iter().map(|pool| ([("pool", pool.pool)], whole(pool.in_use)));
        gauge(encoder, &names::PERMITS_IN_USE, in_use)
    }

    fn encode_keys(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(keys) = self.keys.get().map(|read| read()) else { return Ok(()) };
        let info = keys.iter().map(|key| ([("key", key.id.to_string()), ("role", key.role.to_owned())], 1_i64));
        gauge(encoder, &names::MASTER_KEY, info)?;
        let opened = keys.iter().map(|key| ([("key", key.id.to_string())], key.opened));
        counter(encoder, &names::RECORDS_OPENED, opened)
    }

    fn encode_audit(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let state = |reading: &OnceLock<AuditSinkReading>| reading.get().map(|read| read()).unwrap_or_default();
        let sinks: Vec<_> = self.sinks().map(|(sink, reading)| ([("sink", sink.word())], state(reading))).collect();
        let waiting = |state: &AuditSinkState| i64::try_from(state.waiting).unwrap_or(i64::MAX);
        gauge(encoder, &names::AUDIT_WAITING, sinks.iter().map(|(sink, state)| (*sink, waiting(state))))?;
        let failing = sinks.iter().map(|(sink, state)| (*sink, i64::from(state.is_failing)));
        gauge(encoder, &names::AUDIT_FAILING, failing)
    }

    fn encode_dropped(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(lines) = self.log_lines_dropped.get().map(|read| read()) {
            single_counter(encoder, &names::LOG_LINES_DROPPED, lines)?;
        }
        let Some(dropped) = self.telemetry_dropped.get().map(|read| read()) else { return Ok(()) };
        counter(encoder, &names::TELEMETRY_DROPPED, dropped.map(|(signal, count)| ([("signal", signal)], count)))
    }
}

/// The sources, as the registry reads them.
#[derive(Clone)]
pub(super) struct Scrape(pub(super) std::sync::Arc<Sources>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape(..)")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.encode_readiness(&mut encoder)?;
        self.0.encode_permits(&mut encoder)?;
        self.0.encode_keys(&mut encoder)?;
        self.0.encode_audit(&mut encoder)?;
        self.0.encode_dropped(&mut encoder)?;
        gauge(&mut encoder, &names::BUILD_INFO, [([("version", env!("CARGO_PKG_VERSION"))], 1_i64)])?;
        process::encode(&mut encoder)
    }
}
