//! Providers behind a forward proxy: every call goes through its tunnel, and without a tunnel nothing was sent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use otpd::ports::provider::{Delivered, Failure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    probe::{Probe, success},
    server::{Act, Server},
};

/// What a proxy does with a request for a tunnel.
#[derive(Clone, Copy)]
enum Reply {
    Tunnel,
    Says(&'static str),
    Silence,
}

/// A proxy that remembers what it was asked. Stops when dropped.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (mut tasks, seen) = (JoinSet::new(), Arc::clone(&heads));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, reply, Arc::clone(&seen)));
            }
        });
        Self { port, heads, _tasks: tasks }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, reply: Reply, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < 10_000 => head.push(byte),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(head);
    match reply {
        Reply::Tunnel => {
            let Ok(mut target) = TcpStream::connect(to).await else { return };
            if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
                let _ = copy_bidirectional(&mut stream, &mut target).await;
            }
        }
        Reply::Says(text) => drop(stream.write_all(text.as_bytes()).await),
        Reply::Silence => drop(stream.read_u8().await),
    }
}

#[tokio::test]
async fn every_call_goes_through_the_tunnel() {
    let (server, proxy) = (Server::start().await, Proxy::start(Reply::Tunnel).await);
    server.otherwise(Act::Send(success("r")));
    let settings = format!("proxy = \"http://otpd:p%40ss@127.0.0.1:{}\"", proxy.port);
    let probe = Probe::new(&server.url(), &settings);
    for _ in 0..2 {
        assert!(matches!(probe.deliver().await, Delivered::Accepted(_)));
    }
    let heads = proxy.seen();
    assert_eq!(heads.len(), 1, "the connection is kept");
    let lines: Vec<&str> = heads[0].lines().collect();
    assert_eq!(lines[0], format!("CONNECT 127.0.0.1:{} HTTP/1.1", server.port()));
    // otpd:p@ss
    assert!(lines.iter().any(|line| line.eq_ignore_ascii_case("proxy-authorization: Basic b3RwZDpwQHNz")), "{lines:?}");
    let seen = server.seen();
    assert!(seen.len() == 2 && seen.iter().all(|request| request.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn without_a_tunnel_nothing_was_sent() {
    let server = Server::start().await;
    server.otherwise(Act::Send(success("r")));
    let failed = Delivered::Failed(Failure::Unavailable { retry_after: None });
    for reply in [
        Reply::Says("HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n"),
        Reply::Says("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
        Reply::Says("HTTP/1.1 502 Bad Gateway\r\n\r\n"),
        Reply::Says("rubbish"),
        Reply::Silence,
    ] {
        let proxy = Proxy::start(reply).await;
        let settings = format!("proxy = \"http://127.0.0.1:{}\"\nconnect_timeout = \"500ms\"", proxy.port);
        let probe = Probe::new(&server.url(), &settings);
        assert_eq!(probe.deliver_within(Duration::from_secs(20)).await, failed);
    }
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let probe = Probe::new(&server.url(), &format!("proxy = \"http://127.0.0.1:{port}\""));
    assert_eq!(probe.deliver().await, failed);
    assert!(server.seen().is_empty());
}
