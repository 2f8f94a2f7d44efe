//! `otpd health`: asks the server of the same configuration, as a probe would.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use tokio::{runtime, time::timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{FAILED, output};
use crate::{
    app::Cause,
    config::Config,
    readiness::{PROCESS, SERVICES},
};

const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(config: &Config, live: bool) -> ExitCode {
    let [otp, _] = SERVICES;
    let service = if live { PROCESS } else { otp };
    let address = reachable(config.server.listen);
    let asked = runtime::Builder::new_current_thread().enable_all().build().map_err(Cause::from).and_then(|runtime| {
        let answer = runtime.block_on(async { timeout(TIMEOUT, ask(address, service)).await });
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

async fn ask(address: SocketAddr, service: &str) -> Result<ServingStatus, Cause> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner().status())
}

/// Where a server that listens here can be asked: one that listens everywhere listens on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, listen.port())
}
