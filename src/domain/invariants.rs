//! What must be true of every record, whatever happened. Checked before each commit: a record that breaks one is not stored,
//! and the request fails without telling anything.

use super::challenge::{Answer, Challenge, Ended, MAX_EVENTS, MAX_OPTIONS, MAX_REFUNDS, MAX_RESUMES, Phase, Reply};

/// The name of a broken invariant.
pub type Broken = &'static str;

/// Checks a record by itself: the first invariant that does not hold is the error.
pub fn check(challenge: &Challenge) -> Result<(), Broken> {
    let limits = &challenge.limits;
    let matched = challenge.answers.iter().filter(|answer| matches!(answer.reply, Reply::Matched { .. })).count();
    let verified = challenge.phase == Phase::Ended(Ended::Verified);
    let most_sends = challenge.options.iter().map(|option| option.sends).max().unwrap_or(0);
    let refunds = challenge.refunded_sends.max(challenge.refunded_attempts);
    let known = challenge.options.iter().any(|option| option.target.known().is_some());
    let rules: [(Broken, bool); 12] = [
        ("attempts never exceed the maximum", challenge.attempts <= limits.max_verification_attempts),
        ("sends of an option never exceed the maximum", most_sends <= limits.max_send_attempts),
        ("at most ten sends and ten attempts are refunded", refunds <= MAX_REFUNDS),
        ("at most ten asks about unconfirmed sends", challenge.open().is_none_or(|open| open.resumes <= MAX_RESUMES)),
        ("a challenge is verified by exactly one answer", matched == usize::from(verified)),
        ("an ended challenge keeps no destination", !known || challenge.open().is_some()),
        ("answers are bounded", challenge.answers.len() <= max_answers(challenge)),
        ("uses of quotas are bounded", uses(challenge) <= challenge.sends()),
        ("options are bounded", (1..=MAX_OPTIONS).contains(&challenge.options.len())),
        ("the timeline is bounded", challenge.timeline.len() <= MAX_EVENTS),
        ("a code never outlives its challenge", code_fits(challenge)),
        ("a provider is asked about the live code", asks_about_live_code(challenge)),
    ];
    rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(name, _)| Err(name))
}

/// Checks a change: what can only ever go one way. Likewise.
pub fn check_change(before: &Challenge, after: &Challenge) -> Result<(), Broken> {
    let was_over = before.open().is_none();
    let refunded = after.refunded_attempts.saturating_sub(before.refunded_attempts);
    let rules: [(Broken, bool); 9] = [
        ("attempts decrease only by refunds", before.attempts <= after.attempts + refunded),
        ("one attempt at a time", after.attempts <= before.attempts + 1),
        ("numbers of sends never decrease", before.last_send <= after.last_send),
        ("numbers of asks never decrease", before.last_ask <= after.last_ask),
        ("an ended challenge stays ended as it was", !was_over || before.phase == after.phase),
        ("limits never change", before.limits == after.limits),
        ("what is proven never changes", same_matter(before, after)),
        ("a final answer stays", final_answers(before).all(|answer| after.answers.contains(answer))),
        ("time never runs backwards", before.latest_at <= after.latest_at),
    ];
    let broken = rules.iter().find(|(_, holds)| !holds).map(|(name, _)| *name);
    broken.map_or_else(|| check(after), Err)
}

/// Every recorded answer used up an attempt or a send.
fn max_answers(challenge: &Challenge) -> usize {
    usize::try_from(challenge.attempts + challenge.sends()).unwrap_or(usize::MAX)
}

fn uses(challenge: &Challenge) -> u32 {
    challenge.open().map_or(0, |open| u32::try_from(open.uses.len()).unwrap_or(u32::MAX))
}

fn code_fits(challenge: &Challenge) -> bool {
    challenge.live_code().is_none_or(|code| code.expires_at <= challenge.expires_at())
}

fn asks_about_live_code(challenge: &Challenge) -> bool {
    let live = challenge.live_code().map(|code| code.generation);
    challenge.asking().is_none_or(|asking| live == Some(asking.attempt.generation))
}

fn same_matter(before: &Challenge, after: &Challenge) -> bool {
    before.creation == after.creation
        && before.account == after.account
        && before.purpose == after.purpose
        && before.transaction == after.transaction
}

/// All but attempts and sends without an outcome: the same request may ask again.
fn final_answers(challenge: &Challenge) -> impl Iterator<Item = &Answer> {
    let is_open = |reply: &Reply| matches!(reply, Reply::Unknown(_) | Reply::Sent { confirmed: false, .. });
    challenge.answers.iter().filter(move |answer| !is_open(&answer.reply))
}
