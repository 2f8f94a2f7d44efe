//! Mail through a mail server that behaves, refuses, is slow, breaks off and talks rubbish, in the clear and encrypted.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use otpd::ports::{
    clock::Deadline,
    provider::{Delivered, Failure, Provider},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{
    authority::provider,
    executor::timed,
    probe::{FAILED, LONGEST_CALL, ManualClock, REFUSED},
    scenario::Given,
};

/// What the server does instead of what it should, by verb: `GREETING`, `EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA`, `MESSAGE`, `RSET`.
type Script = BTreeMap<&'static str, Act>;

#[derive(Clone)]
enum Act {
    Say(&'static str),
    Slowly(&'static str),
    /// Again and again, until the client goes.
    Endless(&'static str),
    Silence,
    Close,
}

/// What the server was told.
#[derive(Default)]
struct Seen {
    connections: usize,
    commands: Vec<String>,
    mails: Vec<String>,
}

struct MailServer {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Setup {
    tls: Option<TlsAcceptor>,
    is_encrypted_at_once: bool,
    offers: &'static [&'static str],
}

impl MailServer {
    async fn start(setup: Setup) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, script) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(Script::new())));
        let mut tasks = JoinSet::new();
        let (seen_by, script_of) = (Arc::clone(&seen), Arc::clone(&script));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                lock(&seen_by).connections += 1;
                let session =
                    Session { setup: setup.clone(), seen: Arc::clone(&seen_by), script: Arc::clone(&script_of) };
                connections.spawn(session.run(stream));
            }
        });
        Self { port, seen, script, _tasks: tasks }
    }

    async fn plain() -> Self {
        Self::start(Setup { tls: None, is_encrypted_at_once: false, offers: &["AUTH PLAIN LOGIN", "8BITMIME"] }).await
    }

    fn script(&self, acts: impl IntoIterator<Item = (&'static str, Act)>) {
        *lock(&self.script) = acts.into_iter().collect();
    }

    fn mails(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).mails)
    }

    fn commands(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).commands)
    }

    fn connections(&self) -> usize {
        lock(&self.seen).connections
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Session {
    setup: Setup,
    seen: Arc<Mutex<Seen>>,
    script: Arc<Mutex<Script>>,
}

impl Session {
    async fn run(self, stream: TcpStream) {
        match self.setup.tls.clone() {
            Some(tls) if self.setup.is_encrypted_at_once => {
                let Ok(stream) = tls.accept(stream).await else { return };
                self.talk(BufReader::new(stream), true).await;
            }
            tls => {
                let Some(stream) = self.talk(BufReader::new(stream), true).await else { return };
                let Ok(stream) = tls.expect("STARTTLS is offered").accept(stream.into_inner()).await else { return };
                self.talk(BufReader::new(stream), false).await;
            }
        }
    }

    /// Talks until the client goes, or asks for encryption.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufReader<S>,
        greets: bool,
    ) -> Option<BufReader<S>> {
        if greets && !self.act(&mut stream, "GREETING", "220 mail.example.com ESMTP\r\n").await {
            return None;
        }
        loop {
            let line = read_line(&mut stream).await?;
            lock(&self.seen).commands.push(line.clone());
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let offers = self.setup.offers.iter().map(|offer| format!("250-{offer}\r\n")).collect::<Vec<_>>().concat();
            let ehlo = format!("250-mail.example.com\r\n{offers}250 HELP\r\n");
            let (verb, usual) = match verb.as_str() {
                "EHLO" => ("EHLO", ehlo.as_str()),
                "AUTH" => ("AUTH", "235 2.7.0 fine\r\n"),
                "MAIL" => ("MAIL", "250 2.1.0 fine\r\n"),
                "RCPT" => ("RCPT", "250-2.1.5 fine\r\n250 2.1.5 and more\r\n"),
                "RSET" => ("RSET", "250 2.0.0 fine\r\n"),
                "DATA" => ("DATA", "354 go on\r\n"),
                "STARTTLS" => {
                    return self.act(&mut stream, "STARTTLS", "220 go on\r\n").await.then_some(stream);
                }
                "QUIT" => ("QUIT", "221 bye\r\n"),
                _ => ("OTHER", "500 what\r\n"),
            };
            if !self.act(&mut stream, verb, usual).await {
                return None;
            }
            if verb == "DATA" && !lock(&self.script).contains_key("DATA") {
                let mut mail = String::new();
                loop {
                    let line = read_line(&mut stream).await?;
                    if line == "." {
                        break;
                    }
                    mail.push_str(&line);
                    mail.push('\n');
                }
                lock(&self.seen).mails.push(mail);
                if !self.act(&mut stream, "MESSAGE", "250 2.0.0 Ok: queued as 4F1\r\n").await {
                    return None;
                }
            }
        }
    }

    /// Does what the script says, or says what is usual. Says whether to go on.
    async fn act<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        verb: &'static str,
        usual: &str,
    ) -> bool {
        let act = lock(&self.script).get(verb).cloned();
        match act {
            None => stream.write_all(usual.as_bytes()).await.is_ok(),
            Some(Act::Say(text)) => stream.write_all(text.as_bytes()).await.is_ok(),
            Some(Act::Slowly(text)) => {
                for byte in text.as_bytes() {
                    sleep(Duration::from_millis(2)).await;
                    if stream.write_all(&[*byte]).await.is_err() {
                        return false;
                    }
                }
                true
            }
            Some(Act::Endless(text)) => {
                let many = text.repeat(1000);
                while stream.write_all(many.as_bytes()).await.is_ok() {}
                false
            }
            Some(Act::Silence) => {
                while read_line(stream).await.is_some() {}
                false
            }
            Some(Act::Close) => false,
        }
    }
}

