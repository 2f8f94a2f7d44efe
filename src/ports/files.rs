//! Small files for their owner alone, written whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Makes a file in a folder with this content, instead of one that has the name; it is on the disk when this returns. The
/// file may be read and written further.
///
/// It is written under another name first: a crash leaves no half of it behind.
///
/// # Errors
/// It cannot be written.
pub(crate) fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<File> {
    let draft = folder.join(format!("{name}.new"));
    remove(&draft)?;
    // What has that name meanwhile, a link too, is neither followed nor kept.
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// Removes a file that may not be there.
///
/// # Errors
/// It is there and cannot be removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
