//! Connections to the mail server, kept for the next mail, and the commands of one delivery.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters},
    commands::{Data, Mail as MailFrom, Rcpt, Rset},
    extension::ClientId,
    response::Response,
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::TlsConnector;

use super::{
    Server,
    message::Mail,
    reply::{Stage, Trouble, judged},
    stream::MailStream,
};
use crate::{
    ports::{
        clock::{Clock, Deadline},
        provider::Delivered,
    },
    providers::{
        adapter::answer,
        guard::{Attempted, Exchange},
    },
};

/// Idle connections are kept this long. Servers keep theirs for minutes (RFC 5321, 4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(30);

/// How long the reply to RSET is waited for. The delivery is decided, and its caller waits; without the reply the connection is closed.
const RESET: Duration = Duration::from_millis(500);

/// How connections are encrypted.
#[derive(Clone)]
pub(super) enum Encryption {
    /// From the start, for this name.
    AtOnce(TlsConnector, ServerName<'static>),
    /// After STARTTLS.
    Later(TlsParameters),
    None,
}

/// The connections to one server.
pub(super) struct Connections {
    server: Server,
    encryption: Encryption,
    hello: ClientId,
    max_idle: usize,
    idle: Mutex<Vec<Idle>>,
    clock: Arc<dyn Clock>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Duration,
}

/// Where a delivery failed, and how.
type Failed = (Stage, Trouble);

impl Connections {
    pub(super) fn new(server: Server, encryption: Encryption, max_idle: usize, clock: Arc<dyn Clock>) -> Self {
        let hello = match server.hello_name.parse() {
            Ok(std::net::IpAddr::V4(ip)) => ClientId::Ipv4(ip),
            Ok(std::net::IpAddr::V6(ip)) => ClientId::Ipv6(ip),
            Err(_) => ClientId::Domain(server.hello_name.clone()),
        };
        Self { server, encryption, hello, max_idle, idle: Mutex::new(Vec::new()), clock }
    }

    /// Delivers a mail, until the deadline.
    pub(super) async fn deliver(&self, mail: &Mail, deadline: Deadline) -> Attempted<Delivered> {
        match self.attempt(mail, deadline).await {
            Ok(status) => Attempted {
                decision: answer::accepted(&mail.id),
                exchange: Exchange::Answered,
                status,
                fault: None,
                rest: None,
                alarm: None,
                remark: String::new(),
            },
            Err((stage, trouble)) => judged(stage, &trouble),
        }
    }

    async fn attempt(&self, mail: &Mail, deadline: Deadline) -> Result<u16, Failed> {
        if let Some(kept) = self.kept() {
            match self.send(kept, mail, deadline).await {
                // The server has ended the connection since, and nothing of the mail was sent.
                Err((Stage::Sender, Trouble::Broken | Trouble::Reply { code: 421, .. })) => {}
                ended => return ended,
            }
        }
        let connection = self.connect(deadline).await?;
        self.send(connection, mail, deadline).await
    }

    /// An idle connection that has not been idle for too long.
    fn kept(&self) -> Option<AsyncSmtpConnection> {
        let now = self.clock.monotonic();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| now.saturating_sub(kept.since) < IDLE);
        idle.pop().map(|kept| kept.connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max_idle {
            idle.push(Idle { connection, since: self.clock.monotonic() });
        }
    }

    /// Opens a connection, encrypted where it is from the start.
    async fn open(&self) -> io::Result<Box<dyn AsyncTokioStream>> {
        let stream = TcpStream::connect((self.server.host.as_str(), self.server.port)).await?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(match &self.encryption {
            Encryption::AtOnce(connector, name) => {
                Box::new(MailStream::new(connector.connect(name.clone(), stream).await?, peer))
            }
            Encryption::Later(_) | Encryption::None => Box::new(MailStream::new(stream, peer)),
        })
    }

    /// Connects, encrypts and logs in.
    async fn connect(&self, deadline: Deadline) -> Result<AsyncSmtpConnection, Failed> {
        let deadline = deadline.at_most(self.server.connect_timeout);
        let stream = match timeout_at(deadline.instant(), self.open()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err((Stage::Connect, Trouble::Broken)),
            Err(_) => return Err((Stage::Connect, Trouble::Late)),
        };
        let connecting = AsyncSmtpConnection::connect_with_transport(stream, &self.hello);
        let mut connection = bounded(Stage::Connect, deadline, connecting).await?;
        if let Encryption::Later(tls) = self.encryption.clone() {
            if !connection.can_starttls() {
                return Err((Stage::Connect, Trouble::NotEncrypted));
            }
            bounded(Stage::Connect, deadline, connection.starttls(tls, &self.hello)).await?;
        }
        if let Some((user, password)) = &self.server.login {
            const KNOWN: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
            if connection.server_info().get_auth_mechanism(&KNOWN).is_none() {
                return Err((Stage::Login, Trouble::NoMechanism));
            }
            let credentials = Credentials::new(user.clone(), password.expose().clone());
            bounded(Stage::Login, deadline, connection.auth(&KNOWN, &credentials)).await?;
        }
        Ok(connection)
    }

    /// Sends a mail, and keeps the connection where it can be used again. The answer is the code of the last reply.
    async fn send(&self, mut connection: AsyncSmtpConnection, mail: &Mail, deadline: Deadline) -> Result<u16, Failed> {
        let ended = transact(&mut connection, mail, deadline).await;
        let reusable = match &ended {
            Ok(_) => true,
            // The next mail begins anew, whatever was said of this one (RFC 5321, 4.1.1.5).
            Err((_, Trouble::Reply { code, .. })) if *code != 421 => {
                bounded(Stage::Sender, deadline.at_most(RESET), connection.command(Rset)).await.is_ok()
            }
            Err(_) => false,
        };
        if reusable {
            self.keep(connection);
        }
        ended
    }
}

async fn transact(connection: &mut AsyncSmtpConnection, mail: &Mail, deadline: Deadline) -> Result<u16, Failed> {
    let sender = connection.command(MailFrom::new(Some(mail.from.clone()), Vec::new()));
    expect(Stage::Sender, &bounded(Stage::Sender, deadline, sender).await?, 200..300)?;
    let destination = connection.command(Rcpt::new(mail.to.clone(), Vec::new()));
    expect(Stage::Destination, &bounded(Stage::Destination, deadline, destination).await?, 200..300)?;
    expect(Stage::Data, &bounded(Stage::Data, deadline, connection.command(Data)).await?, 354..355)?;
    let content = connection.message(mail.content.expose());
    expect(Stage::Message, &bounded(Stage::Message, deadline, content).await?, 200..300)
}

/// The code of a reply, if it is one of these.
fn expect(stage: Stage, reply: &Response, codes: std::ops::Range<u16>) -> Result<u16, Failed> {
    let code = u16::from(reply.code());
    if codes.contains(&code) { Ok(code) } else { Err((stage, Trouble::Broken)) }
}

async fn bounded<T>(
    stage: Stage,
    deadline: Deadline,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failed> {
    match timeout_at(deadline.instant(), work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err((stage, Trouble::of(&error))),
        Err(_) => Err((stage, Trouble::Late)),
    }
}
