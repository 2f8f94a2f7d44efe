//! Verifying files of the audit: that no byte was changed, and no line removed, added or moved.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    chain::{Chain, Line, LineHash, MAX_LINE, hex},
    encode::time_of,
    unsealed::{SEAL_EVERY, SEAL_PAUSE},
};
use crate::{domain::time::Timestamp, keys::ring::KeyRing};

/// After so many faults no more are told.
const MAX_FAULTS: usize = 100;
/// How much later than due a seal may be: events of one moment are not in order, and clocks are corrected.
const SLACK: Duration = Duration::from_secs(60);
/// How a line begins, after its common fields, that tells of missing decisions.
const GAP: &[u8] = br#","event":"gap","#;

/// What was found in files, in the order that they were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// How many lines agree with the chain.
    pub lines: u64,
    /// The number of the first line; 1 where nothing stands before it.
    pub first: Option<u64>,
    /// The number and the hash of the last line: to be compared with what is known of it, since lines that are missing at the
    /// end leave no trace.
    pub last: Option<(u64, String)>,
    /// Seals whose MAC is right, where keys are known, and all seals.
    pub seals: (u64, u64),
    /// Lines that say that decisions are missing, because the file was not written fast enough.
    pub gaps: u64,
    /// Lines after the last right seal, where keys are known.
    pub unsealed: Option<u64>,
    /// What is wrong, at most [`MAX_FAULTS`].
    pub faults: Vec<ChainFault>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What.
    pub kind: FaultKind,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It does not agree with its own hash.
    Changed,
    /// It is cut off.
    Torn,
    /// Another number was due.
    Number {
        /// Which.
        due: u64,
        /// Which it is.
        is: u64,
    },
    /// The number is right, and the line before is not the one that it was written behind.
    Before,
    /// The seal was not made with these keys.
    Seal,
    /// There is no seal where one is due.
    Unsealed,
    /// Lines from before have not been sealed in time.
    Late,
}

/// Verifies files, each going on with the chain of the one before. Seals are verified where keys are given.
///
/// # Errors
/// A file cannot be read.
pub fn verify(files: &[PathBuf], keys: Option<&KeyRing>) -> io::Result<AuditReport> {
    let mut walk = Walk { keys, due: None, unsealed: 0, oldest: None, found: AuditReport::default() };
    for path in files {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        walk.file(path).map_err(named)?;
    }
    let Walk { due, unsealed, mut found, .. } = walk;
    found.last = due.map(|chain| (chain.next - 1, hex(&chain.last)));
    found.unsealed = keys.map(|_| unsealed);
    Ok(found)
}

struct Walk<'a> {
    keys: Option<&'a KeyRing>,
    /// What the next line must be; `None`: it is the first.
    due: Option<Chain>,
    unsealed: u64,
    /// The time of the first line since the last right seal, until it is told to be late.
    oldest: Option<Timestamp>,
    found: AuditReport,
}

impl Walk<'_> {
    fn file(&mut self, path: &Path) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(1024 * 1024, File::open(path)?);
        let mut line = Vec::new();
        let longest = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        for number in 1.. {
            line.clear();
            if reader.by_ref().take(longest).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if let Some(kind) = self.line(&line)
                && self.found.faults.len() < MAX_FAULTS
            {
                self.found.faults.push(ChainFault { file: path.to_owned(), line: number, kind });
            }
        }
        Ok(())
    }

    /// What is wrong with a line. The next one is compared with what this one says of itself.
    fn line(&mut self, line: &[u8]) -> Option<FaultKind> {
        let Some(whole) = line.strip_suffix(b"\n") else { return Some(FaultKind::Torn) };
        let Some(line) = Line::parse(whole) else { return Some(FaultKind::Changed) };
        let due = self.due.replace(Chain::after(&line));
        // The number that is not there is that of a line before the first.
        let is_first_of_all = line.seq == 1;
        self.found.first.get_or_insert(line.seq);
        let expected: Option<LineHash> = due.map(|due| due.last).or(is_first_of_all.then_some([0; 32]));
        match due {
            Some(due) if due.next != line.seq => return Some(FaultKind::Number { due: due.next, is: line.seq }),
            _ if expected.is_some_and(|expected| expected != line.prev) => return Some(FaultKind::Before),
            _ => {}
        }
        self.found.lines += 1;
        self.found.gaps += u64::from(line.body.windows(GAP.len()).any(|part| part == GAP));
        self.seal(&line)
    }

    fn seal(&mut self, line: &Line<'_>) -> Option<FaultKind> {
        let Some(mac) = line.seal() else {
            self.unsealed += 1;
            let is_due = self.unsealed == SEAL_EVERY + 1;
            let is_late = self.is_late(line);
            return match self.keys {
                Some(_) if is_due => Some(FaultKind::Unsealed),
                Some(_) if is_late => Some(FaultKind::Late),
                _ => None,
            };
        };
        self.found.seals.1 += 1;
        let keys = self.keys?;
        if !keys.is_audit_seal(line.seq, &line.prev, &mac) {
            return Some(FaultKind::Seal);
        }
        self.found.seals.0 += 1;
        (self.unsealed, self.oldest) = (0, None);
        None
    }

    /// Whether a line that is no seal stands too long after the first one since the last seal. Told once of these.
    fn is_late(&mut self, line: &Line<'_>) -> bool {
        let Some(time) = time_of(line.body) else { return false };
        if self.unsealed == 1 {
            self.oldest = Some(time);
        }
        let is_late = self.oldest.is_some_and(|oldest| time.since(oldest) > SEAL_PAUSE + SLACK);
        if is_late {
            self.oldest = None;
        }
        is_late
    }
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        match self.kind {
            FaultKind::Changed => f.write_str("the line was changed: it does not agree with its own hash"),
            FaultKind::Torn => f.write_str("the line is cut off"),
            FaultKind::Number { due, is } if is > due => {
                write!(f, "this is line {is} of the chain, and {} to {} are missing before it", due, is - 1)
            }
            FaultKind::Number { due, is } => write!(f, "this is line {is} of the chain, where {due} is due"),
            FaultKind::Before => {
                f.write_str("the line before was replaced: its hash is not the one that this line names")
            }
            FaultKind::Seal => f.write_str("the seal was not made with these keys"),
            FaultKind::Late => {
                let seconds = (SEAL_PAUSE + SLACK).as_secs();
                write!(f, "no seal with these keys for more than {seconds} s before")
            }
            FaultKind::Unsealed => write!(f, "no seal with these keys within {SEAL_EVERY} lines before"),
        }
    }
}
