//! `otpd serve`: runs until a signal, drains, and ends.

use std::process::ExitCode;

use tokio::{pin, runtime, sync::Notify};
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
    let nobody = Notify::new();
    let app = tokio::select! {
        app = App::start(config) => app?,
        signal = signals.next(&nobody) => {
            tracing::info!(signal, "otpd ends before it has started");
            return Ok(());
        }
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        profile = config.profile.name(),
        store = config.store.shown(),
        grpc = %app.grpc_address(),
        admin = app.admin_address().map(tracing::field::display),
        operations = %app.operations_address(),
        "otpd serves"
    );
    let asked = CancellationToken::new();
    let reload = app.reload();
    let running = app.run_until(asked.cancelled());
    pin!(running);
    tokio::select! {
        ended = &mut running => return ended.map_err(Cause::from),
        signal = signals.next(&reload) => tracing::info!(signal, "otpd drains"),
    }
    asked.cancel();
    tokio::select! {
        ended = &mut running => ended.map_err(Cause::from),
        signal = signals.next(&reload) => Err(format!("{signal} while draining").into()),
    }
}
