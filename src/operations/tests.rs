//! Tests of `operations`.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::readiness::Unready;

async fn get_path(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: otpd\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    format!("{status} {body}").trim().to_owned()
}

#[tokio::test]
async fn probes_tell_the_state() {
    let (state, followed) = watch::channel(ServingState::unready([Unready::Starting]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let served = TaskTracker::new().spawn(serve(
        listener,
        router(followed, Arc::default()),
        Arc::<Metrics>::default(),
        stop.clone(),
    ));

    assert_eq!(get_path(port, "/livez").await, "200 alive");
    assert_eq!(get_path(port, "/readyz").await, "503 starting");
    state.send_replace(ServingState::default());
    assert_eq!(get_path(port, "/readyz").await, "200 serving");
    state.send_replace(ServingState::unready([Unready::Keys, Unready::Store, Unready::Clock]));
    assert_eq!(get_path(port, "/readyz").await, "503 store\nclock\nkeys");
    state.send_replace(ServingState::unready([Unready::Draining]));
    assert_eq!(get_path(port, "/readyz").await, "503 draining");
    assert!(get_path(port, "/metrics").await.starts_with("200 # "));
    assert_eq!(get_path(port, "/").await, "404");

    stop.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_probe_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_state, followed) = watch::channel(ServingState::default());
    let stop = CancellationToken::new();
    let served = TaskTracker::new().spawn(serve(
        listener,
        router(followed, Arc::default()),
        Arc::<Metrics>::default(),
        stop.clone(),
    ));
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    assert_eq!(get_path(port, "/livez").await, "200 alive");
    stop.cancel();
    drop(silent);
    served.await.unwrap();
}
