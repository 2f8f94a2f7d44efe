//! The otpd binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    otpd::cli::run(std::env::args_os())
}
