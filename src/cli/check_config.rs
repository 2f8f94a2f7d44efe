//! `otpd check-config`: what the settings come to.

use std::process::ExitCode;

use super::{MISUSED, output};
use crate::config::Config;

pub(super) fn run(config: &Config) -> ExitCode {
    if let Err(error) = config.keys.text() {
        output::complain(&format!("otpd: the configuration is wrong:\nkeys.file: cannot read: {error}\n"));
        return ExitCode::from(MISUSED);
    }
    let mut lines = vec!["the configuration is valid".to_owned()];
    lines.extend(config.summary());
    lines.extend(config.warnings().into_iter().map(|warning| format!("warning: {warning}")));
    output::say(&(lines.join("\n") + "\n"));
    ExitCode::SUCCESS
}
