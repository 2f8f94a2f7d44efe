//! Tells a supervisor such as systemd how otpd does, by the protocol of `sd_notify(3)`: datagrams of lines `NAME=value`.
//!
//! - `READY=1` once otpd listens, even while the store is away: a supervisor would otherwise keep other units waiting. The status
//!   tells whether it serves.
//! - `STATUS=` whenever readiness changes, in the words of `/readyz`.
//! - `STOPPING=1` when it begins to drain.
//! - `WATCHDOG=1` twice in the span that the supervisor wants, from a task of the runtime: it proves that tasks and timers still run.

use std::{
    io,
    os::unix::net::{self, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UnixDatagram,
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::readiness::{ServingState, Unready};

/// How long a supervisor that does not read is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long after a `READY=1` that the supervisor did not take it is told again, where no watchdog sets the pace.
const AGAIN: Duration = Duration::from_secs(5);

/// A supervisor that wants to be told.
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that listens on a socket: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The address is of another kind, or nobody listens there.
    pub(crate) fn at(address: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&address_of(address)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixDatagram::from_std(socket)?, watchdog })
    }

    /// Tells that otpd has started, and from then on how it does, until the state is gone.
    pub(crate) async fn follow(self, mut state: watch::Receiver<ServingState>) {
        let mut due = interval(self.watchdog.map_or(AGAIN, |span| (span / 2).max(Duration::from_millis(1))));
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_started = false;
        loop {
            let is_changed = tokio::select! {
                // A state that changes as often as it likes does not hold up the watchdog.
                biased;
                _ = due.tick() => false,
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    true
                }
            };
            if !is_started {
                let first = format!("READY=1\n{}", message(&state.borrow_and_update()));
                is_started = self.tell(&first).await;
            } else if is_changed {
                let changed = message(&state.borrow_and_update());
                self.tell(&changed).await;
            } else if self.watchdog.is_some() {
                self.tell("WATCHDOG=1").await;
            }
        }
    }

    /// Whether the supervisor took it.
    async fn tell(&self, message: &str) -> bool {
        match timeout(TIMEOUT, self.socket.send(message.as_bytes())).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => tracing::warn!(%error, "the supervisor was not told"),
            Err(_) => tracing::warn!("the supervisor does not read what it is told"),
        }
        false
    }
}

/// What the supervisor is told of a state.
fn message(state: &ServingState) -> String {
    if state.is(Unready::Draining) {
        return "STOPPING=1\nSTATUS=draining".to_owned();
    }
    let words = state.words().join(", ");
    if state.is_serving() { format!("STATUS={words}") } else { format!("STATUS=not ready: {words}") }
}

#[cfg(target_os = "linux")]
fn address_of(text: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => path_address(text),
    }
}

#[cfg(not(target_os = "linux"))]
fn address_of(text: &str) -> io::Result<SocketAddr> {
    path_address(text)
}

fn path_address(text: &str) -> io::Result<SocketAddr> {
    if text.starts_with('/') {
        SocketAddr::from_pathname(text)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_in_the_words_of_readyz() {
        for (reasons, expected) in [
            (vec![], "STATUS=serving"),
            (vec![Unready::Starting], "STATUS=not ready: starting"),
            (vec![Unready::Clock, Unready::Store], "STATUS=not ready: store, clock"),
            (vec![Unready::Store, Unready::Draining], "STOPPING=1\nSTATUS=draining"),
        ] {
            assert_eq!(message(&ServingState::unready(reasons)), expected);
        }
    }

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        assert!(address_of("/run/systemd/notify").is_ok());
        assert_eq!(address_of("@otpd").is_ok(), cfg!(target_os = "linux"));
        assert!(address_of("vsock:2:1234").is_err());
    }
}
