//! Reads a file that holds one secret.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

/// The longest file that holds a secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// The secret, without line breaks at its end. Who may read the file is not looked at: Kubernetes mounts secrets as links to files
/// that everybody in the container may read, and systemd's credentials have modes of their own.
///
/// # Errors
/// The file cannot be read, is empty or too long.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let unread = |error: io::Error| format!("cannot be read: {error}");
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(unread)?;
    file.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(unread)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_SECRET) {
        return Err(format!("holds more than {MAX_SECRET} bytes"));
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    // Some editors write a byte order mark.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
}
