//! Plain HTTP for operators: `/livez`, `/readyz` and `/metrics`. Nothing here asks the store, so an answer is always at
//! hand.

mod connections;

use std::{future, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, ports::observer::ListenerObserver, readiness::ServingState};
use connections::Connections;

/// What is served.
pub(crate) fn router(state: watch::Receiver<ServingState>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(async move || ready(&state.borrow())))
        .route("/metrics", get(move || future::ready(scrape(&metrics))))
}

/// Why not, one word a line.
fn ready(state: &ServingState) -> (StatusCode, String) {
    let status = if state.is_serving() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", state.words().join("\n")))
}

/// All metrics, as Prometheus asks for them.
fn scrape(metrics: &Metrics) -> Result<Response, StatusCode> {
    let text = metrics.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((content_type, text).into_response())
}

/// Serves until `stop`, then lets answers on their way end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    observer: Arc<dyn ListenerObserver>,
    stop: CancellationToken,
) {
    let serving = axum::serve(Connections::of(listener, observer), router);
    let served = serving.with_graceful_shutdown(async move { stop.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!(%error, "the operations server ended");
    }
}

#[cfg(test)]
mod tests;
