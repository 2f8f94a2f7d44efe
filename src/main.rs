//! The otpd binary.

use std::process::ExitCode;

/// A call allocates on one thread and frees on another all the time, which costs the system's allocator a fifth of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    otpd::cli::run(std::env::args_os())
}
