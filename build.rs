//! Compiles the contract: proto -> descriptor set (for reflection) -> Rust, without a protoc binary.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO: &str = "otp/v1/otp.proto";
const INCLUDE: &str = "proto";

/// Messages that carry codes, destinations, account ids, provider parameters, transactions or a person's device. They
/// get no derived `Debug`; `src/grpc/redacted.rs` prints their names only. A oneof is a type of its own and is listed
/// beside its message.
const REDACTED: &[&str] = &[
    ".otp.v1.RequestHeader",
    ".otp.v1.Amount",
    ".otp.v1.Transaction",
    ".otp.v1.Destination",
    ".otp.v1.Destination.destination",
    ".otp.v1.ClientContext",
    ".otp.v1.ChallengeOption",
    ".otp.v1.CreateChallengeRequest",
    ".otp.v1.SendOtpRequest",
    ".otp.v1.SendOtpSuccess",
    ".otp.v1.VerifyOtpRequest",
    ".otp.v1.Verified",
    ".otp.v1.VerifyOtpResponse",
    ".otp.v1.CancelChallengeRequest",
    ".otp.v1.GetChallengeRequest",
    ".otp.v1.GetChallengeResponse",
    ".otp.v1.GetAccountRequest",
    ".otp.v1.LockAccountRequest",
    ".otp.v1.UnlockAccountRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={INCLUDE}/{PROTO}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut compiler = protox::Compiler::new([INCLUDE])?;
    // The comments become Rust docs, and `grpcurl describe` shows them.
    compiler.include_source_info(true).include_imports(true).open_file(PROTO)?;
    fs::write(out.join("otp_v1_descriptor.bin"), compiler.encode_file_descriptor_set())?;

    // The client is for tests and other callers in this package.
    tonic_prost_build::configure()
        .btree_map(".otp.v1")
        .skip_debug(REDACTED)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
