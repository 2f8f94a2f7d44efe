//! The unary cases of gRPC's interoperability tests (`doc/interop-test-descriptions.md` of grpc/grpc), against its test service
//! behind our own layers: call layer, arrival, deadline, rewriting.

use std::{sync::Arc, time::Duration};

use http::Request as HttpRequest;
use tokio_util::task::TaskTracker;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client::Grpc as Client,
    codegen::{BoxFuture, http::uri::PathAndQuery},
    metadata::MetadataValue,
    server::{Grpc as Server, UnaryService},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{Anyhow, SETTINGS, Seen};
use crate::{
    domain::identity::SidecarTrust,
    grpc::{
        call_layer::Services,
        callers::CallerDirectory,
        connection::{Connections, http2},
        listen::Incoming,
        listener::BoundListener,
        method::{Method, RpcTarget},
        server::{layer, serve_on},
    },
    ports::observer::ListenerName,
};

const EMPTY: &str = "/grpc.testing.TestService/EmptyCall";
const UNARY: &str = "/grpc.testing.TestService/UnaryCall";
/// As large as a message of ours may be, less its head. The descriptions ask for 271,828 and 314,159 bytes.
const LARGE: usize = 60_000;
const SPECIAL: &str = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EchoStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SimpleRequest {
    #[prost(int32, tag = "2")]
    response_size: i32,
    #[prost(message, optional, tag = "3")]
    payload: Option<Payload>,
    #[prost(message, optional, tag = "7")]
    response_status: Option<EchoStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SimpleResponse {
    #[prost(message, optional, tag = "1")]
    payload: Option<Payload>,
}

/// `grpc.testing.TestService`. To the layer its methods are two of the contract's.
#[derive(Clone)]
struct TestService;

impl Services for TestService {
    fn target(path: &str) -> RpcTarget {
        match path {
            EMPTY => RpcTarget::Contract(Method::GetChallenge),
            UNARY => RpcTarget::Contract(Method::VerifyOtp),
            _ => RpcTarget::of(path),
        }
    }

    async fn answer(&self, method: Method, request: HttpRequest<Body>) -> http::Response<Body> {
        if method == Method::GetChallenge {
            return Server::new(ProstCodec::<Empty, Empty>::default()).unary(Echo, request).await;
        }
        Server::new(ProstCodec::<SimpleResponse, SimpleRequest>::default()).unary(Echo, request).await
    }
}

struct Echo;

impl UnaryService<Empty> for Echo {
    type Response = Empty;
    type Future = BoxFuture<Response<Empty>, Status>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        Box::pin(async { Ok(Response::new(Empty {})) })
    }
}

impl UnaryService<SimpleRequest> for Echo {
    type Response = SimpleResponse;
    type Future = BoxFuture<Response<SimpleResponse>, Status>;

    fn call(&mut self, request: Request<SimpleRequest>) -> Self::Future {
        Box::pin(async move {
            let (metadata, _, request) = request.into_parts();
            if let Some(status) = request.response_status.filter(|status| status.code != 0) {
                return Err(Status::with_details(Code::from(status.code), status.message, b"details".as_ref().into()));
            }
            if request.response_size < 0 {
                std::future::pending::<()>().await;
            }
            let body = vec![0; usize::try_from(request.response_size).unwrap_or(0)];
            let mut response = Response::new(SimpleResponse { payload: Some(Payload { body }) });
            if let Some(echoed) = metadata.get("x-grpc-test-echo-initial") {
                response.metadata_mut().insert("x-grpc-test-echo-initial", echoed.clone());
            }
            if let Some(echoed) = metadata.get_bin("x-grpc-test-echo-trailing-bin") {
                response.metadata_mut().insert_bin("x-grpc-test-echo-trailing-bin", echoed.clone());
            }
            Ok(response)
        })
    }
}

async fn start() -> Anyhow<Channel> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    let callers = Arc::new(CallerDirectory::new(&[], SidecarTrust::default(), false));
    let seen = Arc::new(Seen::default());
    let layer = layer(SETTINGS, TestService, health, (seen.clone(), callers))?;
    let connections = Connections { http2: http2(), layer: Arc::new(layer), tls: None, max_age: None };
    let incoming =
        Incoming::new(BoundListener::Address(listener), SETTINGS.max_connections, (ListenerName::Server, seen));
    TaskTracker::new().spawn(serve_on(incoming, connections, std::future::pending()));
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect().await?)
}

async fn unary(channel: &Channel, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
    let mut client = Client::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<SimpleRequest, SimpleResponse>::default();
    client.unary(request, PathAndQuery::from_static(UNARY), codec).await
}

async fn empty(channel: &Channel, path: &'static str) -> Result<Response<Empty>, Status> {
    let mut client = Client::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Empty, Empty>::default();
    client.unary(Request::new(Empty {}), PathAndQuery::from_static(path), codec).await
}

#[tokio::test]
async fn empty_unary_and_large_unary() -> Anyhow<()> {
    let channel = start().await?;
    assert_eq!(empty(&channel, EMPTY).await?.into_inner(), Empty {});
    let size = i32::try_from(LARGE)?;
    let payload = Some(Payload { body: vec![0; LARGE] });
    let request = SimpleRequest { response_size: size, payload, response_status: None };
    let answer = unary(&channel, Request::new(request)).await?.into_inner();
    assert_eq!(answer.payload.unwrap_or_default().body, vec![0; LARGE]);
    Ok(())
}

#[tokio::test]
async fn custom_metadata() -> Anyhow<()> {
    let channel = start().await?;
    let mut request = Request::new(SimpleRequest::default());
    request.metadata_mut().insert("x-grpc-test-echo-initial", "test_initial_metadata_value".parse()?);
    let binary = MetadataValue::from_bytes(&[0xab; 3]);
    request.metadata_mut().insert_bin("x-grpc-test-echo-trailing-bin", binary.clone());
    let answer = unary(&channel, request).await?;
    let echoed = answer.metadata().get("x-grpc-test-echo-initial");
    assert_eq!(echoed.ok_or("no metadata")?, "test_initial_metadata_value");
    assert_eq!(answer.metadata().get_bin("x-grpc-test-echo-trailing-bin"), Some(&binary));
    Ok(())
}

#[tokio::test]
async fn status_code_and_message_and_special_status_message() -> Anyhow<()> {
    let channel = start().await?;
    for message in ["test status message", SPECIAL] {
        let response_status = Some(EchoStatus { code: 2, message: message.to_owned() });
        let request = Request::new(SimpleRequest { response_status, ..SimpleRequest::default() });
        let status = unary(&channel, request).await.expect_err(message);
        assert_eq!((status.code(), status.message()), (Code::Unknown, message));
    }
    Ok(())
}

#[tokio::test]
async fn unimplemented_method_and_unimplemented_service() -> Anyhow<()> {
    let channel = start().await?;
    for path in ["/grpc.testing.TestService/UnimplementedCall", "/grpc.testing.UnimplementedService/UnimplementedCall"]
    {
        assert_eq!(empty(&channel, path).await.expect_err(path).code(), Code::Unimplemented);
    }
    Ok(())
}

#[tokio::test]
async fn a_deadline_passes_on_a_sleeping_server() -> Anyhow<()> {
    let channel = start().await?;
    let mut request = Request::new(SimpleRequest { response_size: -1, ..SimpleRequest::default() });
    // The server's own answer: a client that enforced the deadline would hide it.
    request.metadata_mut().insert("grpc-timeout", "100m".parse()?);
    let status = tokio::time::timeout(Duration::from_secs(60), unary(&channel, request)).await?.expect_err("no time");
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    Ok(())
}
