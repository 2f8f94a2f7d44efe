//! `otpd serve`: runs until a signal, drains, and ends.

use std::process::ExitCode;

use tokio::{pin, runtime};
use tokio_util::sync::CancellationToken;

use super::{FAILED, output};
use crate::{
    app::{App, Cause},
    config::{Config, LogFormat},
    lifecycle::Signals,
    telemetry,
};

pub(super) fn run(config: &Config) -> ExitCode {
    telemetry::install(config.log.format == LogFormat::Json, &config.log.filter);
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("otpd: cannot start: {error}\n"));
            return ExitCode::from(FAILED);
        }
    };
    let ended = runtime.block_on(serve(config));
    // What the drain has cut off must not hold the process.
    runtime.shutdown_background();
    let code = match ended {
        Ok(()) => {
            tracing::info!("otpd has stopped");
            ExitCode::SUCCESS
        }
        Err(cause) => {
            tracing::error!(%cause, "otpd ends");
            ExitCode::from(FAILED)
        }
    };
    telemetry::flush();
    code
}

async fn serve(config: &Config) -> Result<(), Cause> {
    // Before anything else: a signal during the start is not lost.
    let mut signals = Signals::install()?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let app = tokio::select! {
        app = App::start(config) => app?,
        signal = signals.next() => {
            tracing::info!(signal, "otpd ends before it has started");
            return Ok(());
        }
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        profile = config.profile.name(),
        store = config.store.shown(),
        grpc = %app.grpc_address(),
        operations = %app.operations_address(),
        "otpd serves"
    );
    app.metrics().sources.log_lines_dropped(telemetry::lines_dropped);
    let asked = CancellationToken::new();
    let running = app.run_until(asked.cancelled());
    pin!(running);
    tokio::select! {
        ended = &mut running => return ended.map_err(Cause::from),
        signal = signals.next() => tracing::info!(signal, "otpd drains"),
    }
    asked.cancel();
    tokio::select! {
        ended = &mut running => ended.map_err(Cause::from),
        signal = signals.next() => Err(format!("{signal} while draining").into()),
    }
}
