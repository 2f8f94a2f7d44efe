//! The traces of the protocol of partitions that earlier wordings allowed, each of which the rules forbid. A worker is known by
//! its token; an answer that was lost is a command that is decided again over the state that was committed.

use otpd::domain::{
    challenge::{Ended, Phase},
    lockout::Lockout,
    outcome::{Evidence, Locked, Receipt, Sent, Verified},
    policy::LockPolicy,
    rules::{
        AskResult, AskStep, Cancel, CancelStep, Command, Comparison, NextProvider, QuotaState, ReserveSend, SendStep,
        SettleAsk, SettleSend, SettleStep, Settlement, State, Verify, VerifyStep,
    },
};

use super::{
    fixture::{HOUR, SECOND, ask, decided, key, option_id, plan, state, token, verify, with_code},
    language::{START, Words},
};

/// The partition: what is committed.
struct Partition {
    state: State,
    seconds: u32,
}

impl Partition {
    fn open(line: &str) -> Self {
        Self { state: state(line, Lockout::default()), seconds: 0 }
    }

    /// With a code that a provider checks.
    fn managed(line: &str, via: &str) -> Self {
        let open = Self::open(line);
        Self { state: with_code(&open.state, &format!("opt1 via={via}"), START), ..open }
    }

    /// Decides and commits.
    fn commit<C: Command>(&mut self, command: &C) -> C::Outcome
    where
        C::Outcome: PartialEq + std::fmt::Debug,
    {
        let now = START.plus(self.seconds * SECOND);
        let decision = decided(&self.state, command, now, &LockPolicy::default());
        self.state = decision.state;
        decision.outcome
    }

    fn sends(&self) -> u32 {
        self.state.challenge.sends()
    }

    fn live(&self) -> u32 {
        self.state.challenge.live_code().map_or(0, |code| code.generation)
    }
}

fn reserve(id: &str, worker: u32) -> ReserveSend {
    reserve_via(id, worker, "opt1", "console")
}

fn reserve_via(id: &str, worker: u32, option: &str, via: &str) -> ReserveSend {
    ReserveSend {
        key: key(id, "SendOtp"),
        token: token(worker),
        option: option_id(option),
        quotas: QuotaState::Acquired,
        plan: plan(&Words::parse(&format!("send via={via}"))),
        lease: 15 * SECOND,
        can_call: true,
        resume_lease: Some(std::time::Duration::from_secs(15)),
    }
}

fn settle(id: &str, worker: u32, settlement: Settlement) -> SettleSend {
    SettleSend { key: key(id, "SendOtp"), token: token(worker), provider: "p".to_owned(), settlement }
}

fn accepted() -> Settlement {
    Settlement::Accepted(Receipt {
        reference: "ref".to_owned(),
        code_life: None,
        code_length: None,
        ..Receipt::default()
    })
}

fn says(id: &str, worker: u32, result: AskResult) -> SettleAsk {
    SettleAsk { key: key(id, "VerifyOtp"), token: token(worker), result }
}

fn matched() -> AskResult {
    AskResult::Matched(Evidence::default())
}

fn is_success(step: &AskStep) -> bool {
    matches!(step, AskStep::Answer(Verified::Success(_)))
}

fn not_matched(remaining: u32) -> Verified {
    Verified::NotMatched { remaining }
}

/// Replica 1 reserves `s`, not applied and its answer lost; replica 2 reserves `s`, applied; replica 1 tries again.
#[test]
fn v1_a_request_id_is_no_proof_of_a_reservation() {
    let mut partition = Partition::open("open");
    assert!(matches!(partition.commit(&reserve("s", 2)), SendStep::Reserved(_)));
    let until = START.plus(15 * SECOND);
    assert_eq!(partition.commit(&reserve("s", 1)), SendStep::InProgress { until }, "only replica 2 delivers");
    assert!(matches!(partition.commit(&reserve("s", 2)), SendStep::Reserved(reserved) if reserved.number == 1));
    assert_eq!(partition.sends(), 1);
    let next = NextProvider { token: token(1), plan: plan(&Words::parse("send via=other")).unwrap() };
    assert!(!partition.commit(&next));
    assert_eq!(partition.commit(&settle("s", 1, Settlement::Failed)), SettleStep::Gone);
    assert!(partition.state.challenge.sending.is_some(), "nobody else settles it");
}

