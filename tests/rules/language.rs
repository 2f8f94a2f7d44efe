//! The language of the tables.
//!
//! ```text
//! == title                       a new scenario, with a fresh challenge opened at 0s
//! open attempts=2 gaps=30,60     before the first step: other limits, purpose, options
//! at 31s | send opt1 id=s2 | resend_too_soon next=60s
//! ```
//!
//! A step is a time, a command and what it comes to. Words without `=` are positional, the rest are named. An id stands
//! for a request with the content of its command; `content=x` makes it another content. Each command comes from another
//! worker, unless `worker=1` says whose it is. `locked` and `locked=90s` are an operator's lock of the account.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use otpd::domain::{
    challenge::{Challenge, ContactAddress, Decline, Phase, Reply},
    lockout::Lockout,
    outcome::{ChallengeView, Locked, Proof, Sent, Verified},
    rules::{AskStep, Asked, CancelStep, SendStep, SettleStep, VerifyStep},
    time::Timestamp,
};

use super::fixture::contact;

/// When every table begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The words of a command.
pub(crate) struct Words<'a> {
    pub(crate) verb: &'a str,
    pub(crate) plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut words = text.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let (named, plain): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('='));
        let named = named.iter().filter_map(|word| word.split_once('=')).collect();
        Self { verb, plain, named }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.named.get(name).copied()
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name}={text} is no number")))
    }

    pub(crate) fn span(&self, name: &str) -> Option<Duration> {
        self.get(name).map(span)
    }

    /// `locked` or `locked=90s`.
    pub(crate) fn locked(&self) -> Option<Locked> {
        let for_good = self.plain.contains(&"locked").then_some(Locked { until: None });
        self.get("locked").map(|until| Locked { until: Some(at(until)) }).or(for_good)
    }
}

/// `90s`, `1.5s` or `2h`.
pub(crate) fn span(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: f64 = number.parse().unwrap_or_else(|_| panic!("{text} is no span"));
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => panic!("{text} is no span"),
    };
    Duration::from_secs_f64(number * seconds)
}

/// A time after the start.
pub(crate) fn at(text: &str) -> Timestamp {
    START.plus(span(text))
}

pub(crate) fn time(at: Timestamp) -> String {
    format!("{}s", at.since(START).as_secs_f64())
}

