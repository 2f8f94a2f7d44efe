//! The connection below the mail client: bounds what a server may say to one command, and takes nothing for encrypted that was said
//! in the clear.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// The most that is read without a command between, in bytes: more than any reply, or the certificates after STARTTLS. The mail client
/// bounds a reply only after it has read a whole line, and reads all lines anew for each.
const LONGEST_REPLY: usize = 32 * 1024;

/// The command after whose reply everything is encrypted (RFC 3207, 4).
const STARTTLS: &[u8] = b"STARTTLS\r\n";

/// A connection to a mail server.
#[derive(Debug)]
pub(super) struct MailStream<S> {
    inner: S,
    peer: SocketAddr,
    /// How much was read since the last command.
    unanswered: usize,
    /// What was said since STARTTLS was.
    before_encryption: Option<Vec<u8>>,
}

impl<S> MailStream<S> {
    pub(super) fn new(inner: S, peer: SocketAddr) -> Self {
        Self { inner, peer, unanswered: 0, before_encryption: None }
    }

    /// Takes note of what was read.
    fn heard(&mut self, said: &[u8]) -> io::Result<()> {
        self.unanswered = self.unanswered.saturating_add(said.len());
        if self.unanswered > LONGEST_REPLY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is too long"));
        }
        if let Some(reply) = &mut self.before_encryption {
            reply.extend_from_slice(said);
            if goes_on(reply) {
                // The mail client would keep it, and take it for the reply to an encrypted command (CVE-2011-0411).
                return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the reply to STARTTLS"));
            }
        }
        Ok(())
    }

    fn told(&mut self, command: &[u8]) {
        self.unanswered = 0;
        self.before_encryption = command.eq_ignore_ascii_case(STARTTLS).then(Vec::new);
    }
}

/// Whether anything follows a whole reply. Its last line has no hyphen after the code (RFC 5321, 4.2.1).
fn goes_on(said: &[u8]) -> bool {
    let mut lines = said.split_inclusive(|byte| *byte == b'\n');
    lines.any(|line| line.ends_with(b"\n") && line.get(3) != Some(&b'-')) && lines.next().is_some()
}

impl<S: AsyncRead + Unpin> AsyncRead for MailStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.heard(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MailStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, data))?;
        self.told(data);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for MailStream<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl AsyncTokioStream for MailStream<TlsStream<TcpStream>> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_follow_the_reply_to_starttls() {
        for (said, expected) in [
            ("", false),
            ("220 go", false),
            ("220 go on\r\n", false),
            ("220-go\r\n220 on\r\n", false),
            ("220 go on\r\n2", true),
            ("220 go on\r\n250 injected\r\n", true),
            ("220-go\r\n220 on\r\n250 injected", true),
        ] {
            assert_eq!(goes_on(said.as_bytes()), expected, "{said:?}");
        }
    }
}
