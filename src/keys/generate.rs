//! Making keys, and keeping one beside the embedded store.

use std::{
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    ports::entropy::{Entropy, NoEntropy},
    secret::Secret,
};

/// The file in the store's folder.
const FILE: &str = "master-keys";

/// A new master key in the form of a ring of one.
///
/// # Errors
/// There is no randomness.
pub fn generate(id: u32, entropy: &dyn Entropy) -> Result<Secret<String>, NoEntropy> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(key.as_mut_slice())?;
    Ok(Secret::new(format!("{id}:{}", STANDARD.encode(key.as_slice()))))
}

/// The ring kept in a folder, made there first if need be. Only its owner can read it.
///
/// # Errors
/// The file cannot be read or written, or there is no randomness.
pub fn kept_in(folder: &Path, entropy: &dyn Entropy) -> io::Result<Secret<String>> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => return Ok(Secret::new(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let ring = generate(super::ring::FIRST_KEY_ID, entropy).map_err(io::Error::other)?;
    // Written whole under another name first: a crash leaves no half a key behind.
    let draft = folder.join(format!("{FILE}.new"));
    let mut file = private_file(&draft)?;
    file.write_all(ring.expose().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, &path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(ring)
}

/// Copies the ring kept in a folder to another folder, as readable as it is there; whether there is one.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_kept(from: &Path, to: &Path) -> io::Result<bool> {
    let ring = match std::fs::read_to_string(from.join(FILE)) {
        Ok(ring) => Secret::new(ring),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut file = private_file(&to.join(FILE))?;
    file.write_all(ring.expose().as_bytes())?;
    file.sync_all()?;
    Ok(true)
}

fn private_file(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{keys::ring::KeyRing, ports::entropy::SystemEntropy};

    #[test]
    fn a_kept_key_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let first = kept_in(folder.path(), &SystemEntropy).expect("made");
        let again = kept_in(folder.path(), &SystemEntropy).expect("read");
        assert!(first == again);
        assert!(KeyRing::parse(&first, false).is_ok());
        let mode = std::fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_copied_key_is_as_private() {
        let (from, to) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        assert!(!copy_kept(from.path(), to.path()).expect("nothing to copy"));
        let kept = kept_in(from.path(), &SystemEntropy).expect("made");
        assert!(copy_kept(from.path(), to.path()).expect("copied"));
        assert!(kept_in(to.path(), &SystemEntropy).expect("read") == kept);
        let mode = std::fs::metadata(to.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