#[test]
fn v1_of_an_ask() {
    let mut partition = Partition::managed("open", "managed");
    assert!(matches!(partition.commit(&ask("v", 2)), VerifyStep::Ask(_)));
    let until = START.plus(10 * SECOND);
    assert_eq!(partition.commit(&ask("v", 1)), VerifyStep::InProgress { until }, "only replica 2 asks");
    assert!(matches!(partition.commit(&ask("v", 2)), VerifyStep::Ask(asked) if !asked.repeated));
    assert_eq!((partition.state.challenge.attempts, partition.state.challenge.last_ask), (1, 1));
}

/// Replica 1 settles `s` as failed, its answer lost; the caller repeats at replica 2, which reserves `s` again; replica 1
/// repeats its settle.
#[test]
fn v2_a_repeated_settle_refunds_nobody_elses_reservation() {
    let mut partition = Partition::open("open");
    partition.commit(&reserve("s", 1));
    assert_eq!(partition.commit(&settle("s", 1, Settlement::Failed)), SettleStep::Refunded);
    assert!(matches!(partition.commit(&reserve("s", 2)), SendStep::Reserved(reserved) if reserved.number == 2));
    assert_eq!(partition.commit(&settle("s", 1, Settlement::Failed)), SettleStep::Gone);
    assert_eq!(partition.sends(), 1, "the send of replica 2 stays spent");
    assert!(matches!(partition.commit(&settle("s", 2, accepted())), SettleStep::Answer(Sent::Success(_))));
}

/// The uses of quotas go by the tokens of the sends that were spent: a success refunds those and no other.
#[test]
fn v3_a_challenge_knows_the_uses_of_its_own_sends() {
    let mut partition = Partition::open("open gaps=");
    partition.commit(&reserve("a", 1));
    partition.commit(&settle("a", 1, accepted()));
    partition.commit(&reserve("b", 2));
    partition.commit(&settle("b", 2, Settlement::Failed));
    partition.commit(&reserve("b", 3));
    partition.commit(&reserve("b", 4));
    partition.commit(&settle("b", 3, Settlement::Rejected));
    let open = partition.state.challenge.open().unwrap();
    let tokens: Vec<_> = open.uses.iter().map(|send| send.token).collect();
    assert_eq!(tokens, [token(1), token(3)], "neither the refunded one nor the worker that reserved nothing");
}

/// A quota refuses: nothing was reserved meanwhile, so that the code before is as good as it was.
#[test]
fn v4_a_refused_quota_leaves_the_code_before_alone() {
    let mut partition = Partition::open("open gaps=");
    partition.commit(&reserve("a", 1));
    partition.commit(&settle("a", 1, accepted()));
    let before = partition.state.clone();
    let unasked = ReserveSend { quotas: QuotaState::Unasked, ..reserve("b", 2) };
    assert_eq!(partition.commit(&unasked), SendStep::AcquireQuotas);
    let refused = ReserveSend { quotas: QuotaState::Refused, ..reserve("b", 2) };
    assert_eq!(partition.commit(&refused), SendStep::Refused(Sent::RiskDeclined));
    assert_eq!(partition.state, before);
    assert_eq!(partition.live(), 1);
}

/// The first ask was judged after its lease; the same id's second ask never left.
#[test]
fn v8_an_attempt_of_which_one_ask_may_have_been_judged_is_not_refunded() {
    let mut partition = Partition::managed("open attempts=2", "managed");
    partition.commit(&ask("v", 1));
    partition.seconds = 10;
    assert!(matches!(partition.commit(&ask("v", 2)), VerifyStep::Ask(asked) if asked.repeated));
    assert_eq!(
        partition.commit(&says("v", 1, AskResult::NotMatched { left: None })),
        AskStep::Unknown,
        "another ask is in flight"
    );
    assert_eq!(partition.commit(&says("v", 2, AskResult::NotJudged)), AskStep::Unknown);
    assert_eq!((partition.state.challenge.attempts, partition.state.challenge.refunded_attempts), (1, 0));
    assert_eq!(
        partition.commit(&says("v", 1, AskResult::NotMatched { left: None })),
        AskStep::Answer(not_matched(1)),
        "now it counts"
    );
    assert_eq!(partition.state.lockout.failures(), 1);
}

