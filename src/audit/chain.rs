//! The chain of lines: each has a number and the hash of the line before, and ends with its own hash.
//!
//! `{"v":1,"seq":7,"prev":"<hash of line 6>",…,"hash":"<hash>"}`, where the hash is SHA-256 over the bytes of the line before
//! `,"hash":`. The first line of all names 64 zeros. A seal is a line with a MAC, by a key of otpd's, over its number and the
//! hash of the line before: who has no keys can neither make nor change what a seal stands behind.

use std::io::Write;

use sha2::{Digest, Sha256};

/// The longest line, with its break. Ids, names and reasons are bounded, so that otpd's own are far shorter.
pub(super) const MAX_LINE: usize = 64 * 1024;
/// How every seal begins after the number and hash that every line has.
pub(super) const SEAL: &[u8] = br#""event":"seal","mac":""#;
const START: &[u8] = br#"{"v":1,"seq":"#;
const PREV: &[u8] = br#","prev":""#;
const HASH: &[u8] = br#","hash":""#;
const END: &[u8] = br#""}"#;

/// A hash of a line.
pub(super) type LineHash = [u8; 32];

/// Where a chain has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The number of the next line, from 1.
    pub(super) next: u64,
    /// The hash of the last line.
    pub(super) last: LineHash,
}

/// A line that agrees with its own hash.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) prev: LineHash,
    pub(super) hash: LineHash,
    /// What it says beyond.
    pub(super) body: &'a [u8],
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 1, last: [0; 32] }
    }
}

impl Chain {
    /// Adds a line to `lines`. The body is the inner part of a JSON object.
    pub(super) fn append(&mut self, body: &[u8], lines: &mut Vec<u8>) {
        let start = lines.len();
        lines.extend_from_slice(START);
        // Writing to memory does not fail.
        let _ = write!(lines, "{}", self.next);
        lines.extend_from_slice(PREV);
        push_hex(&self.last, lines);
        lines.extend_from_slice(br#"","#);
        lines.extend_from_slice(body);
        let hash: LineHash = Sha256::digest(lines.get(start..).unwrap_or_default()).into();
        lines.extend_from_slice(HASH);
        push_hex(&hash, lines);
        lines.extend_from_slice(END);
        lines.push(b'\n');
        *self = Self { next: self.next + 1, last: hash };
    }

    /// The chain after a line.
    pub(super) fn after(line: &Line<'_>) -> Self {
        Self { next: line.seq.saturating_add(1), last: line.hash }
    }
}

impl<'a> Line<'a> {
    /// Takes a line apart, without its break. `None`: it is not as it was written.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(END)?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let hash = from_hex(hash)?;
        let hashed = rest.strip_suffix(HASH)?;
        if LineHash::from(Sha256::digest(hashed)) != hash {
            return None;
        }
        let rest = hashed.strip_prefix(START)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (seq, rest) = rest.split_at_checked(digits)?;
        let seq = std::str::from_utf8(seq).ok()?.parse().ok()?;
        let (prev, rest) = rest.strip_prefix(PREV)?.split_at_checked(64)?;
        Some(Self { seq, prev: from_hex(prev)?, hash, body: rest.strip_prefix(br#"","#)? })
    }

    /// The MAC of a seal; `None`: it is none.
    pub(super) fn seal(&self) -> Option<LineHash> {
        from_hex(self.body.strip_prefix(SEAL)?.get(..64)?)
    }
}

/// Adds bytes in lower case hexadecimal.
pub(super) fn push_hex(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// In lower case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(2 * bytes.len());
    push_hex(bytes, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Of 64 digits in lower case.
pub(super) fn from_hex(digits: &[u8]) -> Option<LineHash> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = (value(high)? << 4) | value(low)?;
    }
    Some(hash)
}
