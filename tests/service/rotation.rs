//! Keys rotate while replicas run, one after the other.

use otpd::{
    domain::{
        outcome::{Sent, Verified},
        quota::QuotaPolicy,
    },
    service::error::Error,
};

use crate::requests::{ACCOUNT, accepted, is_not_matched, is_success, of_account, wrong};
use crate::world::{KEY_1, KEY_2, Replica, World};

/// Two replicas; each step restarts one of them with another ring, and everything goes on.
#[tokio::test]
async fn nothing_is_lost_when_keys_rotate() {
    let world = World::new().policy(|policy| {
        policy.limits.resend_gaps.clear();
        policy.quotas.destination_sends =
            vec![otpd::domain::quota::Window { max: 12, per: std::time::Duration::from_secs(3600) }];
    });
    let with = |ring: &str| world.replica_of(ring, world.clock.clone());
    let added = format!("{KEY_1},{KEY_2}");
    let turned = format!("{KEY_2},{KEY_1}");
    // The old one keeps running beside the new one at each step.
    let steps = [(KEY_1, KEY_1), (KEY_1, &added), (&added, &added), (&added, &turned), (&turned, &turned)];
    let before = with(KEY_1);
    // Its send counts to the end: nobody verifies it.
    world.sent(&before, "unverified").await;
    let mut open = Vec::new();
    // One challenge per step, opened before anything rotates.
    for number in 0..steps.len() {
        let challenge = format!("c{number}");
        open.push((challenge.clone(), world.sent(&before, &challenge).await));
    }
    let mut failures = 0;
    for (step, (first, second)) in steps.into_iter().enumerate() {
        let pair: [Replica; 2] = [with(first), with(second)];
        let (challenge, code) = &open[step];
        for (index, replica) in pair.iter().enumerate() {
            // Each reads what the other has written.
            let answer = replica.verify(challenge, &format!("g{index}"), &wrong(code)).await;
            assert!(is_not_matched(&answer), "step {step}, {index}: {answer:?}");
            failures += 1;
            assert_eq!(replica.failures().await, failures, "step {step}, {index}");
        }
        // Opened by one, sent by the other, verified by the first.
        let fresh = format!("fresh-{step}");
        pair[0].open(&fresh).await;
        accepted(pair[1].send(&fresh, "s").await);
        let answer = pair[0].verify(&fresh, "v", &world.code()).await;
        assert!(is_success(&answer), "step {step}: {answer:?}");
        failures = 0;
        assert_eq!(pair[1].verify(&fresh, "v", &world.code()).await.unwrap(), answer.unwrap());
        let answer = pair[1].verify(challenge, "right", code).await;
        assert!(is_success(&answer), "step {step}: {answer:?}");
    }
    // All that was verified is refunded, whatever key its challenge was sealed with. What was not is found under the same name.
    world.uses_become(2).await;
    let last = with(&turned);
    for number in 0..12 {
        let challenge = format!("quota-{number}");
        last.open(&challenge).await;
        let sent = last.send(&challenge, "s").await.unwrap();
        assert_eq!(matches!(sent, Sent::Success(_)), number < 11, "{number}: {sent:?}");
    }
}

#[tokio::test]
async fn a_lock_outlives_a_rotation() {
    let world = World::new().policy(|policy| policy.quotas = QuotaPolicy::default());
    let old = world.replica_of(KEY_1, world.clock.clone());
    for challenge in ["c", "d"] {
        let code = world.sent(&old, challenge).await;
        for guess in 0..5 {
            assert!(is_not_matched(&old.verify(challenge, &format!("g{guess}"), &wrong(&code)).await));
        }
    }
    let code = world.code();
    let new = world.replica_of(&format!("{KEY_2},{KEY_1}"), world.clock.clone());
    assert!(new.account(ACCOUNT).await.locked.is_some());
    assert!(matches!(new.verify("d", "v", &code).await, Ok(Verified::AccountLocked(_))));
}

/// The new key was made first before all replicas had it: those without it refuse, and tell nothing.
#[tokio::test]
async fn a_missing_key_fails_closed() {
    let world = World::new();
    let new = world.replica_of(&format!("{KEY_2},{KEY_1}"), world.clock.clone());
    let old = world.replica_of(KEY_1, world.clock.clone());
    let code = world.sent(&new, "c").await;
    for otp in [code.clone(), wrong(&code)] {
        let answer = old.verify("c", &format!("v-{otp}"), &otp).await;
        assert!(matches!(answer, Err(Error::Internal(_))), "{answer:?}");
    }
    assert!(matches!(old.send("c", "s").await, Err(Error::Internal(_))));
    assert!(is_success(&new.verify("c", "v", &code).await));
    // Nor does it see a lockout that was sealed with the new key.
    let code = world.sent(&new, "d").await;
    assert!(is_not_matched(&new.verify("d", "v", &wrong(&code)).await));
    let account = old.otp.get_account(crate::requests::caller("g"), of_account(ACCOUNT)).await;
    assert!(matches!(account, Err(Error::Internal(_))), "{account:?}");
}
