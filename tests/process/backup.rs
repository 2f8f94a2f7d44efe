//! `otpd backup`, beside a server and without one, and a server on what it made.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use super::{run, serve::Server};

const KEY: &str = "master-keys";

fn text(path: &Path) -> &str {
    std::str::from_utf8(path.as_os_str().as_bytes()).unwrap_or_default()
}

#[test]
fn a_server_starts_from_a_backup_of_a_running_one() {
    let copies = tempfile::tempdir().unwrap();
    let (first, second) = (copies.path().join("first"), copies.path().join("second"));
    let server = Server::start_in(tempfile::tempdir().unwrap(), "0s").unwrap();
    assert!(server.until("200"));
    let (code, out, errors) = server.command(&["backup", text(&first)]).unwrap();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(out, format!("{} is a copy of the store\n", first.display()));
    let (code, out, errors) = server.command(&["backup", text(&first)]).unwrap();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.ends_with("first: the folder is not empty\n"), "{errors}");
    assert!(server.until("200"), "the server goes on");

    let store = server.stop().unwrap();
    let url = format!("embedded:{}", store.path().display());
    let (code, _, errors) = run(&["backup", text(&second)], &[("OTPD__STORE__URL", &url)]).unwrap();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for copy in [first, second] {
        let mode = fs::metadata(copy.join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(copy.join(KEY)).unwrap(), fs::read(store.path().join(KEY)).unwrap());
        let folder = tempfile::tempdir().unwrap();
        fs::rename(&copy, folder.path()).unwrap();
        let restored = Server::start_in(folder, "0s").unwrap();
        assert!(restored.until("200"));
        restored.stop().unwrap();
    }
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 0, "nothing is left beside the copies");
}

#[test]
fn there_must_be_an_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy");
    let redis = [
        ("OTPD__STORE__URL", "redis://localhost"),
        ("OTPD_MASTER_KEYS", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    let (code, _, errors) = run(&["backup", text(&to)], &redis).unwrap();
    assert_eq!(code, Some(64));
    assert!(errors.contains("store.url: only an embedded store"), "{errors}");
    let none = format!("embedded:{}", folder.path().join("none").display());
    let (code, _, errors) = run(&["backup", text(&to)], &[("OTPD__STORE__URL", &none)]).unwrap();
    assert_eq!(code, Some(1));
    assert!(errors.contains("none: no store is there"), "{errors}");
    assert_eq!(run(&["backup"], &[]).unwrap().0, Some(64));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
