//! `otpd descriptor`: the descriptor set, and nothing else, on standard output.

use std::process::ExitCode;

use super::{FAILED, output};
use crate::grpc::descriptor::descriptor_set;

pub(super) fn run() -> ExitCode {
    let written = descriptor_set().map_err(std::io::Error::other).and_then(|set| output::write(&set));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("otpd: the descriptor set was not written: {error}\n"));
            ExitCode::from(FAILED)
        }
    }
}
