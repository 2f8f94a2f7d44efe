//! A local HTTP/1.1 server that does what it is told, good or bad, and remembers what it was asked.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// No test takes longer over one connection.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);
const LONGEST_HEAD: usize = 64 * 1024;
const LONGEST_BODY: usize = 1024 * 1024;

/// What the server does once a request has arrived.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends this, and keeps the connection.
    Send(Vec<u8>),
    /// Sends this, and closes.
    Last(Vec<u8>),
    /// Sends these with a pause before each, and keeps the connection.
    Slowly(Duration, Vec<Vec<u8>>),
    /// Sends the first, then the second again and again until the client has enough.
    Endless(Vec<u8>, Vec<u8>),
    /// Says nothing until the client goes.
    Silence,
    /// Closes at once.
    Close,
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first header of this name, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<Act>>,
    otherwise: Mutex<Option<Act>>,
    seen: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    closed: Notify,
}

impl Server {
    /// A server on a free port of the loopback.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls(config: ServerConfig) -> Self {
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What to do with the next requests, one each. A request beyond is answered by closing the connection.
    pub(crate) fn script(&self, acts: impl IntoIterator<Item = Act>) {
        *self.state.script.lock().unwrap() = acts.into_iter().collect();
    }

    /// What to do with all requests that are not in the script.
    pub(crate) fn otherwise(&self, act: Act) {
        *self.state.otherwise.lock().unwrap() = Some(act);
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until a connection has ended; an end that nobody waited for counts once.
    pub(crate) async fn closed(&self) {
        timeout(LONGEST_CONNECTION, self.state.closed.notified()).await.expect("a connection ends");
    }

    /// The requests since this was last asked.
    pub(crate) fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let work = async {
                match tls {
                    Some(tls) => serve(tls.accept(stream).await?, &state).await,
                    None => serve(stream, &state).await,
                }
            };
            // Clients that break off are part of the tests.
            let _ = timeout(LONGEST_CONNECTION, work).await;
            state.closed.notify_one();
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> io::Result<()> {
    while let Some(request) = read(&mut stream).await? {
        state.seen.lock().unwrap().push(request);
        let scripted = state.script.lock().unwrap().pop_front();
        let act = scripted.or_else(|| state.otherwise.lock().unwrap().clone()).unwrap_or(Act::Close);
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).await?,
            Act::Slowly(pause, pieces) => {
                for piece in pieces {
                    sleep(pause).await;
                    stream.write_all(&piece).await?;
                }
            }
            Act::Last(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Act::Endless(first, again) => {
                stream.write_all(&first).await?;
                loop {
                    stream.write_all(&again).await?;
                }
            }
            Act::Silence => {
                let mut rest = [0];
                while stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
            Act::Close => return stream.shutdown().await,
        }
    }
    Ok(())
}

/// One request; `None` at the end of the connection.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > LONGEST_HEAD || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut body = bytes.split_off(head_end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0_usize);
    while body.len() < length.min(LONGEST_BODY) {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    request.body = body;
    Ok(Some(request))
}
