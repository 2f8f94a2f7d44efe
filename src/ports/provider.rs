//! Providers: they deliver a code of ours, or make, deliver and check their own.
//!
//! To add one: implement [`Provider`] in `providers/<name>.rs` and give it a line in `providers.rs`. A provider never
//! answers with an error type: whatever went wrong is one of the decisions below, because only those tell the service
//! what to do next. Causes go to the operator's log, never into a decision.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;

use super::clock::Deadline;
use crate::{
    domain::{
        challenge::Decline,
        destination::{Channel, Destination},
        ids::{AccountId, RequestId, Tenant},
        purpose::Purpose,
        time::Timestamp,
        transaction::Transaction,
    },
    secret::Secret,
};

/// Parameters that a caller hands to a provider with one call. May hold card numbers: never stored, never printed.
pub type Parameters = BTreeMap<String, Secret<String>>;

/// What the caller knows of the person's device. Never stored.
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

/// Who makes and checks the codes of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// We do; the provider delivers them.
    Ours,
    /// The provider does.
    Managed {
        /// Whether asking the provider twice about one typed code is safe: it answers the second time as the first.
        check_repeatable: bool,
    },
}

/// What a provider can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Who makes and checks the codes.
    pub codes: Codes,
    /// The channels that it delivers on.
    pub channels: Vec<Channel>,
    /// Whether it knows destinations itself.
    pub contact_on_file: bool,
    /// How long one call may take. The lease of a send is the sum over its route, and 5 s.
    pub timeout: Duration,
    /// How long its own codes are valid, where it says so.
    pub code_life: Option<Duration>,
}

impl Capabilities {
    /// Whether it can deliver to such a destination.
    pub fn serves(&self, channel: Channel, destination: &Destination) -> bool {
        let known = self.contact_on_file || !matches!(destination, Destination::OnFile);
        known && self.channels.contains(&channel)
    }
}

/// A code of ours on its way out, with the words around it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The code.
    pub code: Secret<String>,
    /// The whole text with the code in it.
    pub text: Secret<String>,
}

/// What both kinds of calls tell a provider about the challenge.
#[derive(Clone)]
pub struct Occasion {
    /// When the provider is asked.
    pub now: Timestamp,
    /// The tenant.
    pub tenant: Tenant,
    /// The name of the challenge.
    pub challenge: RequestId,
    /// The person's account at the caller.
    pub account: AccountId,
    /// What is proven.
    pub purpose: Purpose,
    /// What the person agrees to.
    pub transaction: Option<Transaction>,
    /// Where to.
    pub channel: Channel,
    /// Where to. [`Destination::OnFile`] in a check after the end of a challenge.
    pub destination: Destination,
    /// BCP 47, or empty.
    pub locale: String,
    /// The caller's parameters for this call.
    pub parameters: Parameters,
    /// The person's device, as far as the caller said.
    pub client: ClientContext,
}

/// Deliver a code.
#[derive(Clone)]
pub struct Delivery {
    /// The challenge.
    pub occasion: Occasion,
    /// Our code; `None` for a provider that makes its own.
    pub message: Option<Message>,
    /// How long the code is valid, at most.
    pub code_life: Duration,
    /// The same for each attempt of one send with one provider: for providers that take such a key.
    pub idempotency_key: String,
}

/// Check a code that a provider made.
#[derive(Clone)]
pub struct Check {
    /// The challenge.
    pub occasion: Occasion,
    /// What the person typed.
    pub otp: Secret<String>,
    /// What the provider answered when it sent the code.
    pub reference: String,
    /// Whether the provider may have been asked about this very attempt before.
    pub repeated: bool,
    /// The same each time that one attempt is asked about.
    pub idempotency_key: String,
}

/// Callers choose the names, keys and references in these, so only the type is printed.
macro_rules! unprinted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

unprinted!(ClientContext, Occasion, Delivery, Check);

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The provider took it.
    Accepted(Receipt),
    /// The destination does not exist or takes no messages. No other provider is tried.
    Rejected,
    /// Definitely nothing was sent. The next provider is tried.
    Failed {
        /// When the provider might do better, where it says so.
        retry_after: Option<Duration>,
    },
    /// It may have been sent. No other provider is tried.
    Unknown,
    /// The provider has judged, and sends nothing. No other provider is tried.
    Declined(Decline),
    /// The provider cannot be called with what the caller gave. Nothing was sent; the next provider is tried.
    Unfit(Unfit),
}