async fn read_line<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

fn smtp(server: &MailServer, settings: &str, clock: &Arc<ManualClock>) -> Arc<dyn Provider> {
    let settings = format!("host = \"127.0.0.1\"\nport = {}\nfrom = \"otp@acme.example\"\n{settings}", server.port);
    provider("smtp", settings.parse().unwrap(), clock)
}

/// Without encryption, and long time-outs.
const PLAIN: &str = "security = \"none\"\ntimeout = \"10s\"\nconnect_timeout = \"10s\"";

async fn deliver_to(provider: &Arc<dyn Provider>, mailbox: &str, text: &str) -> Delivered {
    let given = json!({
        "channel": "email", "destination": {"email": mailbox}, "code": "918273", "text": text,
        "now_ms": 1_481_414_400_000_u64
    });
    let given: Given = serde_json::from_value(given).unwrap();
    provider.deliver(given.delivery().unwrap(), Deadline::after(LONGEST_CALL)).await
}

async fn deliver(provider: &Arc<dyn Provider>) -> Delivered {
    deliver_to(provider, "jane@example.org", "918273 is your code.").await
}

fn is_accepted(delivered: &Delivered) -> bool {
    matches!(delivered, Delivered::Accepted(receipt) if receipt.reference.ends_with("@acme.example"))
}

/// The lines of a mail's head, and its body.
fn parts(mail: &str) -> (Vec<&str>, &str) {
    let (head, body) = mail.split_once("\n\n").unwrap();
    (head.lines().collect(), body)
}

#[tokio::test]
async fn a_mail_has_its_headers_and_its_text() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    let settings = format!("{PLAIN}\nuser = \"otpd\"\npassword = \"smtp secret\"\nfrom_name = \"Acme Ltd.\"");
    let delivered = deliver(&smtp(&server, &settings, &clock)).await;
    let Delivered::Accepted(receipt) = &delivered else { panic!("{delivered:?}") };
    let mails = server.mails();
    let (head, body) = parts(&mails[0]);
    let id = format!("Message-ID: <{}>", receipt.reference);
    for line in [
        "From: \"Acme Ltd.\" <otp@acme.example>",
        "To: jane@example.org",
        "Subject: Your verification code",
        "Date: Sun, 11 Dec 2016 00:00:00 +0000",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        id.as_str(),
    ] {
        assert!(head.contains(&line), "{line} in {head:?}");
    }
    assert_eq!(body.trim_end(), "918273 is your code.");
    let login = format!("AUTH PLAIN {}", STANDARD.encode("\0otpd\0smtp secret"));
    let expected = ["EHLO acme.example", &login, "MAIL FROM:<otp@acme.example>", "RCPT TO:<jane@example.org>", "DATA"];
    assert_eq!(server.commands(), expected);
    // The same send has the same name.
    assert_eq!(deliver(&smtp(&server, &settings, &clock)).await, delivered);
}