/// An ask about generation 1 is not matched, its answer lost; a resend; the same id again.
#[test]
fn v9_one_attempt_compares_one_code() {
    let mut partition = Partition::managed("open gaps=", "managed");
    partition.commit(&ask("v", 1));
    partition.seconds = 10;
    partition.commit(&reserve_via("s2", 2, "opt2", "managed"));
    partition.commit(&settle("s2", 2, accepted()));
    assert_eq!(partition.live(), 2);
    assert_eq!(partition.commit(&ask("v", 3)), VerifyStep::Answer(not_matched(4)), "generation 2 is not asked about");
    assert_eq!(partition.state.lockout.failures(), 1, "and it is counted");
    assert_eq!(
        partition.commit(&says("v", 1, AskResult::NotMatched { left: None })),
        AskStep::Answer(not_matched(4)),
        "once"
    );
    assert_eq!((partition.state.challenge.attempts, partition.state.lockout.failures()), (1, 1));
}

/// A late match of generation 1 names the contact of generation 1, whatever is live by then.
#[test]
fn v9_a_success_names_the_contact_that_its_code_went_to() {
    let mut partition = Partition::managed("open gaps=", "managed");
    partition.commit(&ask("v", 1));
    partition.seconds = 10;
    partition.commit(&reserve_via("s2", 2, "opt2", "managed"));
    let step = partition.commit(&says("v", 1, matched()));
    let AskStep::Answer(Verified::Success(proof)) = step else { panic!("{step:?}") };
    assert_eq!(proof.option.unwrap().id, option_id("opt1"));
}

/// One attempt allowed; verified, but its answer lost; the same id again. With the lease over, or settled as unknown.
#[test]
fn v10_the_last_attempt_may_be_repeated_until_it_has_an_outcome() {
    for (settled, seconds) in [(true, 1), (false, 10)] {
        let mut partition = Partition::managed("open attempts=1", "managed");
        partition.commit(&ask("v", 1));
        partition.seconds = seconds;
        if settled {
            assert_eq!(partition.commit(&says("v", 1, AskResult::Unknown)), AskStep::Unknown);
        }
        let other = partition.commit(&ask("other", 9));
        assert_eq!(other, VerifyStep::Answer(Verified::AttemptsExceeded), "no other attempt");
        assert!(partition.state.challenge.open().is_some(), "but it has not ended");
        assert!(matches!(partition.commit(&ask("v", 2)), VerifyStep::Ask(asked) if asked.repeated));
        assert!(is_success(&partition.commit(&says("v", 2, matched()))));
        assert!(is_success(&partition.commit(&says("v", 2, matched()))), "and again, where that answer was lost");
    }
}

/// The final commit needs nothing that an end drops: the challenge was cancelled while the provider judged.
#[test]
fn v10_an_end_drops_nothing_that_an_open_ask_needs() {
    let mut partition = Partition::managed("open attempts=1", "managed");
    partition.commit(&ask("v", 1));
    let cancel = Cancel { key: key("c", "CancelChallenge") };
    assert_eq!(partition.commit(&cancel), CancelStep::Done);
    assert_eq!(partition.commit(&says("v", 1, AskResult::NotMatched { left: None })), AskStep::Answer(not_matched(0)));
    assert_eq!(partition.state.lockout.failures(), 1);
}

/// `a` is verified, slowly, its lease over; `b` asks, and the provider says gone; `a` again.
#[test]
fn v11_gone_does_not_end_what_another_attempt_may_have_verified() {
    let mut partition = Partition::managed("open", "managed");
    partition.commit(&ask("a", 1));
    partition.seconds = 10;
    assert!(matches!(partition.commit(&ask("b", 2)), VerifyStep::Ask(_)));
    assert_eq!(partition.commit(&says("b", 2, AskResult::Gone)), AskStep::Answer(Verified::Expired));
    assert!(matches!(partition.commit(&ask("a", 3)), VerifyStep::Ask(asked) if asked.repeated));
    assert!(is_success(&partition.commit(&says("a", 3, matched()))), "the check may be repeated");

    let mut partition = Partition::managed("open", "managed-once");
    partition.commit(&ask("a", 1));
    partition.seconds = 10;
    partition.commit(&ask("b", 2));
    assert_eq!(partition.commit(&says("b", 2, AskResult::Gone)), AskStep::Answer(Verified::Expired));
    assert_eq!(partition.state.challenge.phase, Phase::Ended(Ended::Cancelled), "nobody could tell any more");
    assert_eq!(partition.commit(&says("a", 1, matched())), AskStep::Answer(Verified::Expired));
}

