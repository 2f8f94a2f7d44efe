//! Providers: they deliver a code that otpd made, or make, deliver and check codes of their own.
//!
//! A new HTTP provider implements [`Adapter`](crate::providers::adapter::Adapter), which is pure; only a provider without
//! HTTP implements [`Provider`] itself. A provider never answers with an error type: each answer below is a decision that
//! tells the service what to do next. Causes go to the operator's log, never into a decision.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;

use super::clock::Deadline;
pub use crate::domain::{
    lockout::Running,
    outcome::{Evidence, ProviderValues, Receipt},
};
use crate::{
    domain::{
        challenge::Decline,
        code::CodeOwner,
        destination::{Channel, Destination},
        ids::{AccountId, OptionId, RequestId, Tenant},
        purpose::Purpose,
        route::Goal,
        time::Timestamp,
        transaction::Transaction,
    },
    secret::Secret,
};

/// Parameters that a caller hands to a provider with one call. May hold card numbers: never stored, never printed.
pub type Parameters = BTreeMap<String, Secret<String>>;

/// What the caller says of the person's device. Never stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientContext {
    /// IPv4 or IPv6.
    pub ip_address: String,
    /// At most 512 characters.
    pub user_agent: String,
    /// At most 100 characters.
    pub device_id: String,
    /// `latitude,longitude` in decimal degrees.
    pub lat_long: String,
}

/// What a provider can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Who makes and checks the codes.
    pub code_owner: CodeOwner,
    /// The channels that it delivers on.
    pub channels: Vec<Channel>,
    /// Whether it knows destinations itself.
    pub contact_on_file: bool,
    /// What it can be asked for; a challenge for anything else is refused when it is opened.
    pub purposes: Vec<Purpose>,
    /// The currencies of transactions that it takes (ISO 4217); `None`: all. Likewise.
    pub currencies: Option<&'static [&'static str]>,
    /// How the phone numbers begin that it sends to; `None`: all. Likewise.
    pub prefix: Option<&'static str>,
    /// Whether it answers a repeated request as the first, by its idempotency key: then an unconfirmed send is asked about again.
    pub send_repeatable: bool,
    /// How long one call may take. The lease of a send is the sum over its route, and 5 s.
    pub timeout: Duration,
    /// How long its own codes are valid, where it says so.
    pub code_life: Option<Duration>,
}

impl Capabilities {
    /// Delivers codes of otpd on these channels, for all purposes, within 5 s.
    pub fn delivers(channels: Vec<Channel>) -> Self {
        Self {
            code_owner: CodeOwner::Otpd,
            channels,
            contact_on_file: false,
            purposes: Purpose::ALL.to_vec(),
            currencies: None,
            prefix: None,
            send_repeatable: false,
            timeout: Duration::from_secs(5),
            code_life: None,
        }
    }

    /// Makes and checks its own codes.
    pub fn manages(channels: Vec<Channel>, check_repeatable: bool) -> Self {
        Self { code_owner: CodeOwner::Provider { check_repeatable }, ..Self::delivers(channels) }
    }

    /// Whether it can deliver what is asked for.
    pub fn serves(&self, goal: &Goal<'_>) -> bool {
        let fits = match goal.destination {
            Destination::OnFile => self.contact_on_file,
            Destination::Phone(number) => self.prefix.is_none_or(|prefix| number.expose().starts_with(prefix)),
            Destination::Email(_) => true,
        };
        let currency = self.currencies.zip(goal.currency);
        let pays = currency.is_none_or(|(known, currency)| known.contains(&currency));
        fits && pays && self.channels.contains(&goal.channel) && self.purposes.contains(&goal.purpose)
    }
}

/// A code that otpd made, and the text around it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The code.
    pub code: Secret<String>,
    /// The whole text with the code in it.
    pub text: Secret<String>,
}

