//! `otpd generate-key`: a master key, and nothing else, on standard output.

use std::process::ExitCode;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{FAILED, output};
use crate::{
    ports::entropy::{Entropy, SystemEntropy},
    secret::Secret,
};

pub(super) fn run(id: u32) -> ExitCode {
    let mut bytes = [0; 32];
    if let Err(error) = SystemEntropy.fill(&mut bytes) {
        output::complain(&format!("otpd: {error}\n"));
        return ExitCode::from(FAILED);
    }
    let key = Secret::new(bytes);
    let line = Secret::new(format!("{id}:{}\n", STANDARD.encode(key.expose())));
    output::say(line.expose());
    ExitCode::SUCCESS
}
