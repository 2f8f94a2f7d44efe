//! A line to a Redis on which the time that it tells can be changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use otpd::ports::clock::{Clock, SystemClock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A text of ten digits, as Redis sends it: the seconds since the epoch until the year 2286.
const BEGIN: &[u8] = b"$10\r\n";
const LENGTH: usize = 17;

/// The line. It is cut when this is dropped.
pub(crate) struct Line {
    pub(crate) url: String,
    ahead: Arc<AtomicI64>,
    _serving: JoinSet<()>,
}

impl Line {
    /// Leads to the server of that port.
    pub(crate) async fn to(redis: &str) -> Self {
        let redis = redis.strip_prefix("redis://").expect("an address").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let ahead = Arc::new(AtomicI64::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, redis, Arc::clone(&ahead)));
        Self { url, ahead, _serving: serving }
    }

    /// From now on the server tells a time that is so many seconds later: whoever asks is that much behind.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::SeqCst);
    }
}

async fn serve(listener: TcpListener, redis: String, ahead: Arc<AtomicI64>) {
    let mut lines = JoinSet::new();
    while let Ok((caller, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&redis).await else { continue };
        let ((mut from_caller, mut to_caller), (mut from_server, mut to_server)) =
            (caller.into_split(), server.into_split());
        lines.spawn(async move { drop(tokio::io::copy(&mut from_caller, &mut to_server).await) });
        let ahead = Arc::clone(&ahead);
        lines.spawn(async move {
            let (mut waiting, mut buffer) = (Vec::new(), vec![0; 65_536]);
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                waiting.extend_from_slice(&buffer[..read]);
                let ready = change(&mut waiting, ahead.load(Ordering::SeqCst));
                if to_caller.write_all(&waiting[..ready]).await.is_err() {
                    return;
                }
                waiting.drain(..ready);
            }
        });
    }
}

/// Changes the times that are whole. How many bytes may go on: what could be the beginning of a time waits for its rest.
fn change(bytes: &mut [u8], ahead: i64) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.len() < BEGIN.len() && BEGIN.starts_with(rest) {
            return at;
        }
        if rest.starts_with(BEGIN) {
            let Some(whole) = rest.get(..LENGTH) else { return at };
            let digits = whole.get(BEGIN.len()..LENGTH - 2).and_then(|text| std::str::from_utf8(text).ok());
            let told: Option<i64> = digits.and_then(|digits| digits.parse().ok());
            let now = i64::try_from(SystemClock.now().as_millis() / 1_000).unwrap();
            let is_time = |told: &i64| told.abs_diff(now) < Duration::from_secs(3_600).as_secs();
            if let Some(told) = told.filter(is_time) {
                bytes[at + BEGIN.len()..at + LENGTH - 2].copy_from_slice(format!("{:010}", told + ahead).as_bytes());
            }
            at += LENGTH;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

#[test]
fn times_are_changed_wherever_they_are_cut() {
    let now = SystemClock.now().as_millis() / 1_000;
    let answer = format!("+OK\r\n*2\r\n$10\r\n{now}\r\n$6\r\n123456\r\n$10\r\n0123456789\r\n");
    let expected = answer.replace(&now.to_string(), &(now + 7_200).to_string());
    for cut in 0..answer.len() {
        let mut bytes = answer.as_bytes()[..cut].to_vec();
        let ready = change(&mut bytes, 7_200);
        let mut told = bytes[..ready].to_vec();
        bytes.drain(..ready);
        bytes.extend_from_slice(&answer.as_bytes()[cut..]);
        let ready = change(&mut bytes, 7_200);
        told.extend_from_slice(&bytes[..ready]);
        assert_eq!(String::from_utf8(told).unwrap(), expected, "{cut}");
    }
}
