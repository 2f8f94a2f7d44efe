//! How many trips to Redis follow one another in a call.
//!
//! A proxy in front of Redis holds every answer back for [`DELAY`] and lets requests pass at once. A call then takes that
//! long for each trip that waits for the one before it, and next to nothing besides; trips side by side count as one.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    caller::{Load, Step},
    redis_server::RedisServer,
    target::{Kind, Place, Target},
};

/// Much longer than everything else in a call, on a busy machine as well.
const DELAY: Duration = Duration::from_millis(40);
/// The fastest of so many calls counts.
const FLOWS: u64 = 10;
const ONE: Load = Load { connections: 1, in_flight: 1 };

/// Prints the trips of each call, on the replica that opened the challenge and on another one.
pub(crate) async fn print(redis: &RedisServer) {
    let mut proxies = JoinSet::new();
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let store = format!("redis://{}", proxy.local_addr().expect("its address"));
    proxies.spawn(accept(proxy, redis.tcp_url().trim_start_matches("redis://").to_owned()));
    let first = Target::start(Kind::Otpd, Place::RedisTcp, 90_000_000, &store, ONE).await;
    let second = Target::start(Kind::Otpd, Place::RedisTcp, 90_000_000, &store, ONE).await;
    let (mut first, mut second) = (first, second);
    // Scripts are loaded, and connections warm.
    for step in Step::ALL {
        first.run(step, 0..=0, ONE).await;
        second.run(step, 1..=1, ONE).await;
    }
    let (here, there) = (10..=9 + FLOWS, 10 + FLOWS..=9 + 2 * FLOWS);
    for step in [Step::Create, Step::Send] {
        println!("trips to redis of {}: {}", step.name(), trips(first.run(step, here.clone(), ONE).await.fastest()));
    }
    println!("trips to redis of VerifyOtp: {}", trips(first.run(Step::Verify, here, ONE).await.fastest()));
    first.run(Step::Create, there.clone(), ONE).await;
    first.run(Step::Send, there.clone(), ONE).await;
    second.adopt_codes(&first);
    let elsewhere = second.run(Step::Verify, there, ONE).await.fastest();
    println!("trips to redis of VerifyOtp on another replica: {}", trips(elsewhere));
    redis.cli(&["FLUSHDB"]);
}

fn trips(call: Duration) -> u128 {
    call.as_millis() / DELAY.as_millis()
}

async fn accept(listener: TcpListener, redis: String) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(&redis).await.expect("redis");
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        let (mut requests, answers) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        connections.spawn(async move { drop(copy(&mut requests, &mut to_server).await) });
        connections.spawn(hold_back(from_server, answers));
    }
}

/// Passes everything on, each piece as much later as every other.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn hold_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (pieces, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let piece = buffer.iter().take(length).copied().collect();
            if pieces.send((Instant::now() + DELAY, piece)).await.is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(reading, writing);
}
