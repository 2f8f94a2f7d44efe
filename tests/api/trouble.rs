//! The embedded store in trouble: a full disk, too few open files, a lost key, a folder that has lost data. The process
//! ends with clear words rather than serve less than it has acknowledged, and a new start has it all.

use std::{
    fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use otpd::grpc::proto::ChallengeState;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    caller::{Caller, verify, wrong},
    site::{Server, Site},
    words::verified,
};

const NUMBER: &str = "+14155556001";

/// Opens a challenge, and fails and succeeds once each.
async fn walked(site: &Site, server: &Server) {
    let caller = Caller::of(server).await;
    caller.sent("c", "person", NUMBER).await;
    let code = site.code(NUMBER);
    assert_eq!(verified(&caller.verify(verify("w", "c", &wrong(&code, 0))).await), "otp_not_matched");
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
}

/// All of that is known.
async fn is_there(site: &Site, server: &Server) {
    let caller = Caller::of(server).await;
    let challenge = caller.challenge("c").await.unwrap();
    assert_eq!((challenge.state(), challenge.verification_attempts), (ChallengeState::Verified, 2));
    assert_eq!(verified(&caller.verify(verify("again", "c", &site.code(NUMBER))).await), "otp_already_used");
}

fn store(site: &Site) -> PathBuf {
    site.folder().join("store")
}

/// Runs a server that must refuse to start, and what it says.
fn refused(site: &Site) -> String {
    let ended = site.run();
    assert_eq!(ended.status.code(), Some(1));
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// From one moment on no file can grow, as on a full disk.
#[tokio::test]
async fn a_full_disk_ends_the_process() {
    let site = Site::embedded();
    let mut server = site.start_after("trap '' XFSZ");
    walked(&site, &server).await;
    // Connected before: a refund that comes late may end the process at once.
    let caller = Caller::of(&server).await;
    let limited = Command::new("prlimit").args(["--pid", &server.id().to_string(), "--fsize=1:"]).status().unwrap();
    assert!(limited.success());
    let locked = caller.lock(crate::caller::lock("l", "person", None)).await;
    // The answer, or the end of the process, whichever comes first.
    let word = format!("{:?}", locked.unwrap_err().code());
    assert!(["Unavailable", "Unknown", "Cancelled", "Internal"].contains(&word.as_str()), "{word}");
    assert_eq!(server.exit_code().await, Some(1));
    let log = server.log();
    assert!(log.contains("the store cannot go on: ") && log.contains("start otpd again"), "{log}");
    drop(server);
    let server = site.start();
    is_there(&site, &server).await;
}

/// More idle connections than the process may have files: it goes on serving and committing.
#[tokio::test]
async fn idle_connections_leave_files_for_the_store() {
    // This process needs as many.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum.or(Some(1 << 16)), maximum }).unwrap();
    let site = Site::embedded();
    let mut server = site.start_after("ulimit -n 1024");
    assert!(server.log().contains("server.max_connections is lowered"), "{}", server.log());
    let idle: io::Result<Vec<TcpStream>> = (0..1_100).map(|_| TcpStream::connect(&server.grpc)).collect();
    let idle = idle.unwrap();
    walked(&site, &server).await;
    is_there(&site, &server).await;
    assert!(server.is_alive());
    drop(idle);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
}

/// A start that cannot read the folder is no loss of data: nothing is let pass, and nothing set aside.
#[tokio::test]
async fn too_few_files_at_the_start_lose_nothing() {
    let site = Site::embedded().with("OTPD__STORE__ACCEPT_LOSS", "true");
    walked(&site, &site.start()).await;
    let mut failed = 0;
    for files in (12..42).step_by(3) {
        let (site, shell) = (&site, format!("ulimit -n {files}"));
        match site.try_start_after(&shell) {
            Ok(server) => assert!(!server.log().contains("is let pass"), "{}", server.log()),
            Err(log) => {
                assert!(!log.contains("is let pass"), "{files} files: {log}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0);
    is_there(&site, &site.start()).await;
    let present = fs::read_dir(store(&site)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(present.filter(|name| name.starts_with("data.damaged")).count(), 0);
}

#[tokio::test]
async fn a_lost_key_is_not_replaced() {
    let site = Site::embedded();
    walked(&site, &site.start()).await;
    let (key, kept) = (store(&site).join("master-keys"), site.folder().join("kept"));
    fs::rename(&key, &kept).unwrap();
    let said = refused(&site);
    assert!(said.contains("master-keys: is missing, and the store holds what it has sealed"), "{said}");
    assert!(!key.exists());
    fs::rename(&kept, &key).unwrap();
    is_there(&site, &site.start()).await;
}

#[tokio::test]
async fn a_loss_is_refused_until_it_is_accepted() {
    let mut site = Site::embedded();
    walked(&site, &site.start()).await;
    let data = store(&site).join("data");
    let journal = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let journal =
        journal.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap();
    cut_in_half(&journal);
    let said = refused(&site);
    assert!(said.contains("has lost data: ") && said.contains("store.accept_loss = true"), "{said}");
    assert!(refused(&site).contains("has lost data: "));
    site.set("OTPD__STORE__ACCEPT_LOSS", "true");
    let server = site.start();
    assert!(server.log().contains("store.accept_loss lets an embedded store start that has lost data"));
    assert!(server.log().contains("what is missing in the embedded store is let pass"), "{}", server.log());
    drop(server);
    site.set("OTPD__STORE__ACCEPT_LOSS", "false");
    let caller = Caller::of(&site.start()).await;
    drop(caller);
}

/// Half of what is written in it.
fn cut_in_half(journal: &Path) {
    let bytes = fs::read(journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(journal, &bytes[..end / 2]).unwrap();
}
