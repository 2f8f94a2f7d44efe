//! Who is admitted beside whom, and who is shed.

use tokio::time::advance;

use super::*;
use crate::streams::limit::{ConnectionLimit, GivesWay};

fn connection() -> Arc<OpenConnection> {
    ConnectionLimit::new(1, GivesWay::Idle, None).admit(None).unwrap()
}

#[test]
fn without_a_permit_all_but_cancels_are_shed() {
    let (permits, connection) = (CallPermits::new(1), connection());
    let permit = permits.admit(Method::VerifyOtp, &connection, None).expect("a permit on an idle server");
    assert!(permits.admit(Method::VerifyOtp, &connection, None).is_err());
    assert!(permits.admit(Method::CancelChallenge, &connection, None).is_ok());
    let work_that_goes_on = Arc::clone(&permit);
    drop(permit);
    assert!(permits.admit(Method::VerifyOtp, &connection, None).is_err());
    drop(work_that_goes_on);
    assert!(permits.admit(Method::VerifyOtp, &connection, None).is_ok());
}

#[test]
fn one_alone_may_have_all_and_a_newcomer_is_served() {
    let (permits, sidecar, newcomer) = (CallPermits::new(100), connection(), connection());
    let admitted = |connection| permits.admit(Method::VerifyOtp, connection, None).ok();
    let mut taken: Vec<_> = std::iter::from_fn(|| admitted(&sidecar)).take(100).collect();
    assert_eq!(taken.len(), 100);
    let _first = admitted(&newcomer).expect("a permit of the reserve");
    // Not alone any longer, it leaves what is free to the newcomer.
    taken.truncate(90);
    let _rest: Vec<_> = (0..10).map(|_| admitted(&newcomer).expect("a free permit")).collect();
}

#[test]
fn however_many_want_all_one_with_few_calls_is_served() {
    for connections in [1, 2, 20, 50, 100] {
        let (permits, limit) = (CallPermits::new(100), ConnectionLimit::new(200, GivesWay::Idle, None));
        let greedy: Vec<_> = (0..connections).map(|_| limit.admit(None).unwrap()).collect();
        let few = limit.admit(None).unwrap();
        let open = greedy.iter().flat_map(|connection| (0..=RESERVE_CALLS).map(|_| connection.open_call()));
        let _open: Vec<_> = open.collect::<Option<_>>().unwrap();
        let mut taken = Vec::new();
        for answered in 0..1_000 {
            taken
                .extend(greedy.iter().filter_map(|connection| permits.admit(Method::VerifyOtp, connection, None).ok()));
            let at_work: Option<Vec<_>> = (0..12).map(|_| permits.admit(Method::VerifyOtp, &few, None).ok()).collect();
            assert!(at_work.is_some(), "{connections}: {answered}");
            if taken.len() > 90 {
                // They are answered in any order, and ask again.
                drop(taken.swap_remove(answered * 7 % taken.len()));
            }
        }
        assert!(taken.len() > 70, "{connections}: {}", taken.len());
    }
}

#[test]
fn two_calls_make_the_server_busy() {
    let (permits, connection) = (CallPermits::new(10), connection());
    let first = permits.admit(Method::VerifyOtp, &connection, None);
    assert!(!permits.is_busy());
    let second = permits.admit(Method::VerifyOtp, &connection, None);
    assert!(permits.is_busy());
    drop((first, second));
    assert!(!permits.is_busy());
}

/// A caller has one share, on however many connections.
#[test]
fn a_known_caller_with_many_connections_has_one_share() {
    let permits = CallPermits::new(100);
    let (greedy, quiet) = (CallerCalls::default(), CallerCalls::default());
    let connections: Vec<_> = (0..50).map(|_| connection()).collect();
    let _open: Vec<_> = (0..200).map(|_| greedy.opened()).collect();
    let mut taken = Vec::new();
    for round in 0..4 {
        let admitted = connections.iter().map(|connection| permits.admit(Method::VerifyOtp, connection, Some(&greedy)));
        taken.extend(admitted.flatten());
        let of_quiet = permits.admit(Method::VerifyOtp, &connections[0], Some(&quiet));
        assert!(of_quiet.is_ok(), "{round}");
        taken.extend(of_quiet);
    }
    let of_greedy = greedy.at_work.load(Ordering::Relaxed);
    assert!((70..=90).contains(&of_greedy), "{of_greedy}");
    drop(taken);
    assert!(permits.usage().iter().all(|pool| pool.in_use == 0));
}

