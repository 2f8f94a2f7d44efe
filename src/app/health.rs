//! What readiness rests on, and how `grpc.health.v1` answers it.

use async_trait::async_trait;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    ports::{clock::Deadline, store::StoreError},
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

#[async_trait]
impl Examiner for Witness {
    async fn examine(&self, deadline: Deadline) -> Result<Findings, StoreError> {
        let examined: Examination = Self::examine(self, deadline).await?;
        let wrong_keys = examined.wrong_keys.as_ref().map(ToString::to_string);
        Ok(Findings { is_clock_off: examined.is_clock_off(), wrong_keys })
    }
}
