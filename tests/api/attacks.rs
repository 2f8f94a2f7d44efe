//! Attacks by raw HTTP/2, beside a good caller on a connection of its own: none of its calls fails, and the server's memory
//! stays near that of an idle one, and comes back to it.
//!
//! Each attack takes a second, or as long as the good caller needs for its calls. `OTPD_ATTACK_SECONDS` lengthens them, `OTPD_ATTACK` names the one to run; `OTPD_ATTACK_STREAMS`
//! makes them harder, for a release build.

use std::{
    env,
    fs::read_to_string,
    str::FromStr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use otpd::{
    grpc::proto::GetChallengeRequest,
    ports::clock::{Deadline, Stopwatch},
};
use prost::Message;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Status;

use crate::{
    caller::{Caller, header, verify},
    raw_http2::{
        CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, Window, call,
        connect, frame, header as one_header, header_block, headers, message,
    },
    site::{Server, Site, until},
};

const MIB: u64 = 1024 * 1024;
const VERIFY: &str = "/otp.v1.OtpService/VerifyOtp";
const GET: &str = "/otp.v1.OtpService/GetChallenge";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// Streams that a client opens in a round; the server allows 1024 at once. Few, for a server without optimization on a busy
/// machine; `OTPD_ATTACK_STREAMS` makes them more.
static STREAMS: LazyLock<u32> = LazyLock::new(|| number("OTPD_ATTACK_STREAMS").unwrap_or(10));

fn number<T: FromStr>(variable: &str) -> Option<T> {
    text(variable)?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "how hard to attack is no setting of otpd")]
fn text(variable: &str) -> Option<String> {
    env::var(variable).ok()
}

/// What a client does that means no good.
struct Attack {
    name: &'static str,
    connections: usize,
    window: Window,
    /// Whether it reads what it is answered.
    reads: bool,
    /// The frames of a round, which begins with this stream. Rounds follow one another until the connection is closed.
    round: fn(u32) -> Vec<u8>,
}

fn attack(name: &'static str, connections: usize, round: fn(u32) -> Vec<u8>) -> Attack {
    Attack { name, connections, window: Window::Largest, reads: false, round }
}

fn streams(first: u32) -> impl Iterator<Item = u32> {
    (0..*STREAMS).map(move |number| first + 2 * number)
}

fn described() -> Vec<u8> {
    GetChallengeRequest { request_header: header("get"), authenticate_request_id: "nothing".into() }.encode_to_vec()
}

