//! The console provider: prints codes, for development.
//!
//! A thread of its own prints. Standard output that nobody reads stops that thread and nothing else: at most
//! [`MAX_QUEUED`] messages wait for it, and every send gives up at its deadline.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout_at,
};

use crate::{
    domain::destination::{Channel, Destination},
    ports::{
        clock::Deadline,
        files,
        provider::{Capabilities, Check, Checked, Delivered, Delivery, Failure, Message, Provider, Receipt},
    },
    providers::Configured,
    settings::{Section, values},
};

/// The most messages that wait to be printed.
const MAX_QUEUED: usize = 256;

/// Prints one line per message to standard output, and appends the same as JSON to a file where one is set.
pub(crate) struct Console {
    name: String,
    capabilities: Capabilities,
    queue: mpsc::Sender<Queued>,
}

/// A message as it will be printed.
struct Printable {
    json: Vec<u8>,
    screen: String,
}

/// A message that waits, and where to tell that it was printed.
struct Queued {
    message: Printable,
    printed: oneshot::Sender<io::Result<()>>,
}

/// Opens the file, or makes it for its owner alone: it holds codes. What the operator has directed standard output to gets them
/// anyway.
fn open(path: &Path) -> io::Result<File> {
    let screen = File::from(io::stdout().as_fd().try_clone_to_owned()?).metadata()?;
    files::append_to(path, Some(&screen))
}

/// Reads `file`.
pub(super) fn read(section: &mut Section<'_>) -> Configured {
    let file = section.optional_text("file", values::path);
    Configured::new(move |name, _| Ok(Arc::new(Console::new(name, file.as_deref())?)))
}

/// One message, as a line of the file.
#[derive(Serialize)]
struct Line<'a> {
    destination: &'a str,
    channel: &'a str,
    code: &'a str,
    text: &'a str,
}

impl Console {
    /// A console on standard output.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread can be started.
    pub(crate) fn new(name: &str, file: Option<&Path>) -> io::Result<Self> {
        Self::with_screen(name, io::stdout(), file.map(open).transpose()?)
    }

    fn with_screen(name: &str, screen: impl Write + Send + 'static, file: Option<File>) -> io::Result<Self> {
        let capabilities = Capabilities::delivers(Channel::ALL.to_vec());
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        // Ends with the provider, once what it prints is taken.
        thread::Builder::new().name(name.to_owned()).spawn(move || print_all(queued, screen, file))?;
        Ok(Self { name: name.to_owned(), capabilities, queue })
    }
}

#[async_trait]
impl Provider for Console {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered {
        let failed = |error: &io::Error| {
            tracing::error!(%error, "the console provider cannot write");
            Delivered::Failed(Failure::Unavailable { retry_after: None })
        };
        let message = match printable(&delivery) {
            Ok(message) => message,
            Err(error) => return failed(&error),
        };
        let (printed, result) = oneshot::channel();
        match timeout_at(deadline.instant(), self.queue.send(Queued { message, printed })).await {
            Ok(Ok(())) => {}
            // It is not in the queue, so it will never be printed.
            Ok(Err(_)) => return failed(&io::ErrorKind::BrokenPipe.into()),
            Err(_) => return failed(&io::ErrorKind::TimedOut.into()),
        }
        match timeout_at(deadline.instant(), result).await {
            Ok(Ok(Ok(()))) => Delivered::Accepted(Receipt::default()),
            Ok(Ok(Err(error))) => failed(&error),
            // It may be printed yet.
            Ok(Err(_)) | Err(_) => Delivered::Unknown,
        }
    }

    async fn check(&self, _check: Check, _deadline: Deadline) -> Checked {
        Checked::Failed(Failure::Refused)
    }
}

