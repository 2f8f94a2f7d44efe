//! The command line: what was asked for, and how it ended.
//!
//! Exit codes: 0 done, 1 the start, a health check, a backup, a look at the keys or a tag failed, or the audit is not whole, 64 wrong usage or configuration
//! (`EX_USAGE` of sysexits).

mod audit;
mod backup;
mod check_config;
mod descriptor;
mod generate_key;
mod health;
mod keys;
mod output;
mod serve;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{Config, ConfigErrors, Source};

const FAILED: u8 = 1;
const MISUSED: u8 = 64;

/// Does what the arguments ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match command().try_get_matches_from(arguments) {
        Ok(asked) => dispatch(&asked),
        Err(answer) if !answer.use_stderr() => {
            output::say(&answer.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::from(MISUSED)
        }
    }
}

fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("Settings in TOML; OTPD_CONFIG where this is not given. OTPD__SECTION__KEY overrides any setting");
    let live = Arg::new("live")
        .long("live")
        .action(ArgAction::SetTrue)
        .help("Ask whether the process is alive, not whether it should get calls");
    let reseal = Arg::new("reseal")
        .long("reseal")
        .action(ArgAction::SetTrue)
        .help("Seal all records that are under other keys with the active one");
    let id = Arg::new("id")
        .long("id")
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..))
        .default_value("1")
        .help("The number of the key; a new one is higher than those in use");
    let to = Arg::new("DIR")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("Where the copy comes to be: a folder that does not exist, or is empty");
    Command::new("otpd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A gRPC one-time-password service. Without a command it serves.")
        .arg(config)
        .subcommand(
            Command::new("serve").about("Serve until SIGTERM or SIGINT, then drain; a second signal ends at once"),
        )
        .subcommand(Command::new("check-config").about("Check the settings and list all mistakes at once"))
        .subcommand(
            Command::new("health").about("Ask the server on server.listen whether it serves, within 2 s").arg(live),
        )
        .subcommand(Command::new("backup").about("Copy the embedded store, whether a server runs on it or not").arg(to))
        .subcommand(
            Command::new("keys")
                .about("Show which master keys the records of the store are sealed with, and which can be removed")
                .arg(reseal),
        )
        .subcommand(audit::audit_command())
        .subcommand(audit::tag_command())
        .subcommand(Command::new("descriptor").about(
            "Write the descriptor set of the contract and of its error details, for proxies and tools that speak JSON",
        ))
        .subcommand(Command::new("generate-key").about("Print a new key in the form of OTPD_MASTER_KEYS").arg(id))
}

fn dispatch(asked: &ArgMatches) -> ExitCode {
    match asked.subcommand() {
        Some(("generate-key", asked)) => generate_key::run(asked.get_one("id").copied().unwrap_or(1)),
        Some(("descriptor", _)) => descriptor::run(),
        Some(("audit", asked)) => configured(asked, |config| audit::verify(&config, asked)),
        Some(("tag", asked)) => configured(asked, |config| audit::tag(&config, asked)),
        Some(("backup", asked)) => {
            let to = asked.get_one::<PathBuf>("DIR").cloned().unwrap_or_default();
            configured(asked, |config| backup::run(&config, &to))
        }
        Some(("keys", asked)) => configured(asked, |config| keys::run(&config, asked.get_flag("reseal"))),
        Some(("check-config", asked)) => configured(asked, |config| check_config::run(&config)),
        Some(("health", asked)) => configured(asked, |config| health::run(&config, asked.get_flag("live"))),
        Some((_, asked)) => configured(asked, |config| serve::run(&config)),
        None => configured(asked, |config| serve::run(&config)),
    }
}

fn configured(asked: &ArgMatches, run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    let path = asked.get_one::<PathBuf>("config");
    let loaded = Source::of_process(path.map(PathBuf::as_path)).and_then(|source| Config::load(&source));
    loaded.map_or_else(|errors| refuse(&errors), run)
}

fn refuse(errors: &ConfigErrors) -> ExitCode {
    output::complain(&format!("otpd: the configuration is wrong:\n{errors}\n"));
    ExitCode::from(MISUSED)
}