fn attacks() -> Vec<Attack> {
    // ServerReflectionRequest { file_containing_symbol: "otp.v1.OtpService" }
    let reflection = |first| {
        let asked = message(&[&[0x22, 0x11], &b"otp.v1.OtpService"[..]].concat()).repeat(200);
        let opened = |stream| [headers(stream, REFLECTION), frame(DATA, 0, stream, &asked)].concat();
        streams(first).take(20).flat_map(opened).collect()
    };
    let watch = |first| streams(first).flat_map(|stream| call(stream, WATCH, b"")).collect();
    let check = |first| streams(first).flat_map(|stream| call(stream, CHECK, b"")).collect();
    let silent = |first| streams(first).flat_map(|stream| headers(stream, VERIFY)).collect();
    let slow = |first| {
        let part = message(&vec![7; 60_000])[..8_000].to_vec();
        streams(first).flat_map(|stream| [headers(stream, VERIFY), frame(DATA, 0, stream, &part)].concat()).collect()
    };
    let calls = |first| streams(first).flat_map(|stream| call(stream, GET, &described())).collect();
    let resets = |first| {
        let reset = |stream| [call(stream, GET, &described()), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
        streams(first).flat_map(reset).collect()
    };
    let wide = |first| {
        let many: Vec<u8> = (0..200).flat_map(|number| one_header(&format!("x-{number}"), &"v".repeat(100))).collect();
        let block = [header_block(VERIFY), many].concat();
        let (begun, rest) = block.split_at(16_000);
        [frame(HEADERS, 0, first, begun), frame(CONTINUATION, END_HEADERS, first, rest)].concat()
    };
    let endless = |first| {
        let more = frame(CONTINUATION, 0, first, &one_header("x-more", "value")).repeat(200);
        [frame(HEADERS, 0, first, &header_block(VERIFY)), more].concat()
    };
    let empty = |first| [headers(first, VERIFY), frame(DATA, 0, first, b"").repeat(1_000)].concat();
    let opened = |first| {
        let update = frame(WINDOW_UPDATE, 0, first, &[0, 0, 0, 1]).repeat(1_000);
        [headers(first, VERIFY), update].concat()
    };
    let priority = |first: u32| frame(PRIORITY, 0, first, &[0, 0, 0, 0, 16]).repeat(1_000);
    let connect_only = |_| Vec::new();
    vec![
        attack("reflection that is not read", 20, reflection),
        attack("watches", 100, watch),
        Attack { window: Window::Closed, ..attack("checks without a window", 50, check) },
        attack("checks that are not read", 50, check),
        Attack { reads: true, ..attack("headers without a message", 5, silent) },
        attack("headers without a message, on many connections", 100, silent),
        attack("messages that never end", 50, slow),
        attack("answers that are not read", 10, calls),
        Attack { window: Window::Closed, ..attack("answers without a window", 10, calls) },
        attack("resets", 10, resets),
        attack("pings", 20, |_| frame(PING, 0, 0, &[7; 8]).repeat(1_000)),
        attack("settings", 20, |_| frame(SETTINGS, 0, 0, b"").repeat(1_000)),
        attack("window updates", 10, opened),
        attack("empty data", 10, empty),
        attack("priorities", 10, priority),
        attack("long lists of headers", 20, wide),
        attack("headers without an end", 20, endless),
        attack("connections that say nothing more", 1_000, connect_only),
    ]
}

impl Attack {
    /// Attacks until told to stop, on a new connection whenever one is closed.
    async fn run(self: Arc<Self>, address: String, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(stream) = connect(&address, self.window).await {
                self.rounds(stream, &stop).await;
            }
            // However soon it is closed, the attack is one of calls and not of connects.
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn rounds(&self, stream: TcpStream, stop: &AtomicBool) {
        let (reading, mut writing) = stream.into_split();
        let mut buffer = vec![0; 65_536];
        let mut first = 1;
        while !stop.load(Ordering::Relaxed) && first < 1 << 30 {
            let frames = (self.round)(first);
            first += 2 * *STREAMS;
            // Where the server does not read any longer, the attacker waits.
            let written = timeout(Duration::from_millis(500), writing.write_all(&frames));
            if written.await.is_ok_and(|written| written.is_err()) {
                return;
            }
            if self.reads {
                while matches!(reading.try_read(&mut buffer), Ok(read) if read > 0) {}
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn memory(server: &Server) -> u64 {
    let status = read_to_string(format!("/proc/{}/status", server.id())).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Callers of one connection, each of which waits for its answer before it calls again.
const GOOD_CALLERS: usize = 4;
/// So many calls of each are made in every attack, however slow the machine.
const GOOD_CALLS: usize = 10;

/// Calls until told to stop, and tells how many calls there were, and what failed.
fn good_caller(address: String, stop: Arc<AtomicBool>) -> thread::JoinHandle<(usize, Vec<String>)> {
    // A machine of its own, as near as may be: what the attackers cost here is not the server's lateness.
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let caller = Caller::at(&address).await;
            let callers = (0..GOOD_CALLERS).map(|number| good_calls(caller.clone(), number, Arc::clone(&stop)));
            let told: Vec<_> = callers.collect::<JoinSet<_>>().join_all().await.into_iter().flatten().collect();
            (told.len(), told.into_iter().filter_map(Result::err).collect())
        })
    })
}

async fn good_calls(caller: Caller, number: usize, stop: Arc<AtomicBool>) -> Vec<Result<(), String>> {
    let mut told = Vec::new();
    while told.len() < GOOD_CALLS || !stop.load(Ordering::Relaxed) {
        let watch = Stopwatch::start();
        let answer = caller.verify(verify(&format!("v{number}-{}", told.len()), "c", "123456")).await;
        let failed = |status: Status| format!("{:?} after {:?}: {}", status.code(), watch.elapsed(), status.message());
        told.push(answer.map(drop).map_err(failed));
        // Not all the time: there are others on this machine.
        sleep(Duration::from_millis(20)).await;
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_caller_is_served_and_memory_is_bounded() {
    let span = number("OTPD_ATTACK_SECONDS").unwrap_or(1);
    let chosen = text("OTPD_ATTACK");
    // A slow machine takes its time.
    let site = Site::embedded().with("OTPD__SERVER__REQUEST_TIMEOUT", "60s");
    let mut server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "person", "+14155550199").await;
    let idle = memory(&server);
    for attack in attacks().into_iter().filter(|attack| chosen.as_ref().is_none_or(|name| name == attack.name)) {
        let (name, connections, attack) = (attack.name, attack.connections, Arc::new(attack));
        let (stop, stop_calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let good = good_caller(server.grpc.clone(), Arc::clone(&stop_calls));
        let mut attackers = JoinSet::new();
        for _ in 0..connections {
            attackers.spawn(Arc::clone(&attack).run(server.grpc.clone(), Arc::clone(&stop)));
        }
        let (end, mut most) = (Deadline::after(Duration::from_secs(span)), 0);
        while !good.is_finished() {
            stop_calls.store(end.remaining().is_zero(), Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
            most = most.max(memory(&server));
        }
        let (calls, failed) = good.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        attackers.join_all().await;
        let more = most.saturating_sub(idle) / MIB;
        println!("{name}: {calls} good calls, {} failed, {more} MiB more than idle", failed.len());
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert!(most < idle + 100 * MIB, "{name}: {more} MiB more than idle");
        until(name, async || memory(&server) < idle + 60 * MIB).await;
    }
    assert!(server.is_alive());
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// A connection whose caller reads nothing, or opens no window, is closed.
#[tokio::test]
async fn whoever_does_not_read_is_closed() {
    let site = Site::embedded();
    let server = site.start();
    let mut unread = connect(&server.grpc, Window::Largest).await.unwrap();
    // Pings are answered; these answers fill all buffers in between.
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(4_000);
    let mut stuck = false;
    for _ in 0..2_000 {
        if timeout(Duration::from_secs(1), unread.write_all(&pings)).await.is_err() {
            stuck = true;
            break;
        }
    }
    assert!(stuck, "answers are gathered without bound");
    let is_closed = async || {
        let written = timeout(Duration::from_millis(100), unread.write_all(&pings)).await;
        written.is_ok_and(|written| written.is_err())
    };
    until("closed", is_closed).await;
}