#[tokio::test]
async fn an_html_part_goes_beside_the_text() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    let settings = format!("{PLAIN}\nhtml = \"<p>{{{{text}}}}</p>\"\nsubject = \"Für Sie\"");
    let text = "918273 für <Müller>.\n.\nEnde";
    assert!(is_accepted(&deliver_to(&smtp(&server, &settings, &clock), "jane@example.org", text).await));
    let mails = server.mails();
    let (head, body) = parts(&mails[0]);
    assert!(mails[0].is_ascii(), "{mails:?}");
    assert!(head.iter().any(|line| line.starts_with("Content-Type: multipart/alternative;")), "{head:?}");
    assert!(head.iter().any(|line| line.starts_with("Subject: =?utf-8?b?")), "{head:?}");
    let plain = body.find("text/plain").unwrap();
    let page = body.find("text/html").unwrap();
    assert!(plain < page && body[page..].contains("&lt;M=C3=BCller&gt;"), "{body}");
}

#[tokio::test]
async fn a_connection_is_kept_and_replaced() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    let provider = smtp(&server, PLAIN, &clock);
    for _ in 0..3 {
        assert!(is_accepted(&deliver(&provider).await));
    }
    assert_eq!(server.connections(), 1);
    // A refusal of one destination ends with RSET, and the connection stays.
    server.script([("RCPT", Act::Say("550 5.1.1 unknown\r\n"))]);
    assert_eq!(deliver(&provider).await, Delivered::Rejected);
    server.script([]);
    assert!(is_accepted(&deliver(&provider).await));
    assert_eq!(server.connections(), 1);
    // A server that ended it, by closing or by 421, is asked on a new one.
    for act in [Act::Close, Act::Say("421 4.4.2 idle for too long\r\n")] {
        let before = server.connections();
        server.script([("MAIL", act)]);
        assert!(matches!(deliver(&provider).await, Delivered::Failed(Failure::Unavailable { .. })));
        assert_eq!(server.connections(), before + 1);
        server.script([]);
        assert!(is_accepted(&deliver(&provider).await));
    }
    let before = server.connections();
    clock.pass(Duration::from_secs(31));
    assert!(is_accepted(&deliver(&provider).await));
    assert_eq!(server.connections(), before + 1, "too old to be used again");
}

