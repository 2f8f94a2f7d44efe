//! One scenario as its JSON file has it, and the values of the port that it stands for.

use std::{collections::BTreeMap, time::Duration};

use otpd::{
    domain::{
        challenge::Decline,
        destination::{Channel, Destination, Mailbox, PhoneNumber},
        ids::{AccountId, OptionId, RequestId, Tenant},
        purpose::Purpose,
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    ports::provider::{
        ChallengeContext, Check, Checked, ClientContext, Delivered, Delivery, Failure, Message, RequestError, Running,
    },
    secret::Secret,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) about: String,
    pub(crate) call: Call,
    /// Another file of settings than `provider.toml`.
    #[serde(default)]
    pub(crate) provider: Option<String>,
    pub(crate) given: Given,
    /// `null` where the provider cannot be called.
    pub(crate) request: Option<Expected>,
    #[serde(default)]
    pub(crate) answer: Option<Answer>,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    Deliver,
    Check,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    #[serde(default = "tenant")]
    tenant: String,
    #[serde(default = "challenge")]
    challenge: String,
    #[serde(default = "account")]
    account: String,
    #[serde(default = "purpose")]
    purpose: String,
    transaction: Option<GivenTransaction>,
    channel: String,
    destination: GivenDestination,
    #[serde(default)]
    locale: String,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default)]
    client: GivenClient,
    #[serde(default = "now")]
    now_ms: u64,
    #[serde(default = "idempotency_key")]
    idempotency_key: String,
    code: Option<String>,
    text: Option<String>,
    #[serde(default = "code_life")]
    code_life_s: u64,
    #[serde(default)]
    otp: String,
    #[serde(default)]
    reference: String,
    #[serde(default)]
    repeated: bool,
    /// The caller's own id of the option.
    option: Option<String>,
    /// Which send to the option it is.
    #[serde(default = "first")]
    number: u32,
    #[serde(default)]
    previous_reference: String,
    /// Verifications that the provider still runs for the account, each until this many milliseconds after now.
    #[serde(default)]
    running: BTreeMap<String, u64>,
}

fn first() -> u32 {
    1
}

fn tenant() -> String {
    "acme".to_owned()
}

fn challenge() -> String {
    "C1".to_owned()
}

fn account() -> String {
    "jane".to_owned()
}

fn purpose() -> String {
    Purpose::Login.name().to_owned()
}

fn now() -> u64 {
    1_481_899_949_606
}

fn idempotency_key() -> String {
    "C1-1".to_owned()
}

fn code_life() -> u64 {
    300
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenTransaction {
    amount_micros: i64,
    currency: String,
    payee: String,
    #[serde(default)]
    reference: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GivenDestination {
    Phone(String),
    Email(String),
    OnFile,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GivenClient {
    ip_address: String,
    user_agent: String,
    device_id: String,
    lat_long: String,
}

/// The request that the provider must get.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) json: Option<Value>,
    pub(crate) form: Option<BTreeMap<String, Value>>,
    pub(crate) body: Option<String>,
}

/// What the server answers.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) json: Option<Value>,
    pub(crate) body: Option<String>,
}

/// What the provider must say of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    Accepted {
        #[serde(default)]
        reference: String,
        code_life_s: Option<u64>,
        code_length: Option<u8>,
        max_checks: Option<u32>,
        max_sends: Option<u32>,
        running_for_s: Option<u64>,
    },
    Rejected,
    Unavailable {
        retry_after_s: Option<u64>,
    },
    Refused,
    Unknown,
    Declined(Declined),
    Invalid(Wrong),
    Matched {
        #[serde(default)]
        eci: String,
        #[serde(default)]
        verification_id: String,
    },
    NotMatched,
    NotMatchedWithLeft(u32),
    Gone,
    AttemptsExceeded,
    AlreadyUsed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Declined {
    OptionExpired,
    SendLimitExceeded,
    AccountLocked,
    Risk,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wrong {
    MissingParameter(String),
    InvalidParameter(String),
    Unsupported(String),
}

impl Given {
    /// Shorter texts occur in any log by chance.
    pub(crate) const SHORTEST_SECRET: usize = 4;

    pub(crate) fn delivery(&self) -> Result<Delivery, String> {
        let message = match (&self.code, &self.text) {
            (Some(code), text) => {
                let text = text.clone().unwrap_or_else(|| format!("{code} is your code"));
                Some(Message { code: Secret::new(code.clone()), text: Secret::new(text) })
            }
            (None, None) => None,
            (None, Some(_)) => return Err("given: a text goes with a code".to_owned()),
        };
        Ok(Delivery {
            context: self.context()?,
            message,
            code_life: Duration::from_secs(self.code_life_s),
            idempotency_key: self.idempotency_key.clone(),
            number: self.number,
            previous_reference: self.previous_reference.clone(),
            running: self
                .running
                .iter()
                .map(|(reference, left)| self.running(reference, *left))
                .collect::<Result<_, _>>()?,
        })
    }

    fn running(&self, reference: &str, left: u64) -> Result<Running, String> {
        let until = Timestamp::from_millis(self.now_ms + left);
        let account = AccountId::parse(&self.account).map_err(|_| "given: account is none")?;
        Ok(Running { account, provider: "fixture".to_owned(), reference: reference.to_owned(), until })
    }

    pub(crate) fn check(&self) -> Result<Check, String> {
        Ok(Check {
            context: self.context()?,
            otp: Secret::new(self.otp.clone()),
            reference: self.reference.clone(),
            repeated: self.repeated,
            idempotency_key: self.idempotency_key.clone(),
        })
    }

    fn context(&self) -> Result<ChallengeContext, String> {
        let wrong = |what: &str| format!("given: {what} is none");
        let destination = match &self.destination {
            GivenDestination::Phone(number) => {
                Destination::Phone(PhoneNumber::parse(number).map_err(|_| wrong("phone"))?)
            }
            GivenDestination::Email(mailbox) => {
                Destination::Email(Mailbox::parse(mailbox).map_err(|_| wrong("email"))?)
            }
            GivenDestination::OnFile => Destination::OnFile,
        };
        let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == self.purpose);
        let channel = Channel::ALL.into_iter().find(|channel| channel.name() == self.channel);
        let transaction = self.transaction.as_ref().map(|given| Transaction {
            amount: Amount { micros: given.amount_micros, currency: given.currency.clone() },
            payee: given.payee.clone(),
            reference: given.reference.clone(),
        });
        Ok(ChallengeContext {
            now: Timestamp::from_millis(self.now_ms),
            tenant: Tenant::parse(&self.tenant).map_err(|_| wrong("tenant"))?,
            challenge: RequestId::parse(&self.challenge).map_err(|_| wrong("challenge"))?,
            account: AccountId::parse(&self.account).map_err(|_| wrong("account"))?,
            purpose: purpose.ok_or_else(|| wrong("purpose"))?,
            transaction,
            option: self.option.as_deref().map(OptionId::parse).transpose().map_err(|_| wrong("option"))?,
            channel: channel.ok_or_else(|| wrong("channel"))?,
            destination,
            locale: self.locale.clone(),
            parameters: self.parameters.iter().map(|(k, v)| (k.clone(), Secret::new(v.clone()))).collect(),
            client: ClientContext {
                ip_address: self.client.ip_address.clone(),
                user_agent: self.client.user_agent.clone(),
                device_id: self.client.device_id.clone(),
                lat_long: self.client.lat_long.clone(),
            },
        })
    }
}

