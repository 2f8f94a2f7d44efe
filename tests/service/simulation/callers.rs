//! What callers and operators do, and what they are told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use otpd::{
    domain::{
        outcome::{Created, Locked, Sent, Verified},
        purpose::Purpose,
    },
    service::{error::Error, request::CreateChallenge},
};

use super::{Faults, Known, LONGEST_RUN, STEPS, Simulation};
use crate::{
    checker::{About, Call, Operation, Told},
    entropy::Random,
    requests::{create, mailbox, of_account, phone, reach, wrong},
    tasks::killed_after,
    world::Replica,
};

/// A request that may be repeated.
#[derive(Clone)]
enum Request {
    Create,
    Send,
    Verify(String),
}

impl Simulation {
    pub(super) async fn caller(self: Arc<Self>, seed: u64) {
        let mut random = Random::new(seed);
        let mut repeats: Vec<(Known, String, Request)> = Vec::new();
        for step in 0..STEPS {
            let id = format!("r{seed}-{step}");
            let known = self.challenges.lock().unwrap().clone();
            match random.below(100) {
                0..=11 => {
                    let challenge = new_challenge(&id, &mut random);
                    self.challenges.lock().unwrap().push(challenge.clone());
                    repeats.push((challenge.clone(), id.clone(), Request::Create));
                    Box::pin(self.ask(&challenge, &id, Request::Create, &mut random)).await;
                }
                12..=15 => self.let_time_pass(&mut random),
                16..=18 => self.restart_one(&mut random),
                19 => Box::pin(self.operate(&id, &mut random)).await,
                _ if known.is_empty() => {}
                20..=34 if !repeats.is_empty() => {
                    let (challenge, id, request) = random.pick(&repeats).clone();
                    Box::pin(self.ask(&challenge, &id, request, &mut random)).await;
                }
                kind => {
                    // Mostly the latest ones, so that there is something to race for.
                    let latest = known.iter().rev().take(6).cloned().collect::<Vec<_>>();
                    let challenge = random.pick(&latest).clone();
                    let request = match kind {
                        ..38 => {
                            drop(self.any_replica(&mut random).cancel(&challenge.about.challenge, &id).await);
                            continue;
                        }
                        // Another caller creates the same, at the same time.
                        38..42 => (challenge.about.challenge.clone(), Request::Create),
                        42..57 => (id, Request::Send),
                        _ => (id, Request::Verify(self.typed(&challenge.about.challenge, &mut random))),
                    };
                    repeats.push((challenge.clone(), request.0.clone(), request.1.clone()));
                    Box::pin(self.ask(&challenge, &request.0, request.1, &mut random)).await;
                }
            }
            if random.per_mille(100) {
                tokio::time::sleep(Duration::from_millis(random.below(3000))).await;
            }
        }
    }

    fn let_time_pass(&self, random: &mut Random) {
        let span = Duration::from_secs(1 + random.below(20));
        if self.world.now().since(self.started_at) + span < LONGEST_RUN {
            self.world.clock.advance(span);
        }
    }

    fn restart_one(&self, random: &mut Random) {
        let mut replicas = self.replicas.lock().unwrap();
        let index = random.below(u64::try_from(replicas.len()).unwrap());
        replicas[usize::try_from(index).unwrap()] = self.start(index);
    }

    fn any_replica(&self, random: &mut Random) -> Replica {
        random.pick(&self.replicas.lock().unwrap()).clone()
    }

    /// The right code now and then.
    fn typed(&self, challenge: &str, random: &mut Random) -> String {
        let mails = self.world.providers.iter().flat_map(|provider| provider.outbox());
        let codes: Vec<_> = mails.filter(|mail| mail.challenge == challenge).map(|mail| mail.code).collect();
        let code = codes.last().cloned().unwrap_or_else(|| "123456".to_owned());
        if random.per_mille(200) { code } else { wrong(&code) }
    }