#[tokio::test]
async fn replies_say_what_becomes_of_a_mail() {
    let login = "user = \"otpd\"\npassword = \"p\"";
    for (verb, act, expected) in [
        ("GREETING", Act::Say("421 4.3.2 busy\r\n"), FAILED),
        ("GREETING", Act::Say("554 5.3.2 no service\r\n"), REFUSED),
        ("GREETING", Act::Say("HTTP/1.1 400 Bad Request\r\n\r\n"), FAILED),
        ("GREETING", Act::Close, FAILED),
        ("EHLO", Act::Say("\u{fffd}\u{fffd}\r\n"), FAILED),
        ("EHLO", Act::Close, FAILED),
        ("AUTH", Act::Say("535 5.7.8 wrong\r\n"), REFUSED),
        ("AUTH", Act::Say("534-5.7.9 use an application password\r\n534 5.7.9 see the manual\r\n"), REFUSED),
        ("AUTH", Act::Say("454 4.7.0 later\r\n"), FAILED),
        ("MAIL", Act::Say("530 5.7.0 login first\r\n"), REFUSED),
        ("MAIL", Act::Say("451 4.3.0 later\r\n"), FAILED),
        ("MAIL", Act::Say("550 5.7.60 not your address\r\n"), REFUSED),
        ("RCPT", Act::Say("450 4.2.0 greylisted\r\n"), FAILED),
        ("RCPT", Act::Say("550-5.1.1 The account does not exist.\r\n550 5.1.1 Try another\r\n"), Delivered::Rejected),
        ("RCPT", Act::Say("551 user not local\r\n"), Delivered::Rejected),
        ("RCPT", Act::Say("553 mailbox name not allowed\r\n"), Delivered::Rejected),
        ("RCPT", Act::Say("554 5.7.1 Relay access denied\r\n"), REFUSED),
        ("RCPT", Act::Say("yes\r\n"), FAILED),
        ("RCPT", Act::Close, FAILED),
        ("DATA", Act::Say("250 what\r\n"), FAILED),
        ("DATA", Act::Say("451 4.3.0 later\r\n"), FAILED),
        ("DATA", Act::Close, FAILED),
        ("MESSAGE", Act::Say("451 4.3.0 later\r\n"), FAILED),
        ("MESSAGE", Act::Say("552 5.3.4 too large\r\n"), REFUSED),
        ("MESSAGE", Act::Say("554 5.7.1 spam\r\n"), REFUSED),
        ("MESSAGE", Act::Say("550 5.1.1 unknown\r\n"), Delivered::Rejected),
        ("MESSAGE", Act::Say("rubbish\r\n"), Delivered::Unknown),
        ("MESSAGE", Act::Say("354 more\r\n"), Delivered::Unknown),
        ("MESSAGE", Act::Close, Delivered::Unknown),
    ] {
        let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
        let said = if let Act::Say(text) = &act { *text } else { "closes" };
        server.script([(verb, act)]);
        let provider = smtp(&server, &format!("{PLAIN}\n{login}"), &clock);
        assert_eq!(deliver(&provider).await, expected, "{verb}: {said}");
        let sent = server.mails().len();
        assert_eq!(sent, usize::from(verb == "MESSAGE"), "{verb}: {said}");
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for_and_a_silent_one_is_not() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    server.script([
        ("GREETING", Act::Slowly("220-mail\r\n220 ready\r\n")),
        ("MESSAGE", Act::Slowly("250 2.0.0 at last\r\n")),
    ]);
    assert!(is_accepted(&deliver(&smtp(&server, PLAIN, &clock)).await));
    let patient = "security = \"none\"\ntimeout = \"3s\"\nconnect_timeout = \"3s\"";
    let short = "security = \"none\"\ntimeout = \"400ms\"\nconnect_timeout = \"300ms\"";
    for (verb, expected) in [
        ("GREETING", FAILED),
        ("EHLO", FAILED),
        ("MAIL", FAILED),
        ("RCPT", FAILED),
        ("DATA", FAILED),
        ("MESSAGE", Delivered::Unknown),
    ] {
        let server = MailServer::plain().await;
        server.script([(verb, Act::Silence)]);
        // Long enough for the mail to get there on a busy machine.
        let settings = if verb == "MESSAGE" { patient } else { short };
        assert_eq!(deliver(&smtp(&server, settings, &clock)).await, expected, "{verb}");
    }
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let settings = format!("host = \"127.0.0.1\"\nport = {closed}\nfrom = \"otp@acme.example\"\n{PLAIN}");
    assert_eq!(deliver(&provider("smtp", settings.parse().unwrap(), &clock)).await, FAILED);
}

#[tokio::test]
async fn repeated_refusals_of_the_login_open_the_breaker() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    server.script([("AUTH", Act::Say("535 5.7.8 wrong\r\n"))]);
    let settings = format!("{PLAIN}\nuser = \"otpd\"\npassword = \"p\"\nbreaker_failures = 2");
    let provider = smtp(&server, &settings, &clock);
    for _ in 0..4 {
        assert_eq!(deliver(&provider).await, REFUSED);
    }
    assert_eq!(server.connections(), 2);
    assert!(!provider.is_ready() && !provider.is_resting());
    assert_eq!(provider.refusal(), Some(Failure::Refused), "nothing is reserved for a send that would be refused");
    clock.pass(Duration::from_secs(5));
    assert_eq!(provider.refusal(), None);
    server.script([]);
    assert!(is_accepted(&deliver(&provider).await));
}

