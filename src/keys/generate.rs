//! Making keys, and keeping one beside the embedded store.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    ports::{
        entropy::{Entropy, NoEntropy},
        files,
    },
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

/// The ring kept in a folder, made there first where it `may_generate` one. Only its owner can read it.
///
/// A new key opens nothing that another one has sealed: it is made only beside an empty store.
///
/// # Errors
/// The file is missing and none may be made, it is not for its owner alone, it cannot be read or written, or there is no
/// randomness.
pub fn kept_in(folder: &Path, may_generate: bool, entropy: &dyn Entropy) -> io::Result<Secret<String>> {
    let path = folder.join(FILE);
    let refused = |kind: io::ErrorKind, why: &str| io::Error::new(kind, format!("{}: {why}", path.display()));
    match fs::symlink_metadata(&path) {
        Ok(file) if !file.is_file() => Err(refused(io::ErrorKind::InvalidInput, "must be a file, and no link")),
        Ok(file) if file.permissions().mode() & 0o077 != 0 => {
            Err(refused(io::ErrorKind::PermissionDenied, "must be for its owner alone: `chmod 600`"))
        }
        Ok(_) => Ok(Secret::new(fs::read_to_string(&path)?.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_generate => {
            let ring = generate(super::ring::FIRST_KEY_ID, entropy).map_err(io::Error::other)?;
            files::replace(folder, FILE, ring.expose().as_bytes())?;
            Ok(ring)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "is missing, and the store holds what it has sealed: put it back, or start with an empty folder";
            Err(refused(error.kind(), why))
        }
        Err(error) => Err(error),
    }
}

/// Copies the ring kept in a folder to another one, for its owner alone as well; whether there is one.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_kept(from: &Path, to: &Path) -> io::Result<bool> {
    let ring = match fs::read_to_string(from.join(FILE)) {
        Ok(ring) => Secret::new(ring),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(to.join(FILE))?;
    file.write_all(ring.expose().as_bytes())?;
    file.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{keys::ring::KeyRing, ports::entropy::SystemEntropy};

    #[test]
    fn a_kept_key_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let first = kept_in(folder.path(), true, &SystemEntropy).expect("made");
        let again = kept_in(folder.path(), false, &SystemEntropy).expect("read");
        assert!(first == again);
        assert!(KeyRing::parse(&first, false).is_ok());
        let mode = fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_copied_key_is_as_private() {
        let (from, to) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        assert!(!copy_kept(from.path(), to.path()).expect("nothing to copy"));
        let kept = kept_in(from.path(), true, &SystemEntropy).expect("made");
        assert!(copy_kept(from.path(), to.path()).expect("copied"));
        // Only a file for its owner alone is read.
        assert!(kept_in(to.path(), false, &SystemEntropy).expect("read") == kept);
    }

    #[test]
    fn no_key_is_made_beside_what_another_has_sealed() {
        let folder = tempfile::tempdir().expect("folder");
        let refused = kept_in(folder.path(), false, &SystemEntropy).expect_err("a refusal").to_string();
        assert!(refused.contains("is missing, and the store holds what it has sealed"), "{refused}");
        assert!(!folder.path().join(FILE).exists());
    }

    /// A link is not followed, a file of anyone is not kept.
    #[test]
    fn what_somebody_has_put_there_gets_no_key() {
        for prepared in ["link", "file"] {
            let folder = tempfile::tempdir().expect("folder");
            let (draft, elsewhere) = (folder.path().join("master-keys.new"), folder.path().join("elsewhere"));
            fs::write(&elsewhere, "").expect("a file");
            if prepared == "link" {
                symlink(&elsewhere, &draft).expect("a link");
            } else {
                fs::write(&draft, "").expect("a file");
                fs::set_permissions(&draft, fs::Permissions::from_mode(0o666)).expect("a mode");
            }
            kept_in(folder.path(), true, &SystemEntropy).expect("made");
            assert_eq!(fs::read_to_string(&elsewhere).expect("read"), "");
            let mode = fs::symlink_metadata(folder.path().join(FILE)).expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_elsewhere_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        kept_in(folder.path(), true, &SystemEntropy).expect("made");
        let path = folder.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        let refused = kept_in(folder.path(), true, &SystemEntropy).expect_err("a refusal");
        assert!(refused.to_string().ends_with("must be for its owner alone: `chmod 600`"), "{refused}");
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).expect("moved");
        symlink(&elsewhere, &path).expect("a link");
        let refused = kept_in(folder.path(), true, &SystemEntropy).expect_err("a refusal");
        assert!(refused.to_string().ends_with("must be a file, and no link"), "{refused}");
    }
}
