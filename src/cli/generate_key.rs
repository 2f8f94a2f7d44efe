//! `otpd generate-key`: a master key, and nothing else, on standard output.

use std::process::ExitCode;

use super::{FAILED, output};
use crate::{keys::generate::generate, ports::entropy::SystemEntropy};

pub(super) fn run(id: u32) -> ExitCode {
    match generate(id, &SystemEntropy) {
        Ok(ring) => {
            output::say(ring.expose());
            output::say("\n");
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&format!("otpd: {error}\n"));
            ExitCode::from(FAILED)
        }
    }
}
