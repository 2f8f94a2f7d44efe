//! The language of the tables.
//!
//! ```text
//! == title                       a new scenario, with a fresh challenge opened at 0s
//! open attempts=2 gaps=30,60     before the first step: other limits, purpose, options
//! at 31s | send opt1 id=s2 | resend_too_soon next=60s
//! ```
//!
//! A step is a time, a command and what it comes to. Words without `=` are positional, the rest are named. An id stands
//! for a request with the content of its command; `content=x` makes it another content.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use otpd::domain::{
    challenge::{Challenge, Phase, Reply, Target},
    outcome::{ChallengeView, Locked, Proof, Sent, Verified},
    rules::{CancelStep, CheckStep, SendStep, SettleStep, VerifyStep},
    time::Timestamp,
};

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

fn time(at: Timestamp) -> String {
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
            format!("{state} expires={expires} left={left} next={next} length={length}")
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
        SendStep::Replay(answer) => format!("again {}", sent(answer)),
        SendStep::Refused(refusal) => sent(refusal),
        SendStep::Busy { until } => format!("busy until={}", time(*until)),
        SendStep::NoProvider => "no_provider".to_owned(),
        SendStep::Deliver(dispatched) => {
            format!("deliver {} lease={}", dispatched.number, time(dispatched.lease_until))
        }
    }
}

pub(crate) fn settle_step(step: &SettleStep) -> String {
    match step {
        SettleStep::Answer(answer) => sent(answer),
        SettleStep::Failed { given_back: true } => "failed given_back".to_owned(),
        SettleStep::Failed { given_back: false } => "failed spent".to_owned(),
        SettleStep::Gone => "gone".to_owned(),
    }
}

fn proof(proof: &Proof) -> String {
    let mut text = format!("success account={} purpose={}", proof.account.as_str(), proof.purpose.name());
    if let Some(transaction) = &proof.transaction {
        let amount = &transaction.amount;
        write!(text, " pays={}{} to={}", amount.currency, amount.decimal(), transaction.payee).unwrap();
    }
    if !proof.eci.is_empty() || !proof.verification_id.is_empty() {
        write!(text, " eci={} id={}", proof.eci, proof.verification_id).unwrap();
    }
    text
}

fn verified(verified: &Verified) -> String {
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
        VerifyStep::Replay(answer) => format!("again {}", verified(answer)),
        VerifyStep::ReplaySuccess { proof: told, attempt, through, subject } => {
            let subject = if subject.is_some() { " of=destination" } else { "" };
            format!("again {} attempt={attempt} through={through}{subject}", proof(told))
        }
        VerifyStep::Refused(refusal) => verified(refusal),
        VerifyStep::NothingSent => "nothing_sent".to_owned(),
        VerifyStep::Busy { until } => format!("busy until={}", time(*until)),
        VerifyStep::Attempt { number, verdict } => format!("attempt {number} {}", verified(verdict)),
        VerifyStep::Ask(asked) => {
            let reference = if asked.reference.is_empty() { "-" } else { &asked.reference };
            let repeated = if asked.repeated { " repeated" } else { "" };
            format!("ask {} provider={} ref={reference}{repeated}", asked.attempt, asked.provider)
        }
    }
}

pub(crate) fn check_step(step: &CheckStep) -> String {
    match step {
        CheckStep::Answer { verdict, give_back } => {
            format!("{}{}", verified(verdict), if *give_back { " give_back" } else { "" })
        }
        CheckStep::Unanswered => "unanswered".to_owned(),
        CheckStep::Superseded(step) => format!("superseded {}", verify_step(step)),
    }
}

pub(crate) fn cancel_step(step: CancelStep) -> String {
    match step {
        CancelStep::Conflict => "conflict".to_owned(),
        CancelStep::Verified => "verified".to_owned(),
        CancelStep::Done => "done".to_owned(),
    }
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
    let known = challenge.options.iter().filter(|option| matches!(option.target, Target::Known(_))).count();
    let masks: Vec<_> = challenge.options.iter().map(|option| option.target.masked()).collect();
    let secrets = match &challenge.phase {
        Phase::Open(open) => format!("nonce code={}", open.code.as_ref().map_or(0, |code| code.send_number)),
        Phase::Ended(_) => "no_nonce".to_owned(),
    };
    let answers: Vec<_> = challenge.answers.iter().map(|answer| name(answer.request.id.0, &answer.reply)).collect();
    let pending = challenge.pending_send.as_ref();
    let pending = pending.map_or_else(String::new, |send| {
        format!(" sending={}{}", send.number, if send.previous.is_some() { " previous" } else { "" })
    });
    format!("{known} known {} {secrets} answers={}{pending}", masks.join(","), answers.join(","))
}

fn name(id: [u8; 16], reply: &Reply) -> String {
    let name = String::from_utf8_lossy(&id).trim_end_matches('\0').to_owned();
    let kind = match reply {
        Reply::CheckUnanswered { .. } => "?",
        Reply::SendFailed { .. } => "!",
        _ => "",
    };
    format!("{name}{kind}")
}
