//! HTTP/2 as bytes (RFC 9113), for what no client library would send.

use tokio::{io::AsyncWriteExt, net::TcpStream};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u16 = 4;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = 65_535;

/// The window that the client opens to the server, for each stream and for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Closed,
    Largest,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A message as gRPC frames it.
pub(crate) fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// The headers of a call, without compression (RFC 7541, 6.2.2).
pub(crate) fn header_block(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // :method POST, :scheme http, then :authority, :path and content-type by the indices of their names.
    let mut block = vec![0x83, 0x86, 0x01];
    block.extend(text("localhost"));
    block.push(0x04);
    block.extend(text(path));
    block.extend([0x0f, 31 - 15]);
    block.extend(text("application/grpc"));
    block
}

/// One more header.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    assert!(value.len() < 127);
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A call without its body.
pub(crate) fn headers(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &header_block(path))
}

/// A whole call.
pub(crate) fn call(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    [headers(stream, path), frame(DATA, END_STREAM, stream, &message(body))].concat()
}

/// Connects and says what a client says first.
pub(crate) async fn connect(address: &str, window: Window) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    let initial = match window {
        Window::Closed => 0,
        Window::Largest => LARGEST_WINDOW,
    };
    let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &initial.to_be_bytes()].concat();
    stream.write_all(&frame(SETTINGS, 0, 0, &setting)).await?;
    if window == Window::Largest {
        let more = (LARGEST_WINDOW - DEFAULT_WINDOW).to_be_bytes();
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &more)).await?;
    }
    Ok(stream)
}
