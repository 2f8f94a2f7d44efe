//! Odd input: times at either end, leases and lives of any length, policies that configuration refuses. Nothing panics, and every
//! record stays whole.

use std::{sync::Arc, time::Duration};

use otpd::domain::{
    lockout::{Lockout, Operation},
    outcome::{Evidence, Receipt},
    policy::LockPolicy,
    rules::{
        AskResult, Cancel, Command, Comparison, Decision, Expectation, NextProvider, QuotaState, ReserveSend,
        SettleAsk, SettleSend, Settlement, State, Verify, decide, view,
    },
    time::Timestamp,
};

use super::{
    fixture::{key, option_id, plan, state, token},
    language::Words,
};

const TIMES: [Timestamp; 4] =
    [Timestamp::from_millis(0), Timestamp::from_millis(1), Timestamp::from_millis(1_700_000_000_000), Timestamp::MAX];
const SPANS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(10), Duration::MAX];

fn policies() -> Vec<LockPolicy> {
    let of = |first_after, again_after, spans, for_good_after| LockPolicy {
        first_after,
        again_after,
        spans,
        for_good_after,
    };
    vec![
        LockPolicy::default(),
        of(0, 0, vec![], 0),
        of(1, 0, vec![], u32::MAX),
        of(u32::MAX, u32::MAX, vec![Duration::MAX], u32::MAX),
        of(1, 1, vec![Duration::ZERO], 2),
    ]
}

fn decided<C: Command>(state: &mut State, command: &C, now: Timestamp, policy: &LockPolicy) -> C::Outcome {
    let Decision { state: after, outcome } = decide(state, command, now, policy);
    if after.challenge != state.challenge {
        otpd::domain::invariants::check_change(&state.challenge, &after.challenge).expect("invariants");
    }
    assert!(after.lockout.kept_for(now) >= Duration::from_secs(400 * 86_400));
    let _ = (view(&after.challenge, now), after.challenge.is_forgotten(now));
    *state = after;
    outcome
}

/// A little of everything, at that time.
fn everything(state: &mut State, round: u32, now: Timestamp, span: Duration, policy: &LockPolicy) {
    let (send, attempt) = (format!("s{round}"), format!("v{round}"));
    let (send, attempt, token) = (key(&send, "SendOtp"), key(&attempt, "VerifyOtp"), token(round));
    let via = ["send via=managed", "send via=managed-once", "send"][usize::try_from(round).unwrap() % 3];
    let plan = plan(&Words::parse(via)).map(|plan| otpd::domain::rules::Plan { code_life: Some(span), ..plan });
    let (option, quotas) = (option_id("opt1"), QuotaState::Acquired);
    let reserve = ReserveSend {
        key: send,
        token,
        option,
        quotas,
        plan: plan.clone(),
        lease: span,
        can_call: true,
        resume_lease: Some(std::time::Duration::from_secs(15)),
    };
    decided(state, &reserve, now, policy);
    decided(state, &NextProvider { token, plan: plan.unwrap() }, now, policy);
    let accepted = Settlement::Accepted(Receipt {
        reference: String::new(),
        code_life: Some(span),
        code_length: Some(255),
        ..Receipt::default()
    });
    decided(state, &SettleSend { key: send, token, provider: "p".to_owned(), settlement: accepted }, now, policy);
    let comparison = match state.challenge.live_code().map(|code| code.provider.as_str()) {
        None => Comparison::NoCode,
        Some("console") => Comparison::Differs,
        Some(_) => Comparison::Ask { lease: span },
    };
    let expectation = Expectation::default();
    decided(state, &Verify { key: attempt, token, expectation, comparison }, now, policy);
    let results = [
        AskResult::Unknown,
        AskResult::NotMatched { left: None },
        AskResult::Gone,
        AskResult::Matched(Evidence::default()),
    ];
    let result = results[usize::try_from(round).unwrap() % 4].clone();
    decided(state, &SettleAsk { key: attempt, token, result }, now, policy);
}

#[test]
fn nothing_panics() {
    for policy in policies() {
        for span in SPANS {
            for (first, second) in TIMES.into_iter().flat_map(|one| TIMES.map(|other| (one, other))) {
                let mut state = state("open attempts=20 sends=10 gaps= resend=repeat", Lockout::default());
                for round in 0..8 {
                    let now = if round % 2 == 0 { first } else { second };
                    everything(&mut state, round, now, span, &policy);
                }
                Arc::make_mut(&mut state.lockout).operate(key("op", ""), Operation::Lock(Some(second)));
                decided(&mut state, &Cancel { key: key("c", "CancelChallenge") }, first, &policy);
                everything(&mut state, 99, second, span, &policy);
            }
        }
    }
}