/// What a provider is told about the challenge, in deliveries and in checks.
#[derive(Clone)]
pub struct ChallengeContext {
    /// When the provider is asked.
    pub now: Timestamp,
    /// The tenant.
    pub tenant: Tenant,
    /// The `request_id` of the `CreateChallenge`, which names the challenge within its tenant.
    pub challenge: RequestId,
    /// The person's account at the caller.
    pub account: AccountId,
    /// What the code is asked for.
    pub purpose: Purpose,
    /// What the person agrees to by entering the code.
    pub transaction: Option<Transaction>,
    /// The caller's own id of the option; `None` where otpd made the id, which nobody upstream knows.
    pub option: Option<OptionId>,
    /// How the code is delivered.
    pub channel: Channel,
    /// Where it is delivered. [`Destination::OnFile`] in a check after the end of a challenge, which drops the destination.
    pub destination: Destination,
    /// The person's language as a BCP 47 tag, or empty.
    pub locale: String,
    /// The caller's parameters for this call.
    pub parameters: Parameters,
    /// What the caller says of the person's device.
    pub client: ClientContext,
}

/// A request to deliver a code.
#[derive(Clone)]
pub struct Delivery {
    /// The challenge.
    pub context: ChallengeContext,
    /// The code that otpd made; `None` for a provider that makes its own.
    pub message: Option<Message>,
    /// How long the code is valid, at most.
    pub code_life: Duration,
    /// The same each time that one send goes to one provider, so that a provider which takes such a key sends once.
    pub idempotency_key: String,
    /// Which send of the challenge it is, from 1, over all options. Those that failed count, so that a provider is given no
    /// number twice; those that nobody was asked for do not.
    pub number: u32,
    /// The reference from the [`Receipt`] of the send before, or empty.
    pub previous_reference: String,
    /// Verifications of the same account that this provider still runs, and that this send may end.
    pub running: Vec<Running>,
}

/// A request to check a code that the provider made.
#[derive(Clone)]
pub struct Check {
    /// The challenge.
    pub context: ChallengeContext,
    /// What the person typed.
    pub otp: Secret<String>,
    /// The provider's name for the delivery, from its [`Receipt`]. Empty where the answer to the delivery was lost.
    pub reference: String,
    /// Whether an earlier ask about the same attempt may have reached the provider.
    pub repeated: bool,
    /// The same each time that the provider is asked about one attempt.
    pub idempotency_key: String,
}

/// These types hold texts that callers chose, so `Debug` prints the name of the type only.
macro_rules! unprinted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

unprinted!(ClientContext, ChallengeContext, Delivery, Check);

/// The outcome of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The provider accepted the message.
    Accepted(Receipt),
    /// The destination does not exist or takes no messages. No other provider is tried.
    Rejected,
    /// Certainly nothing was sent. The next provider is tried.
    Failed(Failure),
    /// The message may have been sent. No other provider is tried.
    Unknown,
    /// The provider decided against sending. No other provider is tried.
    Declined(Decline),
    /// No request could be made from what the caller gave, so nothing left this machine. The next provider is tried.
    Unaskable(RequestError),
    /// The provider does not take what the caller gave, and sends nothing. The next provider is tried.
    Invalid(RequestError),
}

/// Why a provider certainly did nothing, as far as it decides what the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Waiting may help.
    Unavailable {
        /// How long to wait, where the provider says so.
        retry_after: Option<Duration>,
    },
    /// Waiting cannot help: credentials, a missing template, not allowed.
    Refused,
}