/// As behind one proxy. Each has as many calls open as are asked for here.
#[test]
fn a_quiet_caller_is_served_on_the_connection_of_greedy_ones() {
    for greedy in [1, 5, 20] {
        let (permits, limit) = (CallPermits::new(100), ConnectionLimit::new(1, GivesWay::Idle, None));
        let shared = limit.admit(None).unwrap();
        let _calls: Vec<_> = (0..200).map(|_| shared.open_call().unwrap()).collect();
        let callers: Vec<_> = (0..greedy).map(|_| CallerCalls::default()).collect();
        let many = || callers.iter().cycle().take(200);
        let _open: Vec<_> = callers.iter().flat_map(|caller| (0..200).map(|_| caller.opened())).collect();
        let taken: Vec<_> =
            many().filter_map(|caller| permits.admit(Method::VerifyOtp, &shared, Some(caller)).ok()).collect();
        assert!((70..=100).contains(&taken.len()), "{greedy}: {}", taken.len());
        let quiet = CallerCalls::default();
        let of_quiet: Vec<_> = (0..12)
            .map(|_| (quiet.opened(), permits.admit(Method::VerifyOtp, &shared, Some(&quiet))))
            .filter(|(_, admitted)| admitted.is_ok())
            .collect();
        assert_eq!(of_quiet.len(), 12, "{greedy}");
    }
}

#[test]
fn a_caller_at_its_quota_is_shed_and_can_cancel() {
    let (permits, connection) = (CallPermits::new(100), connection());
    let (small, other) = (CallerCalls::at_most(Some(2)), CallerCalls::default());
    let admit = |method, caller| permits.admit(method, &connection, Some(caller));
    let taken: Vec<_> = (0..3).map(|_| admit(Method::VerifyOtp, &small)).collect();
    assert_eq!(taken.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(taken.last().and_then(|last| last.as_ref().err()), Some(&ShedCause::Caller));
    assert!(admit(Method::VerifyOtp, &other).is_ok());
    let cancels: Vec<_> = (0..3).map(|_| admit(Method::CancelChallenge, &small).is_ok()).collect();
    assert_eq!(cancels, [true; 3], "each ends before the next begins");
    let held: Vec<_> = (0..3).map(|_| admit(Method::CancelChallenge, &small)).collect();
    assert_eq!(held.iter().filter(|cancel| cancel.is_ok()).count(), 2);
    drop(taken);
    assert!(admit(Method::VerifyOtp, &small).is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_are_shed_once_all_have_waited_too_long_for_a_while() {
    let (permits, few, limit) = (CallPermits::new(1), connection(), ConnectionLimit::new(1, GivesWay::Idle, None));
    let many = limit.admit(None).unwrap();
    let _open: Vec<_> = (0..=FEW_CALLS).map(|_| many.open_call().unwrap()).collect();
    let is_shed = |waited| permits.is_too_late(waited, &many, None);
    // On the same connection.
    let (greedy, quiet) = (CallerCalls::default(), CallerCalls::default());
    let _of_greedy: Vec<_> = (0..=FEW_CALLS).map(|_| greedy.opened()).collect();
    let _of_quiet = quiet.opened();
    advance(LATE_AFTER).await;
    assert!(!is_shed(MAX_WAIT));
    advance(LATE_AFTER / 2).await;
    assert!(!is_shed(MAX_WAIT));
    // One that did not wait long: it was a burst.
    assert!(!is_shed(MAX_WAIT / 2));
    advance(LATE_AFTER / 2).await;
    assert!(!is_shed(MAX_WAIT));
    advance(LATE_AFTER).await;
    assert!(permits.is_too_late(MAX_WAIT, &many, Some(&greedy)));
    assert!(!permits.is_too_late(10 * MAX_WAIT, &many, Some(&quiet)));
    assert!(!many.takes_pause(), "others share it");
    assert!(is_shed(MAX_WAIT));
    assert!(many.takes_pause());
    assert!(!permits.is_too_late(10 * MAX_WAIT, &few, None));
    assert!(!is_shed(MAX_WAIT / 2));
    assert!(!is_shed(MAX_WAIT));
}
