//! `otpd backup`: a copy of the embedded store, from which a server can start.

use std::{path::Path, process::ExitCode};

use super::{FAILED, MISUSED, output};
use crate::{
    app::backup::{BackupError, back_up},
    config::Config,
};

pub(super) fn run(config: &Config, to: &Path) -> ExitCode {
    match back_up(config, to) {
        Ok(()) => {
            output::say(&format!("{} is a copy of the store\n", to.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&format!("otpd: {error}\n"));
            let misused = matches!(error, BackupError::NotEmbedded | BackupError::Url(_));
            ExitCode::from(if misused { MISUSED } else { FAILED })
        }
    }
}