impl Scenario {
    /// What no log may show of this scenario.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let given = &self.given;
        let mut secrets: Vec<String> = given.parameters.values().cloned().collect();
        secrets.extend([&given.otp, &given.account].map(Clone::clone));
        secrets.extend([&given.code, &given.text].into_iter().flatten().cloned());
        let client = &given.client;
        secrets.extend([&client.ip_address, &client.user_agent, &client.device_id, &client.lat_long].map(Clone::clone));
        match &given.destination {
            GivenDestination::Phone(text) | GivenDestination::Email(text) => {
                secrets.push(text.trim_start_matches('+').to_owned());
            }
            GivenDestination::OnFile => {}
        }
        secrets.extend(given.transaction.iter().flat_map(|given| [given.payee.clone(), given.reference.clone()]));
        let headers = self.request.iter().flat_map(|request| &request.headers);
        secrets.extend(headers.filter(|(name, _)| !name.starts_with("content-")).map(|(_, value)| value.clone()));
        secrets.retain(|secret| secret.len() >= Given::SHORTEST_SECRET && secret != super::play::ANY);
        secrets
    }
}

impl Outcome {
    pub(crate) fn of_delivered(delivered: Delivered) -> Self {
        match delivered {
            Delivered::Accepted(receipt) => Self::Accepted {
                reference: receipt.reference,
                code_life_s: receipt.code_life.map(|life| life.as_secs()),
                code_length: receipt.code_length,
                max_checks: receipt.max_checks,
                max_sends: receipt.max_sends,
                running_for_s: receipt.running_for.map(|span| span.as_secs()),
            },
            Delivered::Rejected => Self::Rejected,
            Delivered::Failed(failure) => Self::of_failure(failure),
            Delivered::Unknown => Self::Unknown,
            Delivered::Declined(Decline::OptionExpired) => Self::Declined(Declined::OptionExpired),
            Delivered::Declined(Decline::SendLimitExceeded) => Self::Declined(Declined::SendLimitExceeded),
            Delivered::Declined(Decline::AccountLocked) => Self::Declined(Declined::AccountLocked),
            Delivered::Declined(Decline::Risk) => Self::Declined(Declined::Risk),
            Delivered::Invalid(error) | Delivered::Unaskable(error) => Self::of_request_error(error),
        }
    }

    pub(crate) fn of_checked(checked: Checked) -> Self {
        match checked {
            Checked::Matched(evidence) => {
                Self::Matched { eci: evidence.eci, verification_id: evidence.verification_id }
            }
            Checked::NotMatched { left: None } => Self::NotMatched,
            Checked::NotMatched { left: Some(left) } => Self::NotMatchedWithLeft(left),
            Checked::Gone => Self::Gone,
            Checked::AttemptsExceeded => Self::AttemptsExceeded,
            Checked::AlreadyUsed => Self::AlreadyUsed,
            Checked::Failed(failure) => Self::of_failure(failure),
            Checked::Invalid(error) => Self::of_request_error(error),
            Checked::Unknown => Self::Unknown,
        }
    }

    fn of_failure(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { retry_after } => {
                Self::Unavailable { retry_after_s: retry_after.map(|span| span.as_secs()) }
            }
            Failure::Refused => Self::Refused,
        }
    }

    pub(crate) fn of_request_error(error: RequestError) -> Self {
        Self::Invalid(match error {
            RequestError::MissingParameter(name) => Wrong::MissingParameter(name.to_owned()),
            RequestError::InvalidParameter(name) => Wrong::InvalidParameter(name.to_owned()),
            RequestError::Unsupported(name) => Wrong::Unsupported(name.to_owned()),
        })
    }
}
