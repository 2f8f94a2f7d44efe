//! Tests of `streams::limit`.

use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_longest_silent_gives_way() {
    let limit = ConnectionLimit::new(2, GivesWay::Silent, None);
    let first = limit.admit(None).unwrap();
    advance(SECOND).await;
    let second = limit.admit(None).unwrap();
    advance(SECOND).await;
    first.mark_heard();
    let third = limit.admit(None).unwrap();
    assert!(second.is_closing() && !first.is_closing());
    // The one that gave way has no permit left to give back.
    second.end();
    assert_eq!(limit.0.permits.available_permits(), 0);
    third.end();
    assert_eq!(limit.0.permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_never_made_a_call_gives_way_first_and_then_the_longest_idle() {
    let limit = ConnectionLimit::new(4, GivesWay::Idle, None);
    let [idle, recent, silent, working] = [(); 4].map(|()| limit.admit(None).unwrap());
    drop((idle.open_call(), working.open_call()));
    let work = working.work();
    advance(SECOND).await;
    drop(recent.open_call());
    // What is said without a call is no use.
    idle.mark_heard();
    let is_closing = || [&idle, &recent, &silent, &working].map(|connection| connection.is_closing());
    let first = limit.admit(None).unwrap();
    drop(first.open_call());
    let _first = first.work();
    assert_eq!(is_closing(), [false, false, true, false]);
    let second = limit.admit(None).unwrap();
    let _second = second.work();
    assert_eq!(is_closing(), [true, false, true, false]);
    let third = limit.admit(None).unwrap();
    let _third = third.work();
    assert_eq!(is_closing(), [true, true, true, false]);
    assert!(limit.admit(None).is_none());
    drop(work);
    assert!(limit.admit(None).is_some());
    assert!(working.is_closing());
}

#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_connections_makes_room() {
    let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
    let limit = ConnectionLimit::new(4, GivesWay::Idle, None);
    let alone = limit.admit(address(1)).unwrap();
    drop(alone.open_call());
    advance(SECOND).await;
    let crowd = [(); 3].map(|()| limit.admit(address(2)).unwrap());
    for connection in &crowd {
        drop(connection.open_call());
    }
    let newcomer = limit.admit(address(3)).unwrap();
    assert!(!alone.is_closing() && !newcomer.is_closing());
    assert_eq!(crowd.iter().filter(|connection| connection.is_closing()).count(), 1);
}

#[test]
fn a_full_listener_makes_room_for_many() {
    let limit = ConnectionLimit::new(4 * AT_ONCE, GivesWay::Idle, None);
    let open: Vec<_> = (0..4 * AT_ONCE).map(|_| limit.admit(None).unwrap()).collect();
    let _newcomer = limit.admit(None).unwrap();
    assert_eq!(open.iter().filter(|connection| connection.is_closing()).count(), 4);
    assert_eq!(limit.0.permits.available_permits(), 3);
}

#[test]
fn connections_that_are_gone_are_forgotten() {
    let limit = ConnectionLimit::new(2, GivesWay::Idle, None);
    for _ in 0..100 {
        limit.admit(None).unwrap().end();
    }
    assert!(lock(&limit.0.open).len() <= 4);
}

#[test]
fn streams_that_stay_open_are_counted() {
    let connection = ConnectionLimit::new(1, GivesWay::Idle, None).admit(None).unwrap();
    let first = connection.stream(1);
    assert!(first.is_some() && connection.stream(1).is_none());
    drop(first);
    assert!(connection.stream(1).is_some());
}

#[test]
fn open_calls_are_bounded_and_each_connection_finds_room() {
    let limit = ConnectionLimit::new(200, GivesWay::Idle, None);
    let alone = limit.admit(None).unwrap();
    assert_eq!(std::iter::repeat_with(|| alone.open_call()).take(1024).flatten().count(), 1024);
    alone.note_flushed();
    let crowd: Vec<_> = (0..100).map(|_| limit.admit(None).unwrap()).collect();
    let mut open = Vec::new();
    for _ in 0..200 {
        open.extend(crowd.iter().filter_map(OpenConnection::open_call));
    }
    assert!((MAX_CALLS / 2..MAX_CALLS).contains(&open.len()), "{}", open.len());
    assert!(alone.open_call().is_some());
    drop(open);
    for connection in crowd.iter().chain([&alone]) {
        connection.note_flushed();
    }
    assert_eq!(limit.0.calls.load(Ordering::Relaxed), 0);
}
