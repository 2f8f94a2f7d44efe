//! `otpd health`: asks the server of the same configuration, as a probe would.

use std::{process::ExitCode, time::Duration};

use tokio::{runtime, time::timeout};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{FAILED, output};
use crate::{
    app::{Cause, probe},
    config::Config,
    readiness::{PROCESS, SERVICES},
};

const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(config: &Config, live: bool) -> ExitCode {
    let [otp, _] = SERVICES;
    let service = if live { PROCESS } else { otp };
    let address = &config.server.listen;
    let asked = runtime::Builder::new_current_thread().enable_all().build().map_err(Cause::from).and_then(|runtime| {
        let answer = runtime.block_on(async { timeout(TIMEOUT, probe::health(&config.server, service)).await });
        answer.unwrap_or_else(|_| Err("no answer within 2 s".into()))
    });
    match asked {
        Ok(ServingStatus::Serving) => {
            output::say("SERVING\n");
            ExitCode::SUCCESS
        }
        Ok(status) => {
            output::say(&format!("{}\n", status.as_str_name()));
            ExitCode::from(FAILED)
        }
        Err(cause) => {
            output::complain(&format!("otpd: {address} does not answer: {cause}\n"));
            ExitCode::from(FAILED)
        }
    }
}
