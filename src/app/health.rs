//! What readiness rests on, and how `grpc.health.v1` answers it.

use std::sync::Arc;

use async_trait::async_trait;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    audit::Audit,
    ports::{clock::Deadline, decisions::DecisionObserver, store::StoreError},
    readiness::{Examiner, Findings, Health},
    service::witness::{Examination, Witness},
};

/// Tells the health service.
pub(super) struct Reported(pub(super) HealthReporter);

#[async_trait]
impl Health for Reported {
    async fn set(&self, service: &'static str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }

    async fn end(&self, service: &'static str) {
        self.0.clone().clear_service_status(service).await;
    }
}

/// What calls rest on.
pub(crate) struct Examined {
    pub(super) witness: Witness,
    pub(super) audit: Option<Arc<Audit>>,
}

#[async_trait]
impl Examiner for Examined {
    fn keeps_decisions(&self) -> bool {
        self.audit.as_ref().is_none_or(|audit| audit.accepts())
    }

    async fn examine(&self, deadline: Deadline) -> Result<Findings, StoreError> {
        let examined: Examination = self.witness.examine(deadline).await?;
        let wrong_keys = examined.wrong_keys.as_ref().map(ToString::to_string);
        Ok(Findings { is_clock_off: examined.is_clock_off(), wrong_keys })
    }
}
