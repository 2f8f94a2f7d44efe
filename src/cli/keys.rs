//! `otpd keys`: which master keys are in use, and which can be removed.

use std::{
    fmt::Write,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use tokio::runtime;

use super::{FAILED, output};
use crate::{
    app::{App, Cause, KeyRow, KeyUsage},
    config::Config,
    ports::clock::Stopwatch,
    telemetry,
};

/// How often it is told how far the walk has come.
const TOLD_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(config: &Config, reseal: bool) -> ExitCode {
    telemetry::install(false, "warn");
    let mut told = Stopwatch::start();
    let progress = |usage: &KeyUsage| {
        if told.elapsed() >= TOLD_EVERY {
            told = Stopwatch::start();
            output::complain(&format!("otpd: {} records so far\n", usage.records()));
        }
    };
    let reviewed = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Cause::from)
        .and_then(|runtime| runtime.block_on(App::review_keys(config, reseal, progress)).map_err(Cause::from));
    telemetry::flush();
    match reviewed {
        Ok(usage) => {
            output::say(&report(&usage, reseal));
            ExitCode::SUCCESS
        }
        Err(cause) => {
            output::complain(&format!("otpd: {cause}\n"));
            if config.store.is_embedded() {
                output::complain("otpd: an embedded store is looked over while otpd is stopped\n");
            }
            ExitCode::from(FAILED)
        }
    }
}

fn report(usage: &KeyUsage, reseal: bool) -> String {
    let mut text = format!(
        "{:>10}  {:<7}  {:>10}  {:>10}  {:>8}  {:>10}  {:>10}\n",
        "key", "status", "challenges", "lockouts", "canaries", "unopened", "live codes"
    );
    for (id, row) in &usage.rows {
        let KeyRow { challenges, lockouts, canaries, unopened, codes, .. } = row;
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{id:>10}  {:<7}  {challenges:>10}  {lockouts:>10}  {canaries:>8}  {unopened:>10}  {codes:>10}",
            status(usage, *id)
        );
    }
    text.push('\n');
    if reseal {
        let _ = writeln!(text, "{} records were sealed anew with key {}", usage.resealed, active(usage));
    }
    if usage.changed > 0 {
        let _ = writeln!(text, "{} records were changed by otpd meanwhile: run this again", usage.changed);
    }
    if usage.unknown > 0 {
        let _ = writeln!(text, "{} records have a format that this version does not know", usage.unknown);
    }
    for (id, row) in &usage.rows {
        let _ = writeln!(text, "key {id}: {}", verdict(usage, *id, row));
    }
    text
}

fn active(usage: &KeyUsage) -> u32 {
    usage.ring.first().copied().unwrap_or(usage.lowest)
}

fn status(usage: &KeyUsage, id: u32) -> &'static str {
    match usage.ring.iter().position(|known| *known == id) {
        Some(0) => "active",
        Some(_) => "in ring",
        None => "missing",
    }
}

/// Whether a key can be removed.
fn verdict(usage: &KeyUsage, id: u32, row: &KeyRow) -> String {
    if !usage.ring.contains(&id) {
        let unopened = row.unopened;
        return format!(
            "is missing: {unopened} records cannot be opened, and their calls fail. Put it back at the end of the ring, or let \
             UnlockAccount replace the lockouts"
        );
    }
    if id == usage.lowest {
        return "stays: names are derived from it, and it is never removed".to_owned();
    }
    if id == active(usage) {
        return "is active".to_owned();
    }
    let elsewhere = format!("if every replica has had key {} first since before this began", active(usage));
    match (row.records(), row.codes_until) {
        (0, None) if usage.changed == 0 => format!("is in use by nothing: it can be removed, {elsewhere}"),
        (0, None) => "is in use by nothing that was seen: run this again before it is removed".to_owned(),
        (0, Some(until)) => {
            let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(until.as_millis()));
            format!(
                "seals nothing, and the last code that was made with it expires at {until}: then it can be removed, {elsewhere}"
            )
        }
        (records, _) => format!("seals {records} records: `otpd keys --reseal` seals them with the active key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: u32, row: KeyRow, changed: u64) -> String {
        let usage = KeyUsage { ring: vec![3, 2, 1], lowest: 1, changed, ..KeyUsage::default() };
        verdict(&usage, id, &row)
    }

    #[test]
    fn a_key_is_let_go_only_when_nothing_needs_it() {
        let none = KeyRow::default();
        assert!(
            told(2, none, 0).starts_with("is in use by nothing: it can be removed, if every replica has had key 3")
        );
        for (id, row, changed, words) in [
            (1, none, 0, "stays: "),
            (3, none, 0, "is active"),
            (2, none, 1, "is in use by nothing that was seen: run this again"),
            (2, KeyRow { lockouts: 1, ..none }, 0, "seals 1 records: `otpd keys --reseal`"),
            (2, KeyRow { challenges: 2, codes: 1, ..none }, 0, "seals 2 records"),
            (4, KeyRow { challenges: 1, unopened: 1, ..none }, 0, "is missing: 1 records cannot be opened"),
        ] {
            let told = told(id, row, changed);
            assert!(told.starts_with(words), "{told}");
            assert!(!told.contains("can be removed"), "{told}");
        }
    }
}
