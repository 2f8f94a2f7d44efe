//! How a supervisor such as systemd is told how otpd does: variables of its own, which are no settings.

use std::time::Duration;

use super::source::Source;

/// Where a supervisor listens, and how often it wants to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// The address of its socket (`NOTIFY_SOCKET` of `sd_notify(3)`).
    pub socket: Option<String>,
    /// After how long a silence it takes the process for stuck (`WATCHDOG_USEC` and `WATCHDOG_PID` of `sd_watchdog_enabled(3)`).
    pub watchdog: Option<Duration>,
}

impl Supervision {
    pub(super) fn read(source: &Source) -> Self {
        let socket = source.variable("NOTIFY_SOCKET").map(str::to_owned);
        let number = |name| source.variable(name).and_then(|value| value.trim().parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
        let span = number("WATCHDOG_USEC").filter(|span| is_ours && *span > 0);
        Self { socket, watchdog: span.map(Duration::from_micros) }
    }
}
