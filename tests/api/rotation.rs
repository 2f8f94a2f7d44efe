//! A new master key, as the operations guide says: at the end of the ring on all replicas, one after the other, and then
//! at its front. Nothing is lost on the way, whichever replica answers.

use otpd::grpc::proto::{ChallengeState, CreateChallengeRequest};

use crate::{
    caller::{Caller, login, verify, wrong},
    redis_server::RedisServer,
    site::{KEY_1, KEY_2, Server, Site},
    words::{created, verified},
};

/// What has been opened under each ring.
struct Opened {
    challenge: String,
    number: String,
    code: String,
}

struct World {
    site: Site,
    replicas: [Server; 2],
    opened: Vec<Opened>,
}

impl World {
    async fn callers(&self) -> [Caller; 2] {
        [Caller::of(&self.replicas[0]).await, Caller::of(&self.replicas[1]).await]
    }

    /// On one replica a send and a wrong code, which the other one sees.
    async fn open(&mut self) {
        let n = self.opened.len();
        let (challenge, number) = (format!("c{n}"), format!("+1415555500{n}"));
        let callers = self.callers().await;
        callers[n % 2].sent(&challenge, &format!("person-{n}"), &number).await;
        let code = self.site.code(&number);
        let request = verify("w", &challenge, &wrong(&code, 0));
        assert_eq!(verified(&callers[(n + 1) % 2].verify(request).await), "otp_not_matched");
        self.opened.push(Opened { challenge, number, code });
        self.check().await;
    }

    /// All that was opened so far, as both replicas see it.
    async fn check(&self) {
        for caller in self.callers().await {
            for (n, opened) in self.opened.iter().enumerate() {
                let seen = caller.challenge(&opened.challenge).await.unwrap();
                assert_eq!((seen.state(), seen.verification_attempts), (ChallengeState::Sent, 1));
                assert_eq!(caller.account(&format!("person-{n}")).await.unwrap().failures(), 1);
                // The same requests again, and their answers.
                let again = verify("w", &opened.challenge, &wrong(&opened.code, 0));
                assert_eq!(verified(&caller.verify(again).await), "otp_not_matched");
                caller.sent(&opened.challenge, &format!("person-{n}"), &opened.number).await;
                assert_eq!(self.site.codes(&opened.number).len(), 1);
            }
            let locked = caller.account("locked").await.unwrap();
            assert_eq!((locked.failures(), locked.locked()), (10, true));
            let request = CreateChallengeRequest { send_otp: true, ..login("quota", "quota", "+14155555100") };
            assert_eq!(created(&caller.create(request).await), "success with risk_declined");
        }
    }

    /// 10 failures, and a number that has had its 5 messages.
    async fn use_up(&self) {
        let [caller, _] = self.callers().await;
        for n in 0..2 {
            let (challenge, number) = (format!("lock{n}"), format!("+1415555520{n}"));
            caller.sent(&challenge, "locked", &number).await;
            for i in 0..5 {
                let request = verify(&format!("v{i}"), &challenge, &wrong(&self.site.code(&number), i));
                assert_eq!(verified(&caller.verify(request).await), "otp_not_matched");
            }
        }
        for n in 0..5 {
            caller.sent(&format!("full{n}"), &format!("full-{n}"), "+14155555100").await;
        }
    }

    async fn rotate(&mut self, ring: &str) {
        self.site.set("OTPD_MASTER_KEYS", ring);
        for replica in 0..2 {
            self.replicas[replica].terminate();
            assert_eq!(self.replicas[replica].exit_code().await, Some(0));
            self.replicas[replica] = self.site.start();
            self.open().await;
        }
    }
}

#[tokio::test]
async fn loses_nothing() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let replicas = [site.start(), site.start()];
    let mut world = World { site, replicas, opened: Vec::new() };
    world.use_up().await;
    world.open().await;
    world.rotate(&format!("{KEY_1},{KEY_2}")).await;
    world.rotate(&format!("{KEY_2},{KEY_1}")).await;
    let [caller, other] = world.callers().await;
    for (n, opened) in world.opened.iter().enumerate() {
        let right = verify("r", &opened.challenge, &opened.code);
        assert_eq!(verified(&caller.verify(right.clone()).await), "success");
        assert_eq!(verified(&other.verify(right).await), "success");
        assert_eq!(other.account(&format!("person-{n}")).await.unwrap().failures(), 0);
    }
}

/// A record whose key has left the ring cannot be opened: calls fail, and none succeeds.
#[tokio::test]
async fn a_key_that_is_missing_fails_closed() {
    let redis = RedisServer::start();
    let mut site = Site::on(&redis).with("OTPD_MASTER_KEYS", &format!("{KEY_2},{KEY_1}"));
    let number = "+14155555300";
    let server = site.start();
    Caller::of(&server).await.sent("c", "person", number).await;
    drop(server);
    site.set("OTPD_MASTER_KEYS", KEY_1);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let right = verify("v", "c", &site.code(number));
    assert_eq!(verified(&caller.verify(right.clone()).await), "Internal INTERNAL");
    let again = CreateChallengeRequest { send_otp: true, ..login("c", "person", number) };
    assert_eq!(created(&caller.create(again).await), "Internal INTERNAL");
    drop(server);
    site.set("OTPD_MASTER_KEYS", &format!("{KEY_1},{KEY_2}"));
    let server = site.start();
    assert_eq!(verified(&Caller::of(&server).await.verify(right).await), "success");
    assert_eq!(site.codes(number).len(), 1);
}