    /// An operator locks an account for a while, or unlocks it.
    async fn operate(&self, id: &str, random: &mut Random) {
        let (replica, account) = (self.any_replica(random), format!("account-{}", random.below(4)));
        let until = self.world.now().plus(Duration::from_secs(10 + random.below(60)));
        let lock = random.per_mille(700).then_some(Locked { until: Some(until) });
        let started = self.order.fetch_add(1, Ordering::SeqCst);
        let told = match lock {
            Some(_) => replica.lock_as(id, of_account(&account), Some(until)).await,
            None => replica.unlock_as(id, of_account(&account)).await,
        };
        let ended = self.order.fetch_add(1, Ordering::SeqCst);
        let told = told.is_ok();
        self.operations.lock().unwrap().push(Operation { account, lock, started, ended, told });
    }

    async fn ask(&self, known: &Known, id: &str, request: Request, random: &mut Random) {
        let (replica, challenge) = (self.any_replica(random), &known.about.challenge);
        match request {
            Request::Create => {
                let request = CreateChallenge {
                    purpose: known.purpose,
                    destinations: vec![reach("o1", known.destination.clone())],
                    ..create(&known.about.account)
                };
                Box::pin(self.call(known, id, None, random, replica.create(challenge, request))).await;
            }
            Request::Send => Box::pin(self.call(known, id, None, random, replica.send(challenge, id))).await,
            Request::Verify(otp) => {
                let asking = replica.verify(challenge, id, &otp);
                Box::pin(self.call(known, id, Some(otp.clone()), random, asking)).await;
            }
        }
    }

    /// Makes a call, whose process may die in the middle, and writes it down.
    async fn call<T: Into<Told>>(
        &self,
        known: &Known,
        id: &str,
        typed: Option<String>,
        random: &mut Random,
        calling: impl Future<Output = Result<T, Error>>,
    ) {
        let (started, started_at) = (self.order.fetch_add(1, Ordering::SeqCst), self.world.now());
        let dies = self.faults == Faults::StoreAndDeaths && random.per_mille(60);
        let polls = if dies { random.below(40) } else { u64::MAX };
        let answer = Box::pin(killed_after(usize::try_from(polls).unwrap(), calling)).await;
        let told = match answer {
            Some(Ok(told)) => told.into(),
            Some(Err(error)) => {
                self.look_at(known, id, &error, started);
                Told::Nothing
            }
            None => Told::Nothing,
        };
        let ended = self.order.fetch_add(1, Ordering::SeqCst);
        let (about, id, ended_at) = (known.about.clone(), id.to_owned(), self.world.now());
        let call = Call { about, id, typed, started, ended, started_at, ended_at, told };
        self.calls.lock().unwrap().push(call);
    }

    /// Writes down an error that no fault explains. A challenge that its caller was told of is known to all replicas.
    fn look_at(&self, known: &Known, id: &str, error: &Error, started: u64) {
        let is_broken = match error {
            Error::Internal(_) | Error::IdempotencyViolation | Error::Forbidden => true,
            Error::InvalidIdentifier => self.calls.lock().unwrap().iter().any(|call| {
                call.about == known.about && matches!(call.told, Told::Created { .. }) && call.ended < started
            }),
            _ => false,
        };
        if is_broken {
            self.broken.lock().unwrap().push(format!("{}, {id}: {error:?}", known.about.challenge));
        }
    }
}

fn new_challenge(id: &str, random: &mut Random) -> Known {
    let account = format!("account-{}", random.below(4));
    let (contact, destination) = if random.per_mille(500) {
        let number = format!("+1415555010{}", random.below(3));
        (number.clone(), phone(&number))
    } else {
        let address = format!("m{}@example.com", random.below(3));
        (address.clone(), mailbox(&address))
    };
    let purpose = if random.per_mille(250) { Purpose::Registration } else { Purpose::Login };
    let owner = if purpose == Purpose::Registration { contact.clone() } else { account.clone() };
    Known { about: About { account, owner, contact, challenge: id.to_owned() }, purpose, destination }
}

impl From<Created> for Told {
    fn from(created: Created) -> Self {
        match created {
            Created::Success { expires_at, .. } => Self::Created { expires_at },
            _ => Self::Nothing,
        }
    }
}

impl From<Sent> for Told {
    fn from(sent: Sent) -> Self {
        Self::Sent(sent)
    }
}

impl From<Verified> for Told {
    fn from(verified: Verified) -> Self {
        Self::Verified(verified)
    }
}