/// While the breaker is open the service asks for the refusal first, and reserves nothing.
#[tokio::test]
async fn in_an_outage_the_refusal_is_known_before_a_call() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    // The connection of a refused mail is used again.
    for (verb, said, refusal, connections) in [
        ("GREETING", "421 4.3.2 busy\r\n", Failure::Unavailable { retry_after: Some(Duration::from_secs(5)) }, 2),
        ("MAIL", "550 5.7.60 not your address\r\n", Failure::Refused, 1),
    ] {
        server.script([(verb, Act::Say(said))]);
        let provider = smtp(&server, &format!("{PLAIN}\nbreaker_failures = 2"), &clock);
        assert_eq!(provider.refusal(), None);
        let before = server.connections();
        for _ in 0..4 {
            deliver(&provider).await;
        }
        assert_eq!((provider.refusal(), server.connections() - before), (Some(refusal), connections), "{verb}");
        let mails = server.commands().iter().filter(|command| command.starts_with("MAIL")).count();
        assert_eq!(mails, if verb == "MAIL" { 2 } else { 0 });
    }
}

#[tokio::test]
async fn an_address_goes_over_the_wire_as_it_is() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    for mailbox in ["jane.doe+otp@example.org", "o'hara@example.org"] {
        assert!(is_accepted(&deliver_to(&smtp(&server, PLAIN, &clock), mailbox, "918273").await), "{mailbox}");
        let (command, header) = (format!("RCPT TO:<{mailbox}>"), format!("To: {mailbox}"));
        assert!(server.commands().contains(&command), "{mailbox}");
        assert!(server.mails()[0].lines().any(|line| line == header), "{mailbox}");
    }
}

struct Encryption {
    acceptor: TlsAcceptor,
    ca_file: String,
    _folder: tempfile::TempDir,
}

/// A certificate for this address, and the file of the authority that issued it.
fn encryption(name: &str) -> Encryption {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, ca.pem()).unwrap();
    Encryption { acceptor: TlsAcceptor::from(Arc::new(config)), ca_file: path.display().to_string(), _folder: folder }
}

#[tokio::test]
async fn mail_is_encrypted_from_the_start_or_after_starttls() {
    let clock = Arc::new(ManualClock::default());
    let (ours, others) = (encryption("127.0.0.1"), encryption("mail.example.com"));
    let long = "timeout = \"10s\"\nconnect_timeout = \"10s\"\nuser = \"otpd\"\npassword = \"p\"";
    for (security, at_once) in [("tls", true), ("starttls", false)] {
        let offers: &[&str] = if at_once { &["AUTH LOGIN"] } else { &["AUTH LOGIN", "STARTTLS"] };
        for (encryption, ca_file, works) in
            [(&ours, &ours.ca_file, true), (&others, &others.ca_file, false), (&ours, &others.ca_file, false)]
        {
            let tls = Some(encryption.acceptor.clone());
            let server = MailServer::start(Setup { tls, is_encrypted_at_once: at_once, offers }).await;
            server.script([("AUTH", Act::Say("235 fine\r\n"))]);
            let settings = format!("security = \"{security}\"\nca_file = \"{ca_file}\"\n{long}");
            let delivered = deliver(&smtp(&server, &settings, &clock)).await;
            assert_eq!((is_accepted(&delivered), server.mails().len()), (works, usize::from(works)), "{security}");
            if !works {
                assert_eq!(delivered, FAILED, "{security}");
                assert!(!server.commands().iter().any(|line| line.starts_with("AUTH")), "{security}");
            }
        }
    }
}

