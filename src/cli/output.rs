//! Writes to standard output and standard error. Words that cannot be written are lost: nobody reads them.

use std::io::{self, Write, stderr, stdout};

/// An answer.
pub(super) fn say(text: &str) {
    let _ = write(text.as_bytes());
}

/// An answer that a program reads, which must be whole.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// What is wrong.
pub(super) fn complain(text: &str) {
    let _ = stderr().lock().write_all(text.as_bytes());
}
