//! A relay of bytes before a server, which cuts the connection instead of passing on an answer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    select,
    task::JoinSet,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Relays until dropped.
pub(crate) struct Relay {
    port: u16,
    _relaying: AbortOnDropHandle<()>,
}

impl Relay {
    /// To a port of the loopback. Once `cuts` is set, the next that the server says is lost with its connection; several relays
    /// may share it, and one of them cuts.
    pub(crate) async fn start(to: u16, cuts: &Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::clone(cuts);
        let relaying = TaskTracker::new().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, to, Arc::clone(&cuts)));
            }
        });
        Self { port, _relaying: AbortOnDropHandle::new(relaying) }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Both streams are dropped at its end.
async fn relay(mut client: TcpStream, to: u16, cuts: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if cuts.swap(false, Ordering::SeqCst) || to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}
