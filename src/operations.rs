//! Plain HTTP for those who run otpd: `/livez` and `/readyz`. Nothing here asks the store, so an answer is always at hand.

mod connections;

use axum::{Router, http::StatusCode, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::readiness::State;
use connections::Connections;

/// What is served, besides what others add to it.
pub fn router(state: watch::Receiver<State>) -> Router {
    Router::new().route("/livez", get(async || "alive\n")).route("/readyz", get(async move || ready(*state.borrow())))
}

fn ready(state: State) -> (StatusCode, String) {
    let status = if state == State::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", state.word()))
}

/// Serves until `stop`, then lets answers on their way end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let serving = axum::serve(Connections::of(listener), router);
    let served = serving.with_graceful_shutdown(async move { stop.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!(%error, "the operations server ended");
    }
}

#[cfg(test)]
mod tests;
