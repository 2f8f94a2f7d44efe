//! `otpd serve`: runs until a signal, drains, and ends.

use std::{process::ExitCode, time::Duration};

use tokio::{
    pin, runtime,
    sync::{Notify, oneshot},
};

use super::{FAILED, output};
use crate::{
    app::{App, Cause, Shutdown},
    config::{Config, LogFormat},
    lifecycle::{EndSignal, Signals},
    telemetry,
};

/// What the drain has cut off is waited for no longer than this, and is silent then.
const CUT_OFF: Duration = Duration::from_millis(200);

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
    runtime.shutdown_timeout(CUT_OFF);
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!(%cause, "otpd ends");
            ExitCode::from(FAILED)
        }
    };
    // The last line, however it ended: whoever reads the log knows that nothing is missing.
    tracing::info!("stopped");
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
            tracing::info!(signal = signal.name(), "otpd ends before it has started");
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
    let reload = app.reload();
    let (ask, asked) = oneshot::channel();
    let running = app.run_until(async { asked.await.unwrap_or(Shutdown::Replaced) });
    pin!(running);
    let signal = tokio::select! {
        ended = &mut running => return ended.map_err(Cause::from),
        signal = signals.next(&reload) => signal,
    };
    tracing::info!(signal = signal.name(), "otpd drains");
    // Only an app that has ended does not hear it.
    let _ = ask.send(match signal {
        EndSignal::Terminate => Shutdown::Replaced,
        EndSignal::Interrupt => Shutdown::ByHand,
    });
    tokio::select! {
        ended = &mut running => ended.map_err(Cause::from),
        signal = signals.next(&reload) => Err(format!("{} while draining", signal.name()).into()),
    }
}
