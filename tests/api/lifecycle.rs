//! Starts that are refused, ends that lose nothing, and callers that hang up or have little time.

use std::{
    io::{PipeReader, Read, Write, pipe},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use otpd::grpc::proto::{DeliveryState, EventKind, send_otp_result::Result as SendResult};
use tokio::task::JoinSet;

use crate::{
    caller::{Caller, login, send, verify},
    redis_server::RedisServer,
    site::{KEY_2, Server, Site, until},
    words::{created, ended, sent, verified},
};

/// A standard output that is full: the console provider has recorded a message in its file, and then hangs.
pub(crate) struct Gate(PipeReader);

impl Gate {
    pub(crate) fn start(site: &Site) -> (Server, Self) {
        let (reader, writer) = pipe().unwrap();
        let mut filler = writer.try_clone().unwrap();
        let (done, full) = mpsc::channel();
        thread::spawn(move || {
            // What a pipe holds. Where one holds less, this waits until the gate opens.
            let _ = filler.write_all(&vec![b'.'; 65_536]);
            let _ = done.send(());
        });
        let _ = full.recv_timeout(Duration::from_secs(1));
        (site.start_on(Stdio::from(writer)), Self(reader))
    }

    /// From now on somebody reads.
    pub(crate) fn open(mut self) {
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while self.0.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
    }
}

/// Sends, and waits until the provider hangs with it.
pub(crate) async fn hang(site: &Site, caller: &Caller, number: &str) -> JoinSet<String> {
    assert_eq!(created(&caller.create(login("c", "person", number)).await), "success");
    let mut sending = JoinSet::new();
    let calling = caller.clone();
    sending.spawn(async move { sent(&calling.send(send("s", "c")).await) });
    until("the message", async || !site.codes(number).is_empty()).await;
    sending
}

#[tokio::test]
async fn the_end_waits_for_a_slow_send() {
    let redis = RedisServer::start_durable();
    for site in [Site::embedded(), Site::on(&redis)] {
        let (mut server, gate) = Gate::start(&site);
        let caller = Caller::of(&server).await;
        let number = "+14155552000";
        let mut sending = hang(&site, &caller, number).await;
        server.terminate();
        until("draining", async || server.log().contains("draining: calls may end")).await;
        assert!(server.is_alive());
        assert_eq!(server.probe("/readyz"), "503");
        gate.open();
        assert_eq!(sending.join_next().await.unwrap().unwrap(), "success");
        assert_eq!(server.exit_code().await, Some(0), "{}", server.log());

        let server = site.start();
        let caller = Caller::of(&server).await;
        assert_eq!(sent(&caller.send(send("s", "c")).await), "success");
        assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
        assert_eq!(site.codes(number).len(), 1);
    }
}

/// A provider has no more time than its caller. Whether the caller hears of it in time is for its machine to say; the send is
/// recorded as unconfirmed, and the same request is told so.
#[tokio::test]
async fn a_hanging_provider_is_given_up_at_the_callers_deadline() {
    let site = Site::embedded();
    let (server, gate) = Gate::start(&site);
    let caller = Caller::of(&server).await;
    let number = "+14155552001";
    assert_eq!(created(&caller.create(login("c", "person", number)).await), "success");
    // A machine so busy that the deadline passes before the provider has the message refunds the send, and it is sent again.
    let is_settled = async || {
        drop(caller.send_within(send("s", "c"), Duration::from_millis(400)).await);
        let timeline = caller.challenge("c").await.unwrap().timeline;
        timeline.iter().any(|event| event.kind() == EventKind::SendUnconfirmed)
    };
    until("the settled send", is_settled).await;
    let told = caller.send(send("s", "c")).await.unwrap();
    let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
    assert_eq!(success.delivery_state(), DeliveryState::Unconfirmed);
    assert_eq!(sent(&caller.send(send("t", "c")).await), "resend_too_soon");
    gate.open();
    assert_eq!(site.codes(number).len(), 1);
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
}

/// A caller that hangs up is no reason to stop either.
#[tokio::test]
async fn work_goes_on_after_the_caller_has_gone() {
    let site = Site::embedded();
    let (server, gate) = Gate::start(&site);
    let caller = Caller::of(&server).await;
    let number = "+14155552002";
    let sending = hang(&site, &caller, number).await;
    drop((sending, caller));
    gate.open();
    let caller = Caller::of(&server).await;
    assert_eq!(sent(&caller.send(send("s", "c")).await), "success");
    assert_eq!(site.codes(number).len(), 1);
}

#[tokio::test]
async fn no_keys_no_start() {
    let redis = RedisServer::start();
    let refused = Site::on(&redis).with("OTPD_MASTER_KEYS", "").run();
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{errors}");
    assert!(errors.contains("OTPD_MASTER_KEYS"), "{errors}");
    let refused = Site::on(&redis).with("OTPD_MASTER_KEYS", "1:c2hvcnQ=").run();
    assert_eq!(refused.status.code(), Some(64));
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("c2hvcnQ="));
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
}

/// The lowest-numbered key names all records: without it every lock would be forgotten.
#[tokio::test]
async fn the_lowest_key_stays() {
    let redis = RedisServer::start();
    for mut site in [Site::embedded().with("OTPD_MASTER_KEYS", crate::site::KEY_1), Site::on(&redis)] {
        let server = site.start();
        Caller::of(&server).await.sent("c", "person", "+14155552003").await;
        drop(server);
        site.set("OTPD_MASTER_KEYS", KEY_2);
        let refused = site.run();
        assert_eq!(refused.status.code(), Some(64), "{}", String::from_utf8_lossy(&refused.stderr));
    }
}

/// One embedded store belongs to one process.
#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let refused = site.run();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("store.url"));
    assert!(ended(&caller.account("person").await) == "done");
}