/// Why a provider cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A parameter that the provider needs is not among the caller's.
    Missing(&'static str),
    /// A parameter, or a field of the challenge that the provider is given, is not as the provider wants it.
    Invalid(&'static str),
    /// The provider has no such call.
    Unsupported(&'static str),
}

/// What a provider says of a delivery that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Names the delivery in later checks. At most 200 characters.
    pub reference: String,
    /// How long the provider's own code is valid, where it says so.
    pub code_life: Option<Duration>,
    /// How long the provider's own code is, where it says so.
    pub code_length: Option<u8>,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The code matched.
    Matched(Evidence),
    /// It did not.
    NotMatched,
    /// The code is past its time, or the provider knows of no open verification.
    Gone,
    /// The provider compares no more codes of this verification.
    AttemptsExceeded,
    /// The provider says that the code was used before.
    AlreadyUsed,
    /// The provider did not answer, or not so that the outcome is certain.
    Unknown,
}

/// What a provider adds to a match. Each at most 100 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Electronic Commerce Indicator.
    pub eci: String,
    /// The provider's id of the verification.
    pub verification_id: String,
}

/// A call to a provider that has ended.
#[derive(Clone, Copy, Debug)]
pub struct ProviderCall<'a> {
    /// The name in the configuration.
    pub provider: &'a str,
    /// `deliver` or `check`.
    pub operation: &'static str,
    /// `answered`, `failed` (an answer that says so), `nothing_sent` or `unknown`.
    pub outcome: &'static str,
    /// From the request to the whole answer, or to giving up.
    pub duration: Duration,
}

/// Sees every call to a provider at its end; where they are counted.
pub trait ProviderObserver: Send + Sync {
    /// A call has ended. Must not wait.
    fn provider_called(&self, call: &ProviderCall<'_>);
}

/// Delivers codes of ours, or makes and checks its own.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &str;

    /// What it can do. Does not change while the process runs.
    fn capabilities(&self) -> &Capabilities;

    /// Whether it is worth a call now. One that is not is passed over while others are.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether it is the sandbox of this destination: it is then chosen before any route, takes no quotas, and a success
    /// with it forgives nobody's failures.
    fn is_sandbox_for(&self, _tenant: &Tenant, _destination: &Destination) -> bool {
        false
    }

    /// Why a check cannot be asked: found out before an attempt is used up for it.
    fn unfit_check(&self, _check: &Check) -> Option<Unfit> {
        None
    }

    /// Delivers. Ends by the deadline, with [`Delivered::Unknown`] if something may have been sent by then.
    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered;

    /// Checks. Ends by the deadline. Only asked of a provider that manages its own codes.
    async fn check(&self, check: Check, deadline: Deadline) -> Checked;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_chose_is_not_printed() {
        let own = || "chosen".to_owned();
        let occasion = Occasion {
            now: Timestamp::from_millis(0),
            tenant: Tenant::parse("acme").unwrap(),
            challenge: RequestId::parse("chosen").unwrap(),
            account: AccountId::parse("chosen").unwrap(),
            purpose: Purpose::Login,
            transaction: None,
            channel: Channel::Sms,
            destination: Destination::OnFile,
            locale: own(),
            parameters: Parameters::from([(own(), Secret::new(own()))]),
            client: ClientContext { device_id: own(), ..ClientContext::default() },
        };
        assert_eq!(format!("{occasion:?} {:?}", occasion.client), "Occasion(..) ClientContext(..)");
        let (otp, code_life) = (Secret::new(own()), Duration::ZERO);
        let delivery = Delivery { occasion: occasion.clone(), message: None, code_life, idempotency_key: own() };
        let check = Check { occasion, otp, reference: own(), repeated: false, idempotency_key: own() };
        assert_eq!(format!("{delivery:?} {check:?}"), "Delivery(..) Check(..)");
    }
}
