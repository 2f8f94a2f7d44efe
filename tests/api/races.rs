//! Many callers at once: of one server with its own store, and of two servers on one Redis.

use std::collections::BTreeMap;

use otpd::{
    grpc::proto::{
        ChallengeState, CreateChallengeRequest, SendOtpRequest, VerifyOtpRequest,
        verify_otp_result_code::VerifyOtpResultCode as VerifyResult,
    },
    ports::clock::Stopwatch,
};

use crate::{
    caller::{Caller, login, now, send, verify, wrong},
    redis_server::RedisServer,
    site::{Server, Site, served},
    words::{Tally, counts, created, sent, tally, verified},
};

const IN_PROGRESS: &str = "Aborted REQUEST_IN_PROGRESS";

/// Servers to race against. Dropped last to first: the callers, the servers, and the store behind them.
struct Arena {
    callers: Vec<Caller>,
    _servers: Vec<Server>,
    site: Site,
    _redis: Option<RedisServer>,
}

impl Arena {
    async fn embedded() -> Self {
        Self::of(Site::embedded(), 1, None).await
    }

    async fn two_on_redis() -> Self {
        let redis = RedisServer::start();
        Self::of(Site::on(&redis), 2, Some(redis)).await
    }

    async fn of(site: Site, count: usize, redis: Option<RedisServer>) -> Self {
        let site = site
            // A machine that runs other tests at the same time needs more than the usual time for a thousand at once.
            .with("OTPD__STORE__TIMEOUT", "60s")
            .with("OTPD__SERVER__REQUEST_TIMEOUT", "60s")
            .with("OTPD__SERVER__MAX_IN_FLIGHT", "4096")
            .with("OTPD__POLICY__RESEND_GAPS", "[]")
            .with("OTPD__POLICY__QUOTAS__ACCOUNT_CREATIONS", "[]")
            .with("OTPD__POLICY__PURPOSES__REGISTRATION__RESEND_GAPS", r#"["30s"]"#);
        let servers: Vec<Server> = (0..count).map(|_| site.start()).collect();
        let mut callers = Vec::new();
        for server in &servers {
            callers.push(Caller::of(server).await);
        }
        Self { callers, _servers: servers, site, _redis: redis }
    }

    fn caller(&self, n: usize) -> Caller {
        self.callers[n % self.callers.len()].clone()
    }

    async fn verify(&self, requests: impl Iterator<Item = VerifyOtpRequest>) -> Tally {
        let calls = requests.enumerate().map(|(n, request)| {
            let caller = self.caller(n);
            served(move || {
                let (caller, request) = (caller.clone(), request.clone());
                async move { verified(&caller.verify(request).await) }
            })
        });
        tally(calls).await
    }

    async fn send(&self, requests: impl Iterator<Item = SendOtpRequest>) -> Tally {
        let calls = requests.enumerate().map(|(n, request)| {
            let caller = self.caller(n);
            served(move || {
                let (caller, request) = (caller.clone(), request.clone());
                async move { sent(&caller.send(request).await) }
            })
        });
        tally(calls).await
    }

    /// At most 5 codes are ever compared, and each counts once.
    async fn a_thousand_wrong_codes(&self) {
        let number = "+14155551000";
        self.caller(0).sent("wrong", "guessed", number).await;
        let code = wrong(&self.site.code(number), 0);
        let told = self.verify((0..1_000).map(|n| verify(&format!("v{n}"), "wrong", &code))).await;
        assert_eq!(told, counts(&[("otp_not_matched", 5), ("verification_attempts_exceeded", 995)]));
        for caller in &self.callers {
            let seen = caller.challenge("wrong").await.unwrap();
            assert_eq!((seen.state(), seen.verification_attempts), (ChallengeState::AttemptsExceeded, 5));
            assert_eq!(caller.account("guessed").await.unwrap().failures(), 5);
        }
        let right = verify("right", "wrong", &self.site.code(number));
        assert_eq!(verified(&self.caller(1).verify(right).await), "verification_attempts_exceeded");
    }

    /// At most one verification ever succeeds.
    async fn a_thousand_right_codes(&self) {
        let number = "+14155551001";
        self.caller(0).sent("right", "person", number).await;
        let code = self.site.code(number);
        let told = self.verify((0..1000).map(|n| verify(&format!("v{n}"), "right", &code))).await;
        assert_eq!(told, counts(&[("success", 1), ("otp_already_used", 999)]));
        assert_eq!(self.caller(1).challenge("right").await.unwrap().verification_attempts, 1);
        assert_eq!(self.caller(1).account("person").await.unwrap().failures(), 0);
    }

    async fn one_right_request_a_hundred_times(&self) {
        let number = "+14155551002";
        self.caller(0).sent("repeated", "person", number).await;
        let request = verify("v", "repeated", &self.site.code(number));
        let told = self.verify(std::iter::repeat_n(request.clone(), 100)).await;
        assert!(told.keys().all(|word| word == "success" || word == IN_PROGRESS), "{told:?}");
        for caller in &self.callers {
            assert_eq!(verified(&caller.verify(request.clone()).await), "success");
            assert_eq!(caller.challenge("repeated").await.unwrap().verification_attempts, 1);
        }
    }

    async fn one_wrong_request_a_hundred_times(&self) {
        let number = "+14155551003";
        self.caller(0).sent("repeated-wrong", "unlucky", number).await;
        let request = verify("v", "repeated-wrong", &wrong(&self.site.code(number), 3));
        let told = self.verify(std::iter::repeat_n(request, 100)).await;
        assert_eq!(told, counts(&[("otp_not_matched", 100)]));
        assert_eq!(self.caller(1).challenge("repeated-wrong").await.unwrap().verification_attempts, 1);
        assert_eq!(self.caller(1).account("unlucky").await.unwrap().failures(), 1);
    }

    /// Guesses and the right code, all at once: a success is one of 5 comparisons, or there is none.
    async fn the_right_code_among_guesses(&self) {
        let number = "+14155551004";
        self.caller(0).sent("among", "mixed", number).await;
        let code = self.site.code(number);
        let requests = (0..200).map(|n| {
            let typed = if n % 20 == 3 { code.clone() } else { wrong(&code, n) };
            verify(&format!("v{n}"), "among", &typed)
        });
        let told = self.verify(requests).await;
        let of = |word: &str| told.get(word).copied().unwrap_or_default();
        let seen = self.caller(1).challenge("among").await.unwrap();
        assert!(of("success") <= 1 && of("otp_not_matched") <= 5, "{told:?}");
        assert_eq!(seen.verification_attempts, i64::try_from(of("success") + of("otp_not_matched")).unwrap());
        let failures = usize::try_from(self.caller(1).account("mixed").await.unwrap().failures()).unwrap();
        assert_eq!(failures, if of("success") == 1 { 0 } else { 5 }, "{told:?}");
    }

    async fn one_send_a_hundred_times(&self) {
        let number = "+14155551005";
        assert_eq!(created(&self.caller(0).create(login("send", "person", number)).await), "success");
        let told = self.send(std::iter::repeat_n(send("s", "send"), 100)).await;
        assert!(told.keys().all(|word| word == "success" || word == IN_PROGRESS), "{told:?}");
        assert_eq!(sent(&self.caller(1).send(send("s", "send")).await), "success");
        assert_eq!(self.site.codes(number).len(), 1);
        assert_eq!(self.caller(1).challenge("send").await.unwrap().options[0].sends, 1);
    }

    /// 3 sends an option, of which one at a time is in flight; meanwhile others are told that it is too soon.
    async fn a_hundred_sends(&self) {
        let number = "+14155551006";
        assert_eq!(created(&self.caller(0).create(login("sends", "person", number)).await), "success");
        let told = self.send((0..100).map(|n| send(&format!("s{n}"), "sends"))).await;
        let sent = told["success"];
        assert!((1..=3).contains(&sent), "{told:?}");
        assert!(
            told.keys().all(|word| ["success", "resend_too_soon", "send_limit_exceeded"].contains(&&**word)),
            "{told:?}"
        );
        let codes = self.site.codes(number);
        assert_eq!(codes.len(), sent);
        assert_eq!(self.caller(1).challenge("sends").await.unwrap().options[0].sends, i64::try_from(sent).unwrap());
        // The code sent last is the live one, on whichever server.
        assert_eq!(verified(&self.caller(1).verify(verify("v", "sends", &codes[sent - 1])).await), "success");
    }

    /// One send, and then a wait.
    async fn a_hundred_sends_with_a_gap(&self) {
        let number = "+14155551007";
        let registration = CreateChallengeRequest { purpose: 2, ..login("gap", "person", number) };
        assert_eq!(created(&self.caller(0).create(registration).await), "success");
        let told = self.send((0..100).map(|n| send(&format!("s{n}"), "gap"))).await;
        assert_eq!(told.get("success"), Some(&1), "{told:?}");
        assert!(told.keys().all(|word| ["success", "resend_too_soon", IN_PROGRESS].contains(&&**word)), "{told:?}");
        assert_eq!(self.site.codes(number).len(), 1);
    }

    async fn one_creation_a_hundred_times(&self) {
        let number = "+14155551008";
        let request = CreateChallengeRequest { send_otp: true, ..login("create", "person", number) };
        let calls = (0..100).map(|n| {
            let (caller, request) = (self.caller(n), request.clone());
            served(move || {
                let (caller, request) = (caller.clone(), request.clone());
                async move { created(&caller.create(request).await) }
            })
        });
        let told = tally(calls).await;
        assert!(told.keys().all(|word| word == "success with success" || word == IN_PROGRESS), "{told:?}");
        assert_eq!(self.site.codes(number).len(), 1);
    }

    /// Opens challenges of one account at the same time, each with a number of its own, and tells their codes.
    async fn open(&self, account: &str, prefix: &str, count: usize) -> Vec<(String, String)> {
        let opened: Vec<_> = (0..count).map(|n| (format!("{account}-{n}"), format!("{prefix}{n:03}"))).collect();
        let calls = opened.iter().enumerate().map(|(n, (challenge, number))| {
            let request = CreateChallengeRequest { send_otp: true, ..login(challenge, account, number) };
            let caller = self.caller(n);
            served(move || {
                let (caller, request) = (caller.clone(), request.clone());
                async move { created(&caller.create(request).await) }
            })
        });
        assert_eq!(tally(calls).await, counts(&[("success with success", count)]));
        let mut codes: BTreeMap<String, String> =
            self.site.messages().into_iter().map(|message| (message.destination, message.code)).collect();
        opened.into_iter().map(|(challenge, number)| (challenge, codes.remove(&number).expect("a code"))).collect()
    }

    /// More challenges buy no more guesses: the account is locked after 10, for half an hour.
    async fn a_thousand_guesses_over_challenges_of_one_account(&self) {
        let opened = self.open("attacked", "+14155571", 100).await;
        let guesses = (0..10).flat_map(|i| opened.iter().map(move |opened| (i, opened)));
        let requests = guesses.map(|(i, (challenge, code))| verify(&format!("v{i}"), challenge, &wrong(code, i % 9)));
        let before = now();
        let told = self.verify(requests).await;
        assert_eq!(told, counts(&[("otp_not_matched", 10), ("account_locked", 990)]));
        let seen = self.caller(1).account("attacked").await.unwrap();
        assert_eq!((seen.failures(), seen.locked()), (10, true));
        let locked_at = seen.unlock_timestamp.unwrap().epoch_millis - 1_800_000;
        assert!((before..=now()).contains(&locked_at), "{locked_at}");
        let (challenge, code) = &opened[0];
        let answer = self.caller(0).verify(verify("right", challenge, code)).await.unwrap();
        let Some(VerifyResult::AccountLocked(told)) = answer.result.unwrap().verify_otp_result_code else { panic!() };
        assert_eq!(told.unlock_timestamp, seen.unlock_timestamp);
    }

    /// A success over a lockout without failures conflicts with no other.
    async fn a_thousand_right_codes_of_one_account(&self) {
        let opened = self.open("busy", "+14155572", 1_000).await;
        let told = self.verify(opened.iter().map(|(challenge, code)| verify("v", challenge, code))).await;
        assert_eq!(told, counts(&[("success", 1_000)]));
        let seen = self.caller(1).account("busy").await.unwrap();
        assert_eq!((seen.failures(), seen.locked()), (0, false));
    }

    async fn all(self) {
        let time = Stopwatch::start();
        self.a_thousand_wrong_codes().await;
        self.a_thousand_right_codes().await;
        self.one_right_request_a_hundred_times().await;
        self.one_wrong_request_a_hundred_times().await;
        self.the_right_code_among_guesses().await;
        self.one_send_a_hundred_times().await;
        self.a_hundred_sends().await;
        self.a_hundred_sends_with_a_gap().await;
        self.one_creation_a_hundred_times().await;
        self.a_thousand_guesses_over_challenges_of_one_account().await;
        self.a_thousand_right_codes_of_one_account().await;
        println!("all races in {:?}", time.elapsed());
    }
}

#[tokio::test]
async fn on_one_server() {
    Arena::embedded().await.all().await;
}

#[tokio::test]
async fn across_two_servers() {
    Arena::two_on_redis().await.all().await;
}