fn printable(delivery: &Delivery) -> io::Result<Printable> {
    let destination = match &delivery.context.destination {
        Destination::Phone(number) => number.expose(),
        Destination::Email(mailbox) => mailbox.expose(),
        Destination::OnFile => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let Some(Message { code, text }) = &delivery.message else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (code, text) = (code.expose().as_str(), text.expose().as_str());
    let mut json = serde_json::to_vec(&Line { destination, channel: delivery.context.channel.name(), code, text })?;
    json.push(b'\n');
    Ok(Printable { json, screen: format!("otpd console: to={destination} code={code}\n") })
}

/// Prints what is queued, all that waits in one write, until the provider is gone.
fn print_all(mut queue: mpsc::Receiver<Queued>, mut screen: impl Write, mut file: Option<File>) {
    while let Some(first) = queue.blocking_recv() {
        let rest = std::iter::from_fn(|| queue.try_recv().ok()).take(MAX_QUEUED);
        let batch: Vec<Queued> = std::iter::once(first).chain(rest).collect();
        let failure = write(&batch, &mut screen, file.as_mut()).err().map(|error| error.kind());
        for Queued { printed, .. } in batch {
            let result = failure.map_or(Ok(()), |kind| Err(kind.into()));
            // A send that has given up waits no more.
            let _ = printed.send(result);
        }
    }
}

fn write(batch: &[Queued], screen: &mut impl Write, file: Option<&mut File>) -> io::Result<()> {
    // The file first: what stands on the screen is there for programs too.
    if let Some(file) = file {
        let json: Vec<&[u8]> = batch.iter().map(|queued| queued.message.json.as_slice()).collect();
        file.write_all(&json.concat())?;
    }
    let lines: Vec<&str> = batch.iter().map(|queued| queued.message.screen.as_str()).collect();
    screen.write_all(lines.concat().as_bytes())?;
    screen.flush()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, sync::mpsc as blocking, time::Duration};

    use super::*;
    use crate::domain::purpose::Purpose;
    use crate::{
        domain::{
            destination::PhoneNumber,
            ids::{AccountId, RequestId, Tenant},
            time::Timestamp,
        },
        ports::provider::{ChallengeContext, ClientContext, Parameters},
        secret::Secret,
    };

    /// A standard output that takes a line only when somebody reads.
    struct Unread(blocking::Receiver<()>);

    impl Write for Unread {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn delivery() -> Delivery {
        let context = ChallengeContext {
            now: Timestamp::from_millis(0),
            tenant: Tenant::parse("acme").unwrap(),
            challenge: RequestId::parse("challenge").unwrap(),
            account: AccountId::parse("jane").unwrap(),
            purpose: Purpose::Login,
            transaction: None,
            option: None,
            channel: Channel::Sms,
            destination: Destination::Phone(PhoneNumber::parse("+14155550100").unwrap()),
            locale: String::new(),
            parameters: Parameters::new(),
            client: ClientContext::default(),
        };
        let message = Message { code: Secret::new("493021".to_owned()), text: Secret::new("Code 493021".to_owned()) };
        let (code_life, idempotency_key) = (Duration::from_secs(300), "key".to_owned());
        Delivery {
            context,
            message: Some(message),
            code_life,
            idempotency_key,
            number: 1,
            previous_reference: String::new(),
            running: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_message_is_a_line_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("messages");
        let console = Console::with_screen("console", io::sink(), Some(open(&path).unwrap())).unwrap();
        let delivered = console.deliver(delivery(), Deadline::after(Duration::from_secs(60))).await;
        assert!(matches!(delivered, Delivered::Accepted(_)));
        let line = r#"{"destination":"+14155550100","channel":"sms","code":"493021","text":"Code 493021"}"#;
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{line}\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Time is paused: a wait for the deadline takes none.
    #[tokio::test(start_paused = true)]
    async fn standard_output_that_nobody_reads_stalls_only_its_own_sends() {
        let (read, unread) = blocking::channel();
        let console = Console::with_screen("console", Unread(unread), None).unwrap();
        let (mut unknown, mut failed) = (0, 0);
        for _ in 0..3 * MAX_QUEUED {
            match console.deliver(delivery(), Deadline::after(Duration::from_secs(5))).await {
                Delivered::Unknown => unknown += 1,
                Delivered::Failed(_) => failed += 1,
                other => panic!("{other:?}"),
            }
        }
        // The thread holds one batch of at most 1 and a full queue, and as many wait.
        assert!(unknown <= 2 * MAX_QUEUED + 1 && failed > 0, "{unknown} {failed}");
        drop(read);
    }
}
