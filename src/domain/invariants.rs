//! What must be true of every record, whatever happened. Checked before each write: a record that breaks one is not
//! stored, and the request fails without telling anything.

use super::challenge::{Answer, Challenge, Ended, MAX_EVENTS, MAX_GIVEN_BACK, MAX_OPTIONS, Phase, Reply, Target};

/// The name of a broken invariant.
pub type Broken = &'static str;

/// Checks a record by itself.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(challenge: &Challenge) -> Result<(), Broken> {
    let limits = &challenge.limits;
    let matched = challenge.answers.iter().filter(|answer| matches!(answer.reply, Reply::Matched { .. })).count();
    let verified = matches!(challenge.phase, Phase::Ended(Ended::Verified { .. }));
    let sends: u32 = challenge.options.iter().map(|option| option.sends).sum();
    let known = challenge.options.iter().any(|option| matches!(option.target, Target::Known(_)));
    let rules: [(Broken, bool); 11] = [
        ("attempts never exceed the maximum", challenge.attempts <= limits.max_verification_attempts),
        ("sends of an option never exceed the maximum", max_sends(challenge) <= limits.max_send_attempts),
        ("sends add up over the options", sends == challenge.sends_spent),
        ("at most ten sends are given back", challenge.given_back <= MAX_GIVEN_BACK),
        ("a challenge is verified by exactly one answer", matched == usize::from(verified)),
        ("an ended challenge keeps no destination", !known || matches!(challenge.phase, Phase::Open(_))),
        ("answers are bounded", challenge.answers.len() <= max_answers(challenge)),
        ("options are bounded", (1..=MAX_OPTIONS).contains(&challenge.options.len())),
        ("the timeline is bounded", challenge.timeline.len() <= MAX_EVENTS),
        ("a code never outlives its challenge", code_fits(challenge)),
        ("a provider is asked about the live code", asks_about_live_code(challenge)),
    ];
    rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(name, _)| Err(name))
}

/// Checks a change: what can only ever go one way.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check_change(before: &Challenge, after: &Challenge) -> Result<(), Broken> {
    let was_over = matches!(before.phase, Phase::Ended(_));
    let rules: [(Broken, bool); 8] = [
        ("attempts never decrease", before.attempts <= after.attempts),
        ("one attempt at a time", after.attempts - before.attempts.min(after.attempts) <= 1),
        ("send numbers never decrease", before.send_number <= after.send_number),
        ("an ended challenge stays ended as it was", !was_over || before.phase == after.phase),
        ("limits never change", before.limits == after.limits),
        ("what is proven never changes", same_matter(before, after)),
        ("a final answer stays", final_answers(before).all(|answer| after.answers.contains(answer))),
        ("time never runs backwards", before.latest_at <= after.latest_at),
    ];
    let broken = rules.iter().find(|(_, holds)| !holds).map(|(name, _)| *name);
    broken.map_or_else(|| check(after), Err)
}

fn max_sends(challenge: &Challenge) -> u32 {
    challenge.options.iter().map(|option| option.sends).max().unwrap_or(0)
}

/// Every recorded answer used up an attempt or a send.
fn max_answers(challenge: &Challenge) -> usize {
    usize::try_from(challenge.attempts + challenge.sends_spent).unwrap_or(usize::MAX)
}

fn code_fits(challenge: &Challenge) -> bool {
    challenge.live_code().is_none_or(|code| code.expires_at <= challenge.expires_at())
}

fn asks_about_live_code(challenge: &Challenge) -> bool {
    let Phase::Open(open) = &challenge.phase else { return true };
    let live = open.code.as_ref().map(|code| code.send_number);
    open.pending_check.as_ref().is_none_or(|check| live == Some(check.send_number))
}

fn same_matter(before: &Challenge, after: &Challenge) -> bool {
    before.creation == after.creation
        && before.account == after.account
        && before.purpose == after.purpose
        && before.transaction == after.transaction
}

/// All but those of providers that did not answer, or failed: the same request asks again.
fn final_answers(challenge: &Challenge) -> impl Iterator<Item = &Answer> {
    let is_final = |reply: &Reply| !matches!(reply, Reply::CheckUnanswered { .. } | Reply::SendFailed { .. });
    challenge.answers.iter().filter(move |answer| is_final(&answer.reply))
}
