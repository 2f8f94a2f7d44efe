//! A client of HTTP/1.1, with a connection for each request.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};

use crate::dial::Headers;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpAnswer {
    /// The first header of a name, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, which must say that it is JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Makes a request.
pub(crate) async fn ask(
    address: &str,
    method: &str,
    target: &str,
    headers: Headers<'_>,
    body: impl Into<Bytes>,
) -> HttpAnswer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let builder = Request::builder().method(method).uri(target).header("host", address);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    let answer = sender.send_request(builder.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    HttpAnswer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// Sends JSON.
pub(crate) async fn post(address: &str, target: &str, body: impl Into<Bytes>) -> HttpAnswer {
    ask(address, "POST", target, &[("content-type", "application/json")], body).await
}
