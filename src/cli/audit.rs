//! `otpd audit verify` and `otpd tag`: what an auditor and support ask.

use std::{
    fmt::Write,
    io::{self, Read, stdin},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{FAILED, output};
use crate::{
    app::{App, AuditReport, TagOwner},
    config::Config,
};

/// More than any account or mailbox.
const MAX_INPUT: u64 = 1024;
const OWNERS: [(&str, TagOwner, &str, &str); 3] = [
    ("account", TagOwner::Account, "ACCOUNT", "Of an account"),
    ("challenge", TagOwner::Challenge, "REQUEST_ID", "Of a challenge, by the request_id of its CreateChallenge"),
    ("contact", TagOwner::Contact, "NUMBER|MAILBOX", "Of the contact of a registration"),
];

/// `otpd audit`.
pub(super) fn audit_command() -> Command {
    let files = Arg::new("FILE")
        .required(true)
        .num_args(1..)
        .value_parser(value_parser!(PathBuf))
        .help("Files of one replica, oldest first: audit.jsonl.* audit.jsonl");
    let verify = Command::new("verify")
        .about("Check that no line was changed, removed, added or moved; seals too, where the master keys are at hand")
        .arg(files);
    Command::new("audit").about("Look at files of the audit").subcommand_required(true).subcommand(verify)
}

/// `otpd tag`.
pub(super) fn tag_command() -> Command {
    let command = Command::new("tag")
        .about("Print the tag that logs, traces and events have instead of an account, a challenge or a contact")
        .subcommand_required(true);
    OWNERS.into_iter().fold(command, |command, (name, _, value, about)| {
        let tenant = Arg::new("TENANT").required(true).help("The tenant that it belongs to");
        let help = "What it is; -: the first line of standard input, which other processes do not see";
        let value = Arg::new("VALUE").value_name(value).required(true).help(help);
        command.subcommand(Command::new(name).about(about).arg(tenant).arg(value))
    })
}

pub(super) fn verify(config: &Config, asked: &ArgMatches) -> ExitCode {
    let files = asked.subcommand().and_then(|(_, asked)| asked.get_many::<PathBuf>("FILE"));
    let files: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
    match App::verify_audit(config, &files) {
        Ok(verified) => {
            output::say(&report(&verified));
            for fault in &verified.faults {
                output::complain(&format!("{fault}\n"));
            }
            if verified.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(cause) => {
            output::complain(&format!("otpd: {cause}\n"));
            ExitCode::from(FAILED)
        }
    }
}

fn report(verified: &AuditReport) -> String {
    let AuditReport { lines, first, last, seals, gaps, unsealed, faults } = verified;
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = match (first, last) {
        (Some(first), Some((last, hash))) => {
            writeln!(text, "lines: {lines}, from {first} of the chain\nlast: {last} {hash}")
        }
        _ => writeln!(text, "lines: none"),
    };
    if first.is_some_and(|first| first > 1) {
        text.push_str("begins within the chain: what was before is not verified\n");
    }
    let (right, all) = seals;
    let _ = match unsealed {
        Some(unsealed) => writeln!(text, "seals: {right} of {all} are right; lines after the last: {unsealed}"),
        None => writeln!(text, "seals: {all}, not verified without master keys"),
    };
    if *gaps > 0 {
        let _ = writeln!(text, "gaps: {gaps} lines say that events are missing: they were not written fast enough");
    }
    let _ = writeln!(text, "{}", if faults.is_empty() { "whole" } else { "NOT WHOLE" });
    text
}

pub(super) fn tag(config: &Config, asked: &ArgMatches) -> ExitCode {
    let Some((name, asked)) = asked.subcommand() else { return ExitCode::from(FAILED) };
    let owner = OWNERS.into_iter().find(|(known, ..)| *known == name).map_or(TagOwner::Account, |(_, owner, ..)| owner);
    let argument = |name: &str| asked.get_one::<String>(name).cloned().unwrap_or_default();
    let tagged = given(argument("VALUE")).map_err(|error| format!("standard input: {error}"));
    let tagged = tagged.and_then(|value| {
        App::support_tag(config, owner, &argument("TENANT"), value).map_err(|error| error.to_string())
    });
    match tagged {
        Ok(tag) => {
            output::say(&format!("{tag}\n"));
            ExitCode::SUCCESS
        }
        Err(cause) => {
            output::complain(&format!("otpd: {cause}\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// An argument; where it is `-`, a line of standard input.
fn given(argument: String) -> io::Result<String> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    stdin().take(MAX_INPUT).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