/// Far below the deadline, and far below what memory there is.
#[tokio::test]
async fn an_endless_reply_ends_the_call() {
    let clock = Arc::new(ManualClock::default());
    let ours = encryption("127.0.0.1");
    for is_encrypted in [false, true] {
        for said in ["250 x", "250-x\r\n"] {
            for (verb, expected) in [("GREETING", FAILED), ("RCPT", FAILED), ("MESSAGE", Delivered::Unknown)] {
                let tls = is_encrypted.then(|| ours.acceptor.clone());
                let server = MailServer::start(Setup { tls, is_encrypted_at_once: is_encrypted, offers: &[] }).await;
                server.script([(verb, Act::Endless(said))]);
                let long = "timeout = \"30s\"\nconnect_timeout = \"30s\"";
                let settings = if is_encrypted {
                    format!("security = \"tls\"\nca_file = \"{}\"\n{long}", ours.ca_file)
                } else {
                    format!("security = \"none\"\n{long}")
                };
                let provider = smtp(&server, &settings, &clock);
                let (delivered, took) = timed(deliver(&provider)).await;
                assert_eq!(delivered, expected, "{verb} {said:?}");
                assert!(took < Duration::from_secs(8), "{verb} {said:?}: {took:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_follows_starttls_in_the_clear_is_not_taken_for_encrypted() {
    let clock = Arc::new(ManualClock::default());
    let ours = encryption("127.0.0.1");
    let tls = Some(ours.acceptor.clone());
    let server = MailServer::start(Setup { tls, is_encrypted_at_once: false, offers: &["STARTTLS"] }).await;
    server.script([("STARTTLS", Act::Say("220 go on\r\n250-mail.example.com\r\n250 AUTH PLAIN\r\n"))]);
    let long = "timeout = \"10s\"\nconnect_timeout = \"10s\"\nuser = \"otpd\"\npassword = \"p\"";
    let settings = format!("security = \"starttls\"\nca_file = \"{}\"\n{long}", ours.ca_file);
    assert_eq!(deliver(&smtp(&server, &settings, &clock)).await, FAILED);
    assert_eq!(server.commands(), ["EHLO acme.example", "STARTTLS"]);
}

#[tokio::test]
async fn a_silent_answer_to_rset_delays_no_decision() {
    let (server, clock) = (MailServer::plain().await, Arc::new(ManualClock::default()));
    server.script([("RCPT", Act::Say("550 5.1.1 unknown\r\n")), ("RSET", Act::Silence)]);
    let provider = smtp(&server, PLAIN, &clock);
    let (delivered, took) = timed(deliver(&provider)).await;
    assert_eq!(delivered, Delivered::Rejected);
    assert!(took < Duration::from_secs(8), "{took:?}");
    server.script([]);
    assert!(is_accepted(&deliver(&provider).await));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn without_encryption_nothing_is_sent_where_it_is_required() {
    let clock = Arc::new(ManualClock::default());
    let login = "user = \"otpd\"\npassword = \"p\"";
    let server = MailServer::plain().await;
    let long = "timeout = \"10s\"\nconnect_timeout = \"10s\"";
    let delivered = deliver(&smtp(&server, &format!("security = \"starttls\"\n{long}\n{login}"), &clock)).await;
    assert_eq!(delivered, REFUSED);
    assert_eq!(server.commands(), ["EHLO acme.example"], "no login");
    // A server that speaks no TLS greets in the clear: the handshake fails.
    let delivered = deliver(&smtp(&server, &format!("security = \"tls\"\n{long}\n{login}"), &clock)).await;
    assert_eq!(delivered, FAILED);
    assert!(server.mails().is_empty());
    // One that offers no login is no use where one is set.
    let bare = MailServer::start(Setup { tls: None, is_encrypted_at_once: false, offers: &[] }).await;
    assert_eq!(deliver(&smtp(&bare, &format!("{PLAIN}\n{login}"), &clock)).await, REFUSED);
    assert_eq!(bare.commands(), ["EHLO acme.example"]);
}
