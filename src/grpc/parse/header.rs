//! The header that all requests share.

use std::sync::Arc;

use super::{Context, FieldReason, Violations, values};
use crate::{
    domain::{
        ids::{RequestId, Tenant},
        time::Timestamp,
    },
    grpc::proto,
    service::request::Caller,
};

/// The major version of the protocol that is spoken here.
const MAJOR: i32 = 1;

/// Who calls.
pub(super) fn caller(
    faults: &mut Violations,
    context: &Context,
    header: Option<proto::RequestHeader>,
) -> Option<Caller> {
    let Some(header) = header else {
        faults.missing("request_header");
        return None;
    };
    version(faults, header.protocol_version);
    let request_id = values::id(faults, "request_header.request_id", &header.request_id, RequestId::parse);
    made_at(faults, context, header.request_timestamp);
    let tenant = values::id(
        faults,
        "request_header.payment_integrator_account_id",
        &header.payment_integrator_account_id,
        Tenant::parse,
    );
    // Also of a request that is at fault elsewhere: its line in the log names it. Nothing else sets them.
    if let Some(tenant) = &tenant {
        let _ = context.record.tenant.set(tenant.clone());
    }
    if let Some(request_id) = &request_id {
        let _ = context.record.request_id.set(request_id.clone());
    }
    let (rights, record) = (Arc::clone(&context.rights), Arc::clone(&context.record));
    Some(Caller { tenant: tenant?, request_id: request_id?, deadline: context.deadline, rights, record })
}

fn version(faults: &mut Violations, version: Option<proto::ProtocolVersion>) {
    let Some(version) = version else {
        return faults.missing("request_header.protocol_version");
    };
    if version.major != MAJOR {
        faults.add("request_header.protocol_version.major", FieldReason::InvalidApiVersion, "must be 1");
    }
    if version.minor < 0 {
        faults.invalid("request_header.protocol_version.minor", "must not be negative");
    }
    if version.revision < 0 {
        faults.invalid("request_header.protocol_version.revision", "must not be negative");
    }
}

fn made_at(faults: &mut Violations, context: &Context, made_at: Option<proto::EpochTimestamp>) {
    const FIELD: &str = "request_header.request_timestamp";
    let Some(made_at) = made_at else {
        return faults.missing(FIELD);
    };
    let Some(made_at) = values::timestamp(faults, FIELD, made_at) else {
        return;
    };
    if context.max_skew.is_some_and(|max_skew| distance(made_at, context.now) > max_skew) {
        faults.add(FIELD, FieldReason::RequestTimestampOutOfRange, "is too far from the server's clock");
    }
}

fn distance(one: Timestamp, other: Timestamp) -> std::time::Duration {
    one.since(other).max(other.since(one))
}
