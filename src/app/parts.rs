//! Which adapters a configuration means.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::Router;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::{Cause, StartError};
use crate::{
    config::Config,
    domain::{quota::Window, time::Timestamp},
    ports::{
        clock::Deadline,
        store::{Inserted, Name, Sealed, Store, StoreError, Swapped, TakeId, Taken, Version},
    },
};

/// What parts are made from.
pub struct Ground<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What the health service answers.
    pub health: HealthReporter,
    /// Tracks what calls leave behind: the process ends after it.
    pub work: TaskTracker,
}

/// Serves gRPC on a listener until the token is cancelled and all calls have ended.
pub type Serve = Box<dyn FnOnce(TcpListener, CancellationToken) -> Serving + Send>;

/// A server that runs.
pub type Serving = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send>>;

/// What runs.
pub struct Parts {
    /// Where state lives.
    pub store: Arc<dyn Store>,
    /// The gRPC server.
    pub serve: Serve,
    /// What the operations server offers besides probes.
    pub operations: Router,
}

/// The parts that the configuration means.
///
/// # Errors
/// The keys, the store or a provider cannot be had.
pub async fn assemble(ground: Ground<'_>) -> Result<Parts, StartError> {
    let store: Arc<dyn Store> = Arc::new(NoStore);
    let health = HealthServer::new(HealthService::from_health_reporter(ground.health));
    let serve: Serve = Box::new(move |listener, stop| {
        Box::pin(async move {
            let router = Server::builder().add_service(health);
            let connections = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(connections, stop.cancelled_owned()).await.map_err(Into::into)
        })
    });
    Ok(Parts { store, serve, operations: Router::new() })
}

/// Stands in until a store is wired: well, and of no use.
struct NoStore;

fn unwired<T>(operation: &'static str) -> Result<T, StoreError> {
    Err(StoreError::new(operation, "no store is wired"))
}

#[async_trait]
impl Store for NoStore {
    async fn load(&self, _: Name, _: Deadline) -> Result<Option<Sealed>, StoreError> {
        unwired("load")
    }
    async fn insert(&self, _: Name, _: &Sealed, _: Duration, _: Deadline) -> Result<Inserted, StoreError> {
        unwired("insert")
    }
    async fn swap(&self, _: Name, _: Version, _: &Sealed, _: Duration, _: Deadline) -> Result<Swapped, StoreError> {
        unwired("swap")
    }
    async fn take(&self, _: Name, _: TakeId, _: &[Window], _: Timestamp, _: Deadline) -> Result<Taken, StoreError> {
        unwired("take")
    }
    async fn give_back(&self, _: Name, _: TakeId, _: Deadline) -> Result<(), StoreError> {
        unwired("give back")
    }
    async fn check(&self, _: Deadline) -> Result<(), StoreError> {
        Ok(())
    }
}
