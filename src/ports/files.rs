//! Files for their owner alone: small ones, written whole or not at all, and those that grow.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
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

/// Opens a file to add to its end and to read it, or makes it for its owner alone. One that is there must be so, too, and no
/// link, unless it is the one that `allowed` is of.
///
/// # Errors
/// It cannot be opened, or is not so.
pub(crate) fn append_to(path: &Path, allowed: Option<&Metadata>) -> io::Result<File> {
    let made = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path);
    let opened = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(path, allowed),
        made => made,
    };
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// A pipe or a terminal may be anything, and a link to it, as `/dev/stdout` is: it keeps nothing.
fn open_existing(path: &Path, allowed: Option<&Metadata>) -> io::Result<File> {
    // A pipe is opened for reading, too: else this would wait for a reader.
    let mut options = OpenOptions::new();
    let both = options.read(true).append(true).open(path);
    let file = both.or_else(|_| options.read(false).open(path))?;
    let opened = file.metadata()?;
    if !opened.is_file() || allowed.is_some_and(|allowed| is_same(&opened, allowed)) {
        return Ok(file);
    }
    if !is_same(&opened, &fs::symlink_metadata(path)?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "must be a file, and no link"));
    }
    if opened.mode() & 0o077 != 0 {
        let why = "must be for its owner alone: `chmod 600`";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(file)
}

/// Whether it is one file, by whatever name.
pub(crate) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(path: &Path) -> io::Result<File> {
        append_to(path, None)
    }

    #[test]
    fn a_file_is_not_made_at_the_end_of_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (link, elsewhere) = (folder.path().join("messages"), folder.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert!(open(&link).is_err());
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_elsewhere_gets_no_codes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("messages"), folder.path().join("link"));
        fs::write(&path, "").unwrap();
        for mode in [0o644, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = open(&path).unwrap_err().to_string();
            assert!(refused.ends_with("must be for its owner alone: `chmod 600`"), "{refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        open(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = open(&link).unwrap_err().to_string();
        assert!(refused.ends_with("must be a file, and no link"), "{refused}");
    }

    #[test]
    fn what_keeps_nothing_may_be_anybodys_and_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        open(&link).unwrap();
        open(Path::new("/dev/null")).unwrap();
    }
}
