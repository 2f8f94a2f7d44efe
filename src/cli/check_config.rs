//! `otpd check-config`: what the settings come to.

use std::process::ExitCode;

use super::{MISUSED, output};
use crate::{config::Config, keys::ring::KeyRing};

pub(super) fn run(config: &Config) -> ExitCode {
    if let Err(mistake) = check_keys(config) {
        output::complain(&format!("otpd: the configuration is wrong:\nkeys.file: {mistake}\n"));
        return ExitCode::from(MISUSED);
    }
    let mut lines = vec!["the configuration is valid".to_owned()];
    lines.extend(config.summary());
    lines.extend(config.warnings().into_iter().map(|warning| format!("warning: {warning}")));
    output::say(&(lines.join("\n") + "\n"));
    ExitCode::SUCCESS
}

/// The keys of a file are no part of the settings, but of what they come to.
fn check_keys(config: &Config) -> Result<(), String> {
    let text = config.keys.text().map_err(|error| format!("cannot read: {error}"))?;
    let ring = text.map(|text| KeyRing::parse(&text, config.force.missing_lowest_key));
    ring.transpose().map(|_| ()).map_err(|bad| bad.to_string())
}
