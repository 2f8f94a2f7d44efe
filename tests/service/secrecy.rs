//! Nothing that is printed or stored tells a code, a destination, an account or a provider parameter.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use otpd::{
    secret::Secret,
    service::{
        error::Error,
        request::{CreateChallenge, LockAccount, UnlockAccount},
    },
};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    fake::{Deliver, FakeProvider, Judge},
    requests::{
        account_id, caller, create, mailbox, of_account, phone, reach, register, send, transaction, verify, wrong,
    },
    world::World,
};

const ACCOUNT: &str = "canary-account-7391";
const NUMBER: &str = "+14155550187";
const MAILBOX: &str = "canary-mailbox@canary-host.example";
const PARAMETER: &str = "4111111111117391";

/// Everything that was logged or printed.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn print(&self, value: &dyn std::fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{value:?} {value:#?}").unwrap();
    }

    fn answer<T: std::fmt::Debug>(&self, answer: &Result<T, Error>) {
        self.print(answer);
        let mut cause: Option<&dyn std::error::Error> = answer.as_ref().err().map(|error| error as _);
        while let Some(error) = cause {
            writeln!(self.0.lock().unwrap(), "{error} {error:?}").unwrap();
            cause = error.source();
        }
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Paper {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_printed_or_stored_tells_a_secret() {
    let paper = Paper::default();
    let logs = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(paper.clone()).finish();
    let guard = tracing::subscriber::set_default(logs);
    tracing::trace!("recording");
    let mut secrets = vec![ACCOUNT.to_owned(), NUMBER.to_owned(), NUMBER[1..].to_owned(), PARAMETER.to_owned()];
    secrets.extend([
        MAILBOX.to_owned(),
        "canary-mailbox".to_owned(),
        "canary-host".to_owned(),
        "Books & Co".to_owned(),
    ]);
    let mut stored = Vec::new();
    for managed in [false, true] {
        let provider = if managed { FakeProvider::managed("managed", true) } else { FakeProvider::ours("sms") };
        let world = World::with(vec![provider]).policy(|policy| policy.limits.resend_gaps.clear());
        run(&world, &paper).await;
        secrets.extend(world.provider().outbox().into_iter().map(|mail| mail.code));
        secrets.push(wrong(&world.code()));
        // Nor of damage: a missing key, and a record of another name.
        let blind = world.replica_of(crate::world::KEY_2, world.clock.clone());
        paper.answer(&blind.verify("c", "v", &world.code()).await);
        stored.extend(world.memory.dump());
    }
    drop(guard);
    let printed = paper.0.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&printed).contains("recording"));
    assert!(printed.len() > 1000 && stored.len() > 1000);
    for secret in &secrets {
        assert!(!contains(&printed, secret.as_bytes()), "printed: {secret}");
        assert!(!contains(&stored, secret.as_bytes()), "stored: {secret}");
    }
}

async fn run(world: &World, paper: &Paper) {
    let replica = world.replica();
    let parameters = || [("pan".to_owned(), Secret::new(PARAMETER.to_owned()))].into_iter().collect();
    let requests = [
        ("c", CreateChallenge { destinations: reaches(), ..create(ACCOUNT) }),
        ("r", CreateChallenge { destinations: reaches(), ..register(ACCOUNT, NUMBER) }),
        (
            "t",
            CreateChallenge {
                destinations: reaches(),
                purpose: otpd::domain::purpose::Purpose::Transaction,
                transaction: Some(transaction(7_391_000_000)),
                parameters: parameters(),
                send_otp: true,
                ..create(ACCOUNT)
            },
        ),
    ];
    for (challenge, request) in requests {
        paper.print(&request);
        paper.answer(&replica.create(challenge, request.clone()).await);
        paper.answer(&replica.create(challenge, create("other")).await);
        for (option, deliver) in [
            ("o1", Deliver::Fail(None)),
            ("o1", Deliver::Accept),
            ("o2", Deliver::Unknown),
            ("o2", Deliver::Reject),
            ("o1", Deliver::Hang),
            ("o3", Deliver::Accept),
        ] {
            world.provider().deliveries([deliver.clone()]);
            let mut request = send(challenge, option);
            request.parameters = parameters();
            paper.print(&request);
            paper.answer(
                &replica
                    .otp
                    .send_otp(caller(&format!("s-{option}-{deliver:?}").replace(['(', ')'], "")), request)
                    .await,
            );
        }
        let code = world.code();
        for (index, otp) in [wrong(&code), code].into_iter().enumerate() {
            for judge in [Judge::Unknown, Judge::Hang, Judge::Compare] {
                world.provider().checks([judge.clone()]);
                world.faults.script(&[]);
                let mut request = verify(challenge, &otp);
                request.parameters = parameters();
                request.account = Some(account_id(ACCOUNT));
                paper.print(&request);
                paper.answer(&replica.otp.verify_otp(caller(&format!("v{index}")), request).await);
            }
        }
        paper.answer(&replica.otp.get_challenge(caller("g"), crate::requests::request_id(challenge)).await);
        paper.answer(&replica.cancel(challenge, "x").await);
        world.faults.set_gone(true);
        paper.answer(&replica.verify(challenge, "gone", &world.code()).await);
        paper.answer(&replica.send(challenge, "gone-send").await);
        world.faults.set_gone(false);
    }
    let lock = LockAccount { owner: of_account(ACCOUNT), reason: "a reason".to_owned(), until: None };
    paper.print(&lock);
    paper.answer(&replica.otp.lock_account(caller("l"), lock).await);
    let unlock = UnlockAccount { owner: of_account(ACCOUNT), reason: "a reason".to_owned() };
    paper.print(&unlock);
    paper.answer(&replica.otp.unlock_account(caller("u"), unlock).await);
    paper.answer(&replica.otp.get_account(caller("g"), of_account(ACCOUNT)).await);
}

fn reaches() -> Vec<otpd::service::request::Reach> {
    vec![reach("o1", phone(NUMBER)), reach("o2", mailbox(MAILBOX))]
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
