//! Readiness, as `grpc.health.v1` answers it.

use async_trait::async_trait;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::readiness::Health;

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