fn optional(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

fn locked(locked: Locked) -> String {
    locked.until.map_or_else(|| "account_locked".to_owned(), |until| format!("account_locked until={}", time(until)))
}

pub(crate) fn sent(sent: &Sent) -> String {
    match sent {
        Sent::Success(dispatch) => {
            let (expires, next) = (time(dispatch.expires_at), time(dispatch.next_send_at));
            let (left, length) = (dispatch.remaining_sends, dispatch.code_length);
            let state = if dispatch.confirmed { "success" } else { "unconfirmed" };
            let (checks, sends) = (dispatch.max_verification_attempts, dispatch.max_send_attempts);
            format!("{state} expires={expires} left={left} next={next} length={length} most={checks}/{sends}")
        }
        Sent::ChallengeOptionExpired => "challenge_option_expired".to_owned(),
        Sent::SendLimitExceeded => "send_limit_exceeded".to_owned(),
        Sent::AccountLocked(lock) => locked(*lock),
        Sent::RiskDeclined => "risk_declined".to_owned(),
        Sent::ResendTooSoon { next_send_at } => format!("resend_too_soon next={}", time(*next_send_at)),
        Sent::DestinationRejected => "destination_rejected".to_owned(),
    }
}

pub(crate) fn send_step(step: &SendStep) -> String {
    match step {
        SendStep::UnknownOption => "unknown_option".to_owned(),
        SendStep::Conflict => "conflict".to_owned(),
        SendStep::Recorded(answer) => format!("again {}", sent(answer)),
        SendStep::FailedBefore => "failed_before".to_owned(),
        SendStep::Refused(refusal) => sent(refusal),
        SendStep::InProgress { until } => format!("in_progress until={}", time(*until)),
        SendStep::NoProvider => "no_provider".to_owned(),
        SendStep::CannotCall => "cannot_call".to_owned(),
        SendStep::Paused { until } => format!("paused until={}", time(*until)),
        SendStep::Resumed(reserved) => format!("resumed {} lease={}", reserved.number, time(reserved.lease_until)),
        SendStep::AcquireQuotas => "acquire_quotas".to_owned(),
        SendStep::Reserved(reserved) => format!("reserved {} lease={}", reserved.number, time(reserved.lease_until)),
    }
}

pub(crate) fn decline(name: &str) -> Decline {
    match name {
        "expired" => Decline::OptionExpired,
        "limit" => Decline::SendLimitExceeded,
        "locked" => Decline::AccountLocked,
        "risk" => Decline::Risk,
        other => panic!("no provider declines with {other}"),
    }
}

pub(crate) fn settle_step(step: &SettleStep) -> String {
    match step {
        SettleStep::Answer(answer) => sent(answer),
        SettleStep::Failed => "failed".to_owned(),
        SettleStep::Refunded => "refunded".to_owned(),
        SettleStep::Gone => "gone".to_owned(),
    }
}

fn proof(proof: &Proof) -> String {
    let of = proof.option.as_ref().map_or("-", |option| option.id.as_str());
    let mut text = format!("success account={} purpose={} of={of}", proof.account.as_str(), proof.purpose.name());
    if let Some(transaction) = &proof.transaction {
        let amount = &transaction.amount;
        write!(text, " pays={}{} to={}", amount.currency, amount.decimal(), transaction.payee).unwrap();
    }
    let evidence = &proof.evidence;
    if !evidence.eci.is_empty() || !evidence.verification_id.is_empty() {
        write!(text, " eci={} id={}", evidence.eci, evidence.verification_id).unwrap();
    }
    text
}

pub(crate) fn verified(verified: &Verified) -> String {
    match verified {
        Verified::Success(verified) => proof(verified),
        Verified::NotMatched { remaining } => format!("otp_not_matched left={remaining}"),
        Verified::AlreadyUsed => "otp_already_used".to_owned(),
        Verified::Expired => "otp_expired".to_owned(),
        Verified::AttemptsExceeded => "verification_attempts_exceeded".to_owned(),
        Verified::AccountLocked(lock) => locked(*lock),
    }
}

pub(crate) fn verify_step(step: &VerifyStep) -> String {
    match step {
        VerifyStep::Mismatch => "mismatch".to_owned(),
        VerifyStep::Conflict => "conflict".to_owned(),
        VerifyStep::Recorded(answer) => format!("again {}", verified(answer)),
        VerifyStep::Answer(answer) => verified(answer),
        VerifyStep::NothingSent => "nothing_sent".to_owned(),
        VerifyStep::InProgress { until } => format!("in_progress until={}", time(*until)),
        VerifyStep::CannotJudge => "cannot_ask".to_owned(),
        VerifyStep::Paused { until } => format!("paused until={}", time(*until)),
        VerifyStep::Ask(question) => format!("ask {}", asked(question)),
    }
}

pub(crate) fn asked(asked: &Asked) -> String {
    let reference = if asked.reference.is_empty() { "-" } else { &asked.reference };
    let repeated = if asked.repeated { " repeated" } else { "" };
    format!("provider={} ref={reference}{repeated}", asked.provider)
}

pub(crate) fn ask_step(step: &AskStep) -> String {
    match step {
        AskStep::Answer(answer) => verified(answer),
        AskStep::Unknown => "outcome_unknown".to_owned(),
        AskStep::Refunded => "refunded".to_owned(),
    }
}

pub(crate) fn cancel_step(step: CancelStep) -> String {
    match step {
        CancelStep::Conflict => "conflict".to_owned(),
        CancelStep::Verified => "verified".to_owned(),
        CancelStep::Done => "done".to_owned(),
    }
}

/// The failures in total, and the locks of the account and of either option.
pub(crate) fn lockout(lockout: &Lockout, now: Timestamp) -> String {
    let until = |lock: Option<Locked>| match lock {
        None => "-".to_owned(),
        Some(Locked { until }) => until.map_or_else(|| "ever".to_owned(), time),
    };
    let (one, two) = (lockout.locked(contact(1), now), lockout.locked(contact(2), now));
    let account = lockout.account_locked(now);
    format!("failures={} account={} opt1={} opt2={}", lockout.failures(), until(account), until(one), until(two))
}

pub(crate) fn view(view: &ChallengeView) -> String {
    let sends: Vec<_> = view.options.iter().map(|(option, sends)| format!("{}:{sends}", option.id.as_str())).collect();
    format!(
        "{:?} ends={} code={} next={} attempts={}/{} sends={}/{}",
        view.state,
        time(view.expires_at),
        optional(view.code_expires_at),
        optional(view.next_send_at),
        view.attempts,
        view.max_verification_attempts,
        sends.join(","),
        view.max_send_attempts,
    )
}

/// What the record keeps.
pub(crate) fn kept(challenge: &Challenge) -> String {
    let is_known =
        |option: &&otpd::domain::challenge::ChallengeOption| matches!(option.target, ContactAddress::Known(_));
    let known = challenge.options.iter().filter(is_known).count();
    let masks: Vec<_> = challenge.options.iter().map(|option| option.target.masked()).collect();
    let secrets = match &challenge.phase {
        Phase::Open(open) => {
            let code = open.code.as_ref().map_or(0, |code| code.send);
            format!("nonce code={code} uses={}", open.uses.len())
        }
        Phase::Ended(_) => "no_nonce".to_owned(),
    };
    let answers: Vec<_> = challenge.answers.iter().map(|answer| name(answer.key.id.0, &answer.reply)).collect();
    let sending = challenge.sending.as_ref().map_or_else(String::new, |sending| {
        format!(" sending={}{}", sending.number, if sending.previous.is_some() { " previous" } else { "" })
    });
    format!("{known} known {} {secrets} answers={}{sending}", masks.join(","), answers.join(","))
}

fn name(id: [u8; 8], reply: &Reply) -> String {
    let name = String::from_utf8_lossy(&id).trim_end_matches('\0').to_owned();
    let kind = match reply {
        Reply::Unknown(_) => "?",
        Reply::SendFailed => "!",
        _ => "",
    };
    format!("{name}{kind}")
}
