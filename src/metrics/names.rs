//! What the metrics are called: for Prometheus, and by OpenTelemetry's conventions.
//!
//! `rpc.*`, `error.type` and `process.*` are those of the semantic conventions 1.44, and of Prometheus' client libraries.

/// One metric.
#[derive(Debug)]
pub(crate) struct MetricName {
    /// As it is registered. A counter is shown with `_total` after it, a histogram as three.
    pub(crate) prometheus: &'static str,
    /// As it is sent by OTLP.
    pub(crate) otel: &'static str,
    /// Its unit there (UCUM).
    pub(crate) unit: &'static str,
    /// What it tells, for whoever looks at it without the documentation.
    pub(crate) help: &'static str,
}

/// Makes a constant of each, and a list of all.
macro_rules! names {
    ($($name:ident = $prometheus:literal, $otel:literal, $unit:literal, $help:literal;)*) => {
        $(pub(super) static $name: MetricName =
            MetricName { prometheus: $prometheus, otel: $otel, unit: $unit, help: $help };)*
        /// All metrics.
        pub(crate) static ALL: &[&MetricName] = &[$(&$name),*];
    };
}

names! {
    CALLS = "rpc_server_call_duration_seconds", "rpc.server.call.duration", "s",
        "Duration of calls by method, status code and outcome";
    CALLER_CALLS = "otp_caller_calls", "otp.caller.calls", "{call}",
        "Calls by caller; _UNKNOWN: none that is known; empty: no callers are configured, or no method was asked for";
    SHED = "otp_calls_shed", "otp.calls.shed", "{call}", "Calls shed before any work";
    PERMITS = "otp_permits", "otp.permits", "{permit}", "How many calls may be worked on at once";
    PERMITS_IN_USE = "otp_permits_in_use", "otp.permits.in_use", "{permit}", "How many calls are worked on";
    CONNECTIONS = "otp_connections", "otp.connections", "{connection}", "Connections that are open";
    CONNECTIONS_REFUSED = "otp_connections_refused", "otp.connections.refused", "{connection}",
        "Connections closed at once, for too many were open";
    CERTIFICATE_EXPIRY = "otp_certificate_expiry_timestamp_seconds", "otp.certificate.expiry", "s",
        "When the certificate of a listener expires, in seconds since 1970";
    CERTIFICATE_RELOADS = "otp_certificate_reloads", "otp.certificate.reloads", "{reload}",
        "How often certificates were read again";
    READY = "otp_ready", "otp.ready", "1", "Whether otpd should get calls";
    NOT_READY = "otp_not_ready", "otp.not_ready", "1", "Why it should not";
    STORE_CALLS = "otp_store_operation_duration_seconds", "otp.store.operation.duration", "s",
        "Duration of operations of the store by outcome";
    STORE_CONNECTED = "otp_store_connected", "otp.store.connected", "1",
        "Whether the store has answered the last examination";
    CLOCK_SKEW = "otp_store_clock_skew_seconds", "otp.store.clock_skew", "s",
        "How far the clock of this machine is ahead of the store's, at least; more than 1 either way is off";
    STORE_LOSSES = "otp_store_losses", "otp.store.losses", "{loss}",
        "How often the store was found to have lost a part of its records or all, or to be replaced";
    PROVIDER_CALLS = "otp_provider_call_duration_seconds", "otp.provider.call.duration", "s",
        "Duration of calls to providers by operation and outcome";
    BREAKER_OPEN = "otp_breaker_open", "otp.breaker.open", "1", "Whether a provider is left alone for a while";
    BREAKER_OPENINGS = "otp_breaker_openings", "otp.breaker.openings", "{opening}", "How often a breaker has opened";
    CHALLENGES = "otp_challenges", "otp.challenges", "{challenge}", "Challenges opened or refused";
    SENDS = "otp_sends", "otp.sends", "{send}", "Sends settled or refused";
    VERIFICATIONS = "otp_verifications", "otp.verifications", "{attempt}", "Attempts judged or refused";
    LOCKS = "otp_locks", "otp.locks", "{lock}", "Locks of accounts and contacts";
    UNLOCKS = "otp_unlocks", "otp.unlocks", "{unlock}", "Accounts and contacts that an operator unlocked";
    QUOTA_REFUSALS = "otp_quota_refusals", "otp.quota.refusals", "{refusal}", "What quotas have refused";
    MASTER_KEY = "otp_master_key_info", "otp.master_key.info", "1",
        "The master keys: the active one seals, names are derived from the index key";
    RECORDS_OPENED = "otp_records_opened", "otp.records.opened", "{record}", "Records opened, by the key that sealed them";
    AUDIT_EVENTS = "otp_audit_events", "otp.audit.events", "{event}", "Events of the audit by sink and what became of them";
    AUDIT_WAITING = "otp_audit_waiting", "otp.audit.waiting", "{event}", "Events of the audit that wait to be written";
    AUDIT_FAILING = "otp_audit_failing", "otp.audit.failing", "1", "Whether the last try to write events of the audit has failed";
    LOG_LINES_DROPPED = "otp_log_lines_dropped", "otp.log.lines.dropped", "{line}",
        "Lines of the log that are missing, for standard error was not read";
    TELEMETRY_DROPPED = "otp_telemetry_dropped", "otp.telemetry.dropped", "{item}",
        "Spans, and readings of the metrics, that no collector took";
    BUILD_INFO = "otp_build_info", "otp.build.info", "1", "The version that runs";
    START_TIME = "process_start_time_seconds", "process.start_time", "s", "When the process started, in seconds since 1970";
    CPU = "process_cpu_seconds", "process.cpu.time", "s", "Processor time used, in seconds";
    MEMORY = "process_resident_memory_bytes", "process.memory.usage", "By", "Memory in use, in bytes";
    OPEN_FDS = "process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}", "Open file descriptors";
    MAX_FDS = "process_max_fds", "process.unix.file_descriptor.limit", "{file_descriptor}", "How many there may be";
}

/// Labels whose names in OpenTelemetry's conventions have dots. All others are called the same.
pub(crate) static ATTRIBUTES: [(&str, &str); 4] = [
    ("rpc_system_name", "rpc.system.name"),
    ("rpc_method", "rpc.method"),
    ("rpc_response_status_code", "rpc.response.status_code"),
    ("error_type", "error.type"),
];