/// A registration is stopped by an operator's lock of its account, read afresh before each of its commits.
#[test]
fn v13_a_lock_of_the_account_stops_a_registration() {
    let mut partition = Partition::managed("open purpose=registration gaps=", "managed");
    let locked = Locked { until: Some(START.plus(HOUR)) };
    partition.commit(&ask("v", 1));
    partition.state.account_lock = Some(locked);
    let told = Verified::AccountLocked(locked);
    assert_eq!(partition.commit(&says("v", 1, matched())), AskStep::Answer(told.clone()), "no success under it");
    assert_eq!(partition.commit(&ask("v", 2)), VerifyStep::Answer(told));
    assert_eq!(partition.commit(&reserve("s", 3)), SendStep::Refused(Sent::AccountLocked(locked)));
    partition.state.account_lock = None;
    assert!(matches!(partition.commit(&ask("v", 4)), VerifyStep::Ask(_)));
    assert!(is_success(&partition.commit(&says("v", 4, matched()))));
}

/// Provider 1 failed, provider 2 is asked to deliver, the process dies before the settle.
#[test]
fn v15_the_provider_is_pinned_before_it_is_asked() {
    let mut partition = Partition::open("open");
    partition.commit(&reserve_via("s", 1, "opt1", "managed"));
    let next = NextProvider { token: token(1), plan: plan(&Words::parse("send via=managed2")).unwrap() };
    assert!(partition.commit(&next));
    assert!(partition.commit(&next), "and again, where that answer was lost");
    partition.seconds = 15;
    let step = partition.commit(&ask("v", 2));
    let VerifyStep::Ask(asked) = step else { panic!("{step:?}") };
    assert_eq!(asked.provider, "managed2");
    let step = partition.commit(&settle("s", 1, accepted()));
    let SettleStep::Answer(Sent::Success(dispatch)) = step else { panic!("{step:?}") };
    assert!(!dispatch.confirmed, "after its lease the send is unknown");
    assert!(!partition.commit(&next));
}

/// A gap shorter than the lease: generation 1 accepted; 2 in flight; 3 has to wait, so that the code before is known.
#[test]
fn v16_one_send_is_in_flight_so_that_the_code_before_is_one_that_arrived() {
    let mut partition = Partition::open("open gaps=1s sends=5");
    partition.commit(&reserve("s1", 1));
    partition.commit(&settle("s1", 1, accepted()));
    partition.seconds = 1;
    partition.commit(&reserve("s2", 2));
    partition.seconds = 2;
    let too_soon = SendStep::Refused(Sent::ResendTooSoon { next_send_at: START.plus(16 * SECOND) });
    assert_eq!(partition.commit(&reserve("s3", 3)), too_soon, "the later of gap and lease");
    assert_eq!(partition.commit(&settle("s2", 2, Settlement::Failed)), SettleStep::Refunded);
    assert!(matches!(partition.commit(&reserve("s3", 3)), SendStep::Reserved(_)));
    assert_eq!(partition.commit(&settle("s3", 3, Settlement::Failed)), SettleStep::Refunded);
    assert_eq!(partition.live(), 1, "the delivered code lives again");
    let right: Verify = verify("v", 4, Comparison::Matches);
    assert!(matches!(partition.commit(&right), VerifyStep::Answer(Verified::Success(_))));
}

/// Every answer that used something up is given again when it is decided over its own commit.
#[test]
fn a_lost_answer_is_given_again() {
    for comparison in [Comparison::Matches, Comparison::Differs] {
        let mut partition = Partition::open("open");
        partition.commit(&reserve("s", 1));
        let VerifyStep::Answer(told) = partition.commit(&verify("v", 1, comparison)) else { panic!("no answer") };
        let committed = partition.state.clone();
        assert_eq!(partition.commit(&verify("v", 1, comparison)), VerifyStep::Recorded(told));
        assert_eq!(partition.state, committed);
    }
    for settlement in [accepted(), Settlement::Unknown, Settlement::Rejected] {
        let mut partition = Partition::open("open");
        partition.commit(&reserve("s", 1));
        let told = partition.commit(&settle("s", 1, settlement.clone()));
        let committed = partition.state.clone();
        assert_eq!(partition.commit(&settle("s", 1, settlement)), told);
        assert_eq!(partition.state, committed);
    }
    for result in [
        matched(),
        AskResult::NotMatched { left: None },
        AskResult::Gone,
        AskResult::AttemptsExceeded,
        AskResult::Unknown,
    ] {
        let mut partition = Partition::managed("open", "managed");
        partition.commit(&ask("v", 1));
        let told = partition.commit(&says("v", 1, result.clone()));
        let committed = partition.state.clone();
        assert_eq!(partition.commit(&says("v", 1, result)), told);
        assert_eq!(partition.state, committed);
    }
}
