//! Two servers on a master that sentinels look after: what 200 people at once are told while another one is promoted.

use std::time::Duration;

use tokio::task::block_in_place;

use crate::{
    crowd::Crowd,
    redis_sentinel::{Passwords, SentinelSet},
    redis_server::Program,
    site::Site,
};

/// As on a cluster.
const BACK_WITHIN: Duration = Duration::from_secs(15);
const REPLICATION: Duration = Duration::from_secs(1);

/// The master is killed, whose replicas have not had the last moment, and another one promoted; then that one hangs, and the third is. Both come to again as masters, and are
/// made replicas after ten seconds.
async fn through_two_failovers(program: Program, passwords: Passwords, is_confirmed: bool, seed: u64) {
    let set = block_in_place(|| SentinelSet::start_with(program, 2, passwords, &[]));
    let site = Crowd::settings(Site::at(&set.url()));
    let site = passwords
        .sentinels
        .into_iter()
        .fold(site, |site, password| site.with("OTPD__STORE__SENTINEL_PASSWORD", password));
    let site = if is_confirmed { site.with("OTPD__STORE__WAIT_REPLICAS", "1") } else { site };
    let servers = [site.start(), site.start()];
    let crowd = Crowd::start(site, &servers, seed).await;
    let mut moments = Vec::new();
    for is_killed in [true, false] {
        let from = crowd.now().saturating_sub(REPLICATION);
        if is_killed {
            let master = set.master().unwrap();
            block_in_place(|| set.server(master).cut_replication());
            crowd.wait_busy().await;
        }
        let old = if is_killed { set.kill_master() } else { set.pause_master() };
        block_in_place(|| set.wait_failover(old));
        let since = crowd.now();
        let took = crowd.wait_quiet(since).await;
        println!("killed {is_killed}: service was back {took:?} after the new master was named");
        assert!(took < BACK_WITHIN, "service was back only {took:?} later");
        moments.push(from..since + took);
        if is_killed {
            set.restart(old);
        } else {
            set.resume(old);
        }
        block_in_place(|| set.wait_whole());
        crowd.wait_busy().await;
    }
    let moments = if is_confirmed { Vec::new() } else { moments };
    let verdict = crowd.judge(&moments).await;
    assert_eq!(verdict.lost.is_empty(), is_confirmed, "of {} challenges", verdict.visits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_last_moment_is_lost() {
    let passwords = Passwords { servers: Some("open"), sentinels: Some("sesame") };
    through_two_failovers(Program::Redis, passwords, false, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_that_replicas_confirm() {
    through_two_failovers(Program::Redis, Passwords::default(), true, 5).await;
}
