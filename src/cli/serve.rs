//! `otpd serve`: runs until a signal, drains, and ends.

use std::{process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    pin, runtime,
    sync::{Notify, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{FAILED, output};
use crate::{
    app::{App, Cause, RunError, RunningApp, Shutdown},
    config::{Config, LogFormat, Supervision},
    lifecycle::{EndSignal, Signals, supervisor::Supervisor},
    metrics::Metrics,
    telemetry::{self, Exporter, OtlpError},
};

/// What the drain has cut off is waited for no longer than this, and is silent then.
const CUT_OFF: Duration = Duration::from_millis(200);
/// How long the supervisor's task may take over the last state.
const LAST_STATE: Duration = Duration::from_secs(1);

pub(super) fn run(config: &Config) -> ExitCode {
    let cannot_start = |error: Cause| {
        output::complain(&format!("otpd: cannot start: {error}\n"));
        ExitCode::from(FAILED)
    };
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cannot_start(error.into()),
    };
    // The connection to a collector lives in the runtime.
    let exporter = {
        let _within = runtime.enter();
        start_telemetry(config)
    };
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => return cannot_start(error.into()),
    };
    let ended = runtime.block_on(serve(config, exporter));
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

fn start_telemetry(config: &Config) -> Result<Option<Exporter>, OtlpError> {
    let (json, filter) = (config.log.format == LogFormat::Json, &config.log.filter);
    let exporter = config.otlp.as_ref().map(|settings| telemetry::install_exporting(json, filter, settings));
    if exporter.is_none() {
        telemetry::install(json, filter);
    }
    exporter.transpose()
}

async fn serve(config: &Config, exporter: Option<Exporter>) -> Result<(), Cause> {
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
    let supervised = TaskTracker::new();
    if let Some(supervisor) = supervisor(config) {
        supervised.spawn(supervisor.follow(app.serving()));
    }
    app.metrics().sources.log_lines_dropped(telemetry::lines_dropped);
    let exporting = exporter.map(|exporter| Exporting::start(exporter, app.metrics()));
    let ended = run_until_signal(app, &mut signals).await?;
    if let Some(exporting) = exporting {
        exporting.end().await;
    }
    // The last state has been told by then, unless the supervisor does not read.
    supervised.close();
    let _ = timeout(LAST_STATE, supervised.wait()).await;
    ended.map_err(Cause::from)
}

/// Who wants to be told how the process does. One that cannot be told is no reason not to serve.
fn supervisor(config: &Config) -> Option<Supervisor> {
    let Supervision { socket, watchdog } = &config.supervision;
    let supervisor = Supervisor::at(socket.as_deref()?, *watchdog);
    supervisor.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used")).ok()
}

/// Runs until a signal, and drains until another one, which is the error: nothing but the audit is waited for then.
async fn run_until_signal(app: RunningApp, signals: &mut Signals) -> Result<Result<(), RunError>, Cause> {
    let (reload, last_events) = (app.reload(), app.last_events());
    let (ask, asked) = oneshot::channel();
    let running = app.run_until(async { asked.await.unwrap_or(Shutdown::Replaced) });
    pin!(running);
    let signal = tokio::select! {
        ended = &mut running => return Ok(ended),
        signal = signals.next(&reload) => signal,
    };
    tracing::info!(signal = signal.name(), "otpd drains");
    // Only an app that has ended does not hear it.
    let _ = ask.send(match signal {
        EndSignal::Terminate => Shutdown::Replaced,
        EndSignal::Interrupt => Shutdown::ByHand,
    });
    tokio::select! {
        ended = &mut running => Ok(ended),
        signal = signals.next(&reload) => {
            last_events.await;
            Err(format!("{} while draining", signal.name()).into())
        }
    }
}

/// Traces and metrics on their way to a collector.
struct Exporting {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Exporting {
    fn start(exporter: Exporter, metrics: &Arc<Metrics>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let dropped = exporter.dropped();
        metrics.sources.telemetry_dropped(move || dropped.by_signal());
        let metrics = Arc::clone(metrics);
        tasks.spawn(exporter.run(move || metrics.text().ok(), stop.clone()));
        Self { stop, tasks }
    }

    /// Sends the last of both, within a bound of the exporter's.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
