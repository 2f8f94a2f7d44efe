//! Memory allocations per call: otpd and the bare server on Redis, each on one thread that counts.
//!
//! `cargo bench --bench allocations`. Number and kind of allocator do not matter for the count, the path of the call does.
//! What the threads for log and console allocate is not counted.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::print_stdout, reason = "the measurements are the output")]

use std::{future::Future, net::Ipv4Addr, path::Path, sync::Arc, thread};

use otpd::{
    app::App,
    config::{Config, Source},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
};

#[path = "flow/bare.rs"]
#[expect(dead_code, reason = "no process of its own is started here")]
mod bare;
#[path = "flow/caller.rs"]
#[expect(dead_code, reason = "no time is measured here")]
mod caller;
#[path = "../tests/support/redis.rs"]
mod redis_server;

use caller::{Codes, Step};
use redis_server::RedisServer;

const FLOWS: u64 = 500;

fn main() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let messages = folder.path().join("messages");
    let config = otpd_config(&redis.url(), &messages);
    let mut rows = count("otpd", &messages, move |address| async move {
        let app = App::start(&config).await.expect("otpd starts");
        address.send(app.grpc_address().to_string()).expect("somebody waits");
        app.run_until(std::future::pending()).await.expect("otpd serves");
    });
    let store = redis.url();
    rows.extend(count("bare", &messages, move |address| async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        address.send(listener.local_addr().expect("its address").to_string()).expect("somebody waits");
        bare::serve(listener, &store).await;
    }));
    // After all that the console provider has printed.
    println!("\n| Server | Call | Allocations | Bytes |\n| --- | --- | ---: | ---: |\n{}", rows.join("\n"));
}

fn otpd_config(store: &str, messages: &Path) -> Config {
    let messages = messages.display().to_string();
    let environment = [
        ("OTPD__SERVER__LISTEN", "127.0.0.1:0"),
        ("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0"),
        ("OTPD__STORE__URL", store),
        ("OTPD__PROVIDERS__CONSOLE__FILE", &messages),
        ("OTPD_MASTER_KEYS", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Config::load(&Source { file: None, environment }).expect("a configuration")
}

/// Runs a server on a thread of its own, makes the flows, and tells what each step allocated there.
fn count<S: Future<Output = ()> + 'static>(
    name: &str,
    messages: &Path,
    serve: impl FnOnce(oneshot::Sender<String>) -> S + Send + 'static,
) -> Vec<String> {
    let mut rows = Vec::new();
    let (address, listening) = oneshot::channel();
    let (begin, mut steps) = mpsc::channel::<oneshot::Receiver<()>>(1);
    let (counted, mut counts) = mpsc::channel(1);
    thread::spawn(move || {
        let runtime = single();
        let tasks = tokio::task::LocalSet::new();
        tasks.spawn_local(serve(address));
        // The server only runs while something is waited for: between the steps it stands still.
        while let Some(ended) = tasks.block_on(&runtime, steps.recv()) {
            let info = allocation_counter::measure(|| drop(tasks.block_on(&runtime, ended)));
            counted.blocking_send((info.count_total, info.bytes_total)).expect("somebody waits");
        }
    });
    single().block_on(async {
        let url = format!("http://{}", listening.await.expect("the server listens"));
        let clients = caller::connect(&url, 1).await;
        let mut codes = Arc::default();
        let flows = |first| first..=first + FLOWS - 1;
        // The first pass fills pools and caches; the second is told.
        for first in [1, FLOWS + 1] {
            for step in Step::ALL {
                let (end, ended) = oneshot::channel();
                begin.send(ended).await.expect("the server runs");
                caller::walk(&clients, 1, step, flows(first), &codes).await;
                end.send(()).expect("the server runs");
                let (count, bytes) = counts.recv().await.expect("a count");
                if step == Step::Send {
                    codes = Arc::new(read_codes(messages));
                }
                if first > 1 {
                    rows.push(format!("| {name} | {} | {} | {} |", step.name(), count / FLOWS, bytes / FLOWS));
                }
            }
        }
    });
    rows
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The codes that the console provider has written.
fn read_codes(messages: &Path) -> Codes {
    let text = std::fs::read_to_string(messages).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a message"));
    let field =
        |line: &serde_json::Value, name: &str| line.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    lines.filter_map(|line| Some((field(&line, "destination")?, field(&line, "code")?))).collect()
}
