//! What is logged while a test runs, at the finest level and by whatever crate.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};

/// No longer text is part of another by chance.
const LONGEST_BY_CHANCE: usize = 7;

/// Everything logged on the thread of the test. Tests that capture run on one thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Captures until the guard is dropped.
pub(crate) fn capture() -> (Log, DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        // Digits of the time would look like codes.
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The secrets that were logged, each with the first line that shows it.
    pub(crate) fn leaks(&self, secrets: &BTreeSet<String>) -> Vec<String> {
        let text = self.text();
        let leak = |secret: &String| {
            let line = text.lines().find(|line| shows(line, secret))?;
            Some(format!("{secret}: {line}"))
        };
        secrets.iter().filter_map(leak).collect()
    }
}

/// Whether a line shows a secret. One that is short counts only where it stands alone: it is part of a port by chance.
fn shows(line: &str, secret: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(secret).any(|(at, found)| {
        let (before, after) = (&line[..at], &line[at + found.len()..]);
        secret.len() > LONGEST_BY_CHANCE || !letter(before.chars().next_back()) && !letter(after.chars().next())
    })
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
