//! A provider that does what the test says, and shows what it was given. Included with `#[path]`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{
        code::CodeOwner,
        destination::{Channel, Destination},
    },
    ports::{
        clock::Deadline,
        provider::{
            Capabilities, Check, Checked, Delivered, Delivery, Evidence, Failure, Parameters, Provider, Receipt,
            RequestError,
        },
    },
};
use tokio::sync::Semaphore;

/// What one delivery comes to.
#[derive(Clone, Debug)]
pub(crate) enum Deliver {
    Accept,
    Reject,
    Fail(Option<Duration>),
    /// Answers that it does not take a parameter.
    Invalid,
    /// Cannot be asked without a parameter.
    Unaskable,
    Unknown,
    /// Answers nothing until long after the deadline.
    Hang,
    /// Accepts once the test lets it.
    Hold,
    /// Comes to that once the test lets it.
    HoldThen(Box<Deliver>),
    /// Sleeps first.
    After(Duration, Box<Deliver>),
}

/// What one check comes to.
#[derive(Clone, Debug)]
pub(crate) enum Judge {
    /// Compares with the code that it made.
    Compare,
    Match,
    NotMatch,
    Gone,
    /// Answers that it does not take a parameter.
    Invalid,
    Exceeded,
    Used,
    Unknown,
    /// Certainly nothing was compared, and it says so.
    Fail,
    /// Answers nothing until long after the deadline, and has not compared.
    Hang,
    /// Compares, and the answer is lost.
    CompareUnheard,
    /// Compares once the test lets it.
    Hold,
    /// Comes to that once the test lets it.
    HoldThen(Box<Judge>),
    /// Sleeps first.
    After(Duration, Box<Judge>),
}

impl Deliver {
    fn fails(&self) -> bool {
        match self {
            Self::Fail(_) | Self::Invalid | Self::Unaskable => true,
            Self::HoldThen(then) | Self::After(_, then) => then.fails(),
            _ => false,
        }
    }
}

impl Judge {
    fn fails(&self) -> bool {
        match self {
            Self::Fail | Self::Invalid => true,
            Self::HoldThen(then) | Self::After(_, then) => then.fails(),
            _ => false,
        }
    }
}

/// One message that the fake was given.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) provider: String,
    pub(crate) challenge: String,
    pub(crate) destination: String,
    pub(crate) channel: Channel,
    /// Ours, or the one that a managing fake made.
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) parameters: Parameters,
    pub(crate) idempotency_key: String,
    pub(crate) code_life: Duration,
    pub(crate) number: u32,
    /// Nothing was sent, and the fake said so.
    pub(crate) failed: bool,
}

/// One check that the fake was asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) challenge: String,
    pub(crate) otp: String,
    pub(crate) reference: String,
    pub(crate) repeated: bool,
    pub(crate) parameters: Parameters,
    pub(crate) idempotency_key: String,
    /// Nothing was compared, and the fake said so.
    pub(crate) failed: bool,
}

/// The fake.
pub(crate) struct FakeProvider {
    name: String,
    capabilities: Capabilities,
    state: Mutex<State>,
    gate: Semaphore,
}

#[derive(Default)]
struct State {
    deliveries: VecDeque<Deliver>,
    always_deliver: Option<Deliver>,
    checks: VecDeque<Judge>,
    outbox: Vec<Mail>,
    questions: Vec<Question>,
    /// Codes of ours by reference; none once it has matched.
    codes: HashMap<String, Option<String>>,
    /// Answers by idempotency key, for a check that may be repeated.
    answered: HashMap<String, Checked>,
}

impl FakeProvider {
    /// Delivers our codes, on every channel.
    pub(crate) fn ours(name: &str) -> Arc<Self> {
        Self::new(name, CodeOwner::Otpd)
    }

    /// Makes and checks its own codes, on every channel.
    pub(crate) fn managed(name: &str, check_repeatable: bool) -> Arc<Self> {
        Self::new(name, CodeOwner::Provider { check_repeatable })
    }

    fn new(name: &str, code_owner: CodeOwner) -> Arc<Self> {
        Self::with(
            name,
            Capabilities {
                code_owner,
                contact_on_file: matches!(code_owner, CodeOwner::Provider { .. }),
                ..Capabilities::delivers(Channel::ALL.to_vec())
            },
        )
    }