/// Why a provider cannot be asked with what the caller gave, or does not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The provider needs a parameter that the caller has not given.
    MissingParameter(&'static str),
    /// A parameter, or a field of the challenge that the provider is given, has a value that the provider cannot take.
    InvalidParameter(&'static str),
    /// The provider has no such call.
    Unsupported(&'static str),
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The code matched.
    Matched(Evidence),
    /// The code did not match.
    NotMatched {
        /// How many more codes the provider compares, where it says so.
        left: Option<u32>,
    },
    /// The code has expired, or the provider knows of no open verification.
    Gone,
    /// The provider compares no more codes of this verification.
    AttemptsExceeded,
    /// The provider says that the code was used before.
    AlreadyUsed,
    /// Certainly nothing was judged: the ask never left this machine, or the provider's own error says so.
    Failed(Failure),
    /// The provider does not take what the caller gave, and so judged nothing. The attempt is refunded.
    Invalid(RequestError),
    /// The code may have been judged: no answer came, or none that says what was decided.
    Unknown,
}

/// A call to a provider that has ended.
#[derive(Clone, Copy, Debug)]
pub struct ProviderCall<'a> {
    /// The name in the configuration.
    pub provider: &'a str,
    /// `deliver` or `check`.
    pub operation: &'static str,
    /// `answered`, `failed` (an answer that says so), `refused` (credentials, template, permission), `nothing_sent` or
    /// `unknown`.
    pub outcome: &'static str,
    /// From the request to the end of the answer, or to the time-out.
    pub duration: Duration,
}

/// Is told of every call to a provider when the call has ended; metrics are counted here.
pub trait ProviderObserver: Send + Sync {
    /// Called once for each call; must not block.
    fn provider_called(&self, call: &ProviderCall<'_>);

    /// There is a provider of this name that can do this, and its breaker is closed.
    fn provider_made(&self, _provider: &str, _capabilities: &Capabilities) {}

    /// The breaker of a provider has opened or closed.
    fn breaker_moved(&self, _provider: &str, _is_open: bool) {}
}

/// Delivers codes that otpd made, or makes, delivers and checks codes of its own.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &str;

    /// What it can do. Does not change while the process runs.
    fn capabilities(&self) -> &Capabilities;

    /// Whether a call now has a chance. A provider that is not ready is tried after those that are.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether it has asked to be left alone for a while: then it is tried after those that have not.
    fn is_resting(&self) -> bool {
        false
    }

    /// Why a call now would be refused without asking it: nothing is reserved for such a call.
    fn refusal(&self) -> Option<Failure> {
        None
    }

    /// Whether it is the sandbox of this destination. A sandbox is chosen before any route, and acquires no quotas; a
    /// success with it resets no failures.
    fn is_sandbox_for(&self, _tenant: &Tenant, _destination: &Destination) -> bool {
        false
    }

    /// Why no request can be made from this check: found out before an attempt is used up for it.
    fn check_error(&self, _check: &Check) -> Option<RequestError> {
        None
    }

    /// Delivers. Ends by the deadline, with [`Delivered::Unknown`] if something may have been sent by then.
    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered;

    /// Checks. Ends by the deadline. Only called for a provider that owns its codes.
    async fn check(&self, check: Check, deadline: Deadline) -> Checked;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_chose_is_not_printed() {
        let own = || "chosen".to_owned();
        let context = ChallengeContext {
            now: Timestamp::from_millis(0),
            tenant: Tenant::parse("acme").unwrap(),
            challenge: RequestId::parse("chosen").unwrap(),
            account: AccountId::parse("chosen").unwrap(),
            purpose: Purpose::Login,
            transaction: None,
            option: None,
            channel: Channel::Sms,
            destination: Destination::OnFile,
            locale: own(),
            parameters: Parameters::from([(own(), Secret::new(own()))]),
            client: ClientContext { device_id: own(), ..ClientContext::default() },
        };
        assert_eq!(format!("{context:?} {:?}", context.client), "ChallengeContext(..) ClientContext(..)");
        let (otp, code_life) = (Secret::new(own()), Duration::ZERO);
        let delivery = Delivery {
            context: context.clone(),
            message: None,
            code_life,
            idempotency_key: own(),
            number: 1,
            previous_reference: own(),
            running: Vec::new(),
        };
        let check = Check { context, otp, reference: own(), repeated: false, idempotency_key: own() };
        assert_eq!(format!("{delivery:?} {check:?}"), "Delivery(..) Check(..)");
    }
}
