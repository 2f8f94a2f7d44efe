//! Writes to standard output and standard error. What cannot be written is lost: nobody reads it.

use std::io::{Write, stderr, stdout};

/// An answer.
pub(super) fn say(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What is wrong.
pub(super) fn complain(text: &str) {
    let _ = stderr().lock().write_all(text.as_bytes());
}