    /// With these capabilities.
    pub(crate) fn with(name: &str, capabilities: Capabilities) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), capabilities, state: Mutex::default(), gate: Semaphore::new(0) })
    }

    /// The next deliveries, in order; after them what always happens.
    pub(crate) fn deliveries(&self, next: impl IntoIterator<Item = Deliver>) {
        self.state().deliveries = next.into_iter().collect();
    }

    /// What deliveries come to that are not scripted. Without this: accepted.
    pub(crate) fn always_deliver(&self, deliver: Deliver) {
        self.state().always_deliver = Some(deliver);
    }

    /// The next checks, in order; after them codes are compared.
    pub(crate) fn checks(&self, next: impl IntoIterator<Item = Judge>) {
        self.state().checks = next.into_iter().collect();
    }

    /// Lets one held call go on.
    pub(crate) fn release(&self) {
        self.gate.add_permits(1);
    }

    /// All that was given to it, whatever it answered.
    pub(crate) fn outbox(&self) -> Vec<Mail> {
        self.state().outbox.clone()
    }

    /// How many deliveries it was asked for.
    pub(crate) fn calls(&self) -> usize {
        self.state().outbox.len()
    }

    /// The code of the last message.
    pub(crate) fn last_code(&self) -> String {
        self.state().outbox.last().expect("a message was sent").code.clone()
    }

    /// All that it was asked to check.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.state().questions.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass_gate(&self) {
        self.gate.acquire().await.expect("the gate is never closed").forget();
    }

    fn compare(&self, check: &Check) -> Checked {
        let repeatable = matches!(self.capabilities.code_owner, CodeOwner::Provider { check_repeatable: true });
        let mut state = self.state();
        if let Some(known) = state.answered.get(&check.idempotency_key).filter(|_| repeatable) {
            return known.clone();
        }
        let answer = match state.codes.get_mut(&check.reference) {
            None | Some(None) => Checked::Gone,
            Some(code) if code.as_deref() == Some(check.otp.expose().as_str()) => {
                *code = None;
                Checked::Matched(Evidence {
                    eci: "05".to_owned(),
                    verification_id: check.reference.clone(),
                    ..Evidence::default()
                })
            }
            Some(_) => Checked::NotMatched { left: None },
        };
        state.answered.insert(check.idempotency_key.clone(), answer.clone());
        answer
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn deliver(&self, delivery: Delivery, _deadline: Deadline) -> Delivered {
        let (mut behaviour, reference) = {
            let mut state = self.state();
            let number = state.outbox.len();
            let reference = format!("{}-{number}", self.name);
            let made = format!("{:06}", (number + 1) * 7919 % 1_000_000);
            let destination = match &delivery.context.destination {
                Destination::Phone(number) => number.expose().to_owned(),
                Destination::Email(mailbox) => mailbox.expose().to_owned(),
                Destination::OnFile => "on file".to_owned(),
            };
            let (code, text) = match &delivery.message {
                Some(message) => (message.code.expose().clone(), message.text.expose().clone()),
                None => (made.clone(), String::new()),
            };
            if delivery.message.is_none() {
                state.codes.insert(reference.clone(), Some(made));
            }
            let scripted = state.deliveries.pop_front().or_else(|| state.always_deliver.clone());
            let behaviour = scripted.unwrap_or(Deliver::Accept);
            state.outbox.push(Mail {
                provider: self.name.clone(),
                challenge: delivery.context.challenge.as_str().to_owned(),
                destination,
                channel: delivery.context.channel,
                code,
                text,
                parameters: delivery.context.parameters.clone(),
                idempotency_key: delivery.idempotency_key.clone(),
                code_life: delivery.code_life,
                number: delivery.number,
                failed: behaviour.fails(),
            });
            (behaviour, reference)
        };
        loop {
            match behaviour {
                Deliver::Accept => return Delivered::Accepted(Receipt { reference, ..Receipt::default() }),
                Deliver::Reject => return Delivered::Rejected,
                Deliver::Fail(retry_after) => return Delivered::Failed(Failure::Unavailable { retry_after }),
                Deliver::Invalid => return Delivered::Invalid(RequestError::InvalidParameter("pan")),
                Deliver::Unaskable => return Delivered::Unaskable(RequestError::MissingParameter("pan")),
                Deliver::Unknown => return Delivered::Unknown,
                Deliver::Hang => std::future::pending().await,
                Deliver::Hold => {
                    self.pass_gate().await;
                    behaviour = Deliver::Accept;
                }
                Deliver::HoldThen(then) => {
                    self.pass_gate().await;
                    behaviour = *then;
                }
                Deliver::After(span, then) => {
                    tokio::time::sleep(span).await;
                    behaviour = *then;
                }
            }
        }
    }

    async fn check(&self, check: Check, _deadline: Deadline) -> Checked {
        let mut behaviour = {
            let mut state = self.state();
            let behaviour = state.checks.pop_front().unwrap_or(Judge::Compare);
            state.questions.push(Question {
                challenge: check.context.challenge.as_str().to_owned(),
                otp: check.otp.expose().clone(),
                reference: check.reference.clone(),
                repeated: check.repeated,
                parameters: check.context.parameters.clone(),
                idempotency_key: check.idempotency_key.clone(),
                failed: behaviour.fails(),
            });
            behaviour
        };
        loop {
            match behaviour {
                Judge::Compare => return self.compare(&check),
                Judge::Match => return Checked::Matched(Evidence::default()),
                Judge::NotMatch => return Checked::NotMatched { left: None },
                Judge::Gone => return Checked::Gone,
                Judge::Invalid => return Checked::Invalid(RequestError::InvalidParameter("pan")),
                Judge::Exceeded => return Checked::AttemptsExceeded,
                Judge::Used => return Checked::AlreadyUsed,
                Judge::Unknown => return Checked::Unknown,
                Judge::Fail => return Checked::Failed(Failure::Unavailable { retry_after: None }),
                Judge::Hang => std::future::pending().await,
                Judge::CompareUnheard => {
                    drop(self.compare(&check));
                    return Checked::Unknown;
                }
                Judge::Hold => {
                    self.pass_gate().await;
                    behaviour = Judge::Compare;
                }
                Judge::HoldThen(then) => {
                    self.pass_gate().await;
                    behaviour = *then;
                }
                Judge::After(span, then) => {
                    tokio::time::sleep(span).await;
                    behaviour = *then;
                }
            }
        }
    }
}
