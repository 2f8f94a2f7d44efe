//! A client that does what the server's callers may do wrong: bare HTTP/2 that enforces no deadline and checks no
//! message.

use std::{error::Error, net::SocketAddr};

use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status, codegen::Bytes};
use tonic_types::StatusExt;

pub(super) type Anyhow<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What came back.
#[derive(Debug)]
pub(super) struct AnswerSeen {
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) data: Vec<u8>,
    pub(super) headers: HeaderMap,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) path: &'static str,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Vec<u8>,
    /// Without it the request is left open.
    pub(super) end: bool,
}

impl Ask {
    pub(super) fn new(path: &'static str, message: &[u8]) -> Self {
        Self { path, headers: Vec::new(), body: framed(message), end: true }
    }
}

/// A message as gRPC frames it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], message].concat()
}

pub(super) async fn connect(address: SocketAddr, tasks: &TaskTracker) -> Anyhow<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tasks.spawn(connection);
    Ok(client.ready().await?)
}

pub(super) async fn ask(client: &mut SendRequest<Bytes>, ask: Ask) -> Anyhow<AnswerSeen> {
    let mut request = Request::post(format!("http://localhost{}", ask.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    let (response, mut stream) = client.send_request(request.body(())?, false)?;
    stream.send_data(ask.body.into(), ask.end)?;
    let (parts, mut body) = response.await?.into_parts();
    let (data, trailers) = read(&mut body).await?;
    let carrier = if parts.headers.contains_key("grpc-status") { &parts.headers } else { &trailers };
    let status = Status::from_header_map(carrier).ok_or("no status")?;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    Ok(AnswerSeen { code: status.code(), reason, message: status.message().to_owned(), data, headers: parts.headers })
}

/// A call that sends this much of its body, and then nothing.
pub(super) async fn begin(
    client: &mut SendRequest<Bytes>,
    path: &'static str,
    body: Vec<u8>,
) -> Anyhow<SendStream<Bytes>> {
    let request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    let ready = client.clone().ready().await?;
    *client = ready;
    let (_, mut stream) = client.send_request(request.body(())?, false)?;
    stream.send_data(body.into(), false)?;
    Ok(stream)
}

/// The status of HTTP for an empty message of this media type.
pub(super) async fn http_status(
    client: &mut SendRequest<Bytes>,
    method: &'static str,
    path: &'static str,
    media_type: &'static str,
) -> Anyhow<u16> {
    let request = Request::builder().method(method).uri(format!("http://localhost{path}"));
    let request = request.header("content-type", media_type);
    let (response, mut stream) = client.send_request(request.body(())?, false)?;
    stream.send_data(framed(b"").into(), true)?;
    Ok(response.await?.status().as_u16())
}

async fn read(body: &mut RecvStream) -> Anyhow<(Vec<u8>, HeaderMap)> {
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        data.extend_from_slice(&chunk);
    }
    Ok((data, body.trailers().await?.unwrap_or_default()))
}
