//! The binary, as an operator or an orchestrator meets it.

mod backup;
mod container;
mod serve;
mod supervised;
mod unit;

use std::{
    io,
    process::{Command, Output},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use prost_reflect::DescriptorPool;

/// The binary in an environment of its own.
fn otpd(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otpd"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> io::Result<(Option<i32>, String, String)> {
    let Output { status, stdout, stderr } = otpd(arguments, environment).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code(), text(stdout), text(stderr)))
}

fn file(text: &str) -> io::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    Ok(file)
}

#[test]
fn check_config_sums_up_what_is_right_without_secrets() {
    let key = "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let environment = [("OTPD__STORE__URL", "redis://:hunter2@db"), ("OTPD_MASTER_KEYS", key)];
    let (code, out, errors) = run(&["check-config"], &environment).unwrap();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(out.starts_with("the configuration is valid\nprofile: development\n"), "{out}");
    assert!(out.contains("store: redis://db\n") && out.contains("warning: a console provider"), "{out}");
    assert!(!out.contains("hunter2") && !out.contains("AAAA"), "{out}");
}

#[test]
fn check_config_tells_what_a_provider_cannot_do_and_which_file_it_misses() {
    let iserveu = [
        ("OTPD__PROVIDERS__ISERVEU__CLIENT_ID", "c"),
        ("OTPD__PROVIDERS__ISERVEU__CLIENT_SECRET", "s"),
        ("OTPD__PROVIDERS__ISERVEU__USERNAME", "u"),
    ];
    let (code, out, _) = run(&["check-config"], &iserveu).unwrap();
    assert_eq!(code, Some(0));
    assert!(out.contains("warning: providers.iserveu: "), "{out}");
    let mut missing = iserveu.to_vec();
    missing.push(("OTPD__PROVIDERS__ISERVEU__CA_FILE", "/nowhere/ca.pem"));
    missing.push(("OTPD__TELEMETRY__OTLP_ENDPOINT", "https://127.0.0.1:1"));
    missing.push(("OTPD__TELEMETRY__OTLP_CA_FILE", "/nowhere/collector.pem"));
    missing.push(("OTPD__AUDIT__FILE", "/nowhere/audit"));
    let (code, _, errors) = run(&["check-config"], &missing).unwrap();
    assert_eq!(code, Some(64));
    for expected in [
        "providers.iserveu: /nowhere/ca.pem: ",
        "telemetry.otlp_ca_file cannot be read: ",
        "audit.file: /nowhere is no folder",
    ] {
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn check_config_lists_all_mistakes() {
    let file = file("[server]\nlisten = 1\nlisen = 1\n[policy]\ncode_digits = 3\n").unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in [["check-config", "--config", path], ["--config", path, "check-config"]] {
        let (code, out, errors) = run(&arguments, &[("OTPD__LOG__FORMAT", "xml")]).unwrap();
        assert_eq!((code, out.as_str()), (Some(64), ""));
        for expected in
            ["server.listen: ", "server.lisen: ", "policy.code_digits: ", "log.format (OTPD__LOG__FORMAT): "]
        {
            assert!(errors.contains(&format!("\n{expected}")), "{errors}");
        }
    }
}

#[test]
fn the_file_is_named_by_the_option_or_the_variable() {
    let (wrong, right) = (file("nonsense = 1").unwrap(), file("").unwrap());
    let (wrong, right) = (wrong.path().to_str().unwrap(), right.path().to_str().unwrap());
    assert_eq!(run(&["check-config"], &[("OTPD_CONFIG", wrong)]).unwrap().0, Some(64));
    assert_eq!(run(&["check-config", "--config", right], &[("OTPD_CONFIG", wrong)]).unwrap().0, Some(0));
    let (code, _, errors) = run(&["check-config", "--config", "/nowhere/otpd.toml"], &[]).unwrap();
    assert_eq!(code, Some(64));
    assert!(errors.contains("/nowhere/otpd.toml: cannot read the configuration file: "), "{errors}");
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    for arguments in [&["serve"][..], &[], &["health"]] {
        let (code, _, errors) = run(arguments, &[("OTPD__SERVER__LISTEN", "here")]).unwrap();
        assert_eq!(code, Some(64), "{arguments:?}");
        assert!(errors.contains("server.listen (OTPD__SERVER__LISTEN): must be an IP address"), "{errors}");
    }
}

#[test]
fn usage() {
    assert_eq!(run(&["--frobnicate"], &[]).unwrap().0, Some(64));
    assert_eq!(run(&["generate-key", "--id", "0"], &[]).unwrap().0, Some(64));
    let (code, out, _) = run(&["--version"], &[]).unwrap();
    assert_eq!((code, out.as_str()), (Some(0), concat!("otpd ", env!("CARGO_PKG_VERSION"), "\n")));
    let (code, out, _) = run(&["--help"], &[]).unwrap();
    assert_eq!(code, Some(0));
    for command in ["serve", "check-config", "health", "backup", "keys", "generate-key", "descriptor", "--config"] {
        assert!(out.contains(command), "{out}");
    }
}

#[test]
fn generated_keys_are_fresh_and_fit_the_variable() {
    let first = run(&["generate-key"], &[]).unwrap().1;
    let second = run(&["generate-key", "--id", "7"], &[]).unwrap().1;
    let bytes = |line: &str, id: &str| STANDARD.decode(line.trim_end().strip_prefix(id).unwrap()).unwrap();
    let (first, second) = (bytes(&first, "1:"), bytes(&second, "7:"));
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_ne!(first, second);
}

/// Where a check that cannot be made is a failure, as in scripts/test.
#[expect(clippy::disallowed_methods, reason = "it is no setting of otpd")]
fn is_continuous_integration() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty())
}

/// Whoever has nothing but the set can read every message of the contract, and each detail of a status.
#[test]
fn the_descriptor_set_stands_alone_and_needs_no_configuration() {
    let written = otpd(&["descriptor"], &[("OTPD__SERVER__LISTEN", "nowhere")]).output().unwrap();
    assert_eq!((written.status.code(), written.stderr.as_slice()), (Some(0), &b""[..]));
    let pool = DescriptorPool::decode(written.stdout.as_slice()).unwrap();
    for service in ["otp.v1.OtpService", "otp.v1.OtpAdminService"] {
        assert!(pool.get_service_by_name(service).is_some(), "{service}");
    }
    for detail in ["Status", "ErrorInfo", "BadRequest", "RetryInfo"] {
        assert!(pool.get_message_by_name(&format!("google.rpc.{detail}")).is_some(), "{detail}");
    }
}

#[test]
fn a_descriptor_set_that_nobody_takes_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = otpd(&["descriptor"], &[]).stdout(full).stderr(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
