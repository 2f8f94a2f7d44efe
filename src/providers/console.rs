//! The console provider: prints codes, for development.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    domain::{
        code::CodeOwner,
        destination::{Channel, Destination},
    },
    ports::{
        clock::Deadline,
        provider::{Capabilities, Check, Checked, Delivered, Delivery, Failure, Message, Provider, Receipt},
    },
    providers::Configured,
    settings::{Section, values},
};

/// Prints one line per message to standard output, and appends the same as JSON to a file where one is set.
pub(crate) struct Console {
    name: String,
    capabilities: Capabilities,
    outputs: Arc<Mutex<Outputs>>,
}

struct Outputs {
    screen: Box<dyn Write + Send>,
    file: Option<File>,
}

fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
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
    /// The file cannot be opened for appending.
    pub(crate) fn new(name: &str, file: Option<&Path>) -> io::Result<Self> {
        let file = file.map(open).transpose()?;
        Ok(Self::with_screen(name, Box::new(io::stdout()), file))
    }

    fn with_screen(name: &str, screen: Box<dyn Write + Send>, file: Option<File>) -> Self {
        let capabilities = Capabilities {
            code_owner: CodeOwner::Otpd,
            channels: Channel::ALL.to_vec(),
            contact_on_file: false,
            timeout: Duration::from_secs(5),
            code_life: None,
        };
        Self { name: name.to_owned(), capabilities, outputs: Arc::new(Mutex::new(Outputs { screen, file })) }
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

    async fn deliver(&self, delivery: Delivery, _deadline: Deadline) -> Delivered {
        let outputs = self.outputs.clone();
        // A reader that does not read standard output would block a worker of the runtime.
        let written = tokio::task::spawn_blocking(move || write(&outputs, &delivery)).await;
        match written {
            Ok(Ok(())) => Delivered::Accepted(Receipt::default()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the console provider cannot write");
                Delivered::Failed(Failure::Unavailable { retry_after: None })
            }
            Err(_) => Delivered::Unknown,
        }
    }

    async fn check(&self, _check: Check, _deadline: Deadline) -> Checked {
        Checked::Failed(Failure::Refused)
    }
}

fn write(outputs: &Mutex<Outputs>, delivery: &Delivery) -> io::Result<()> {
    let destination = match &delivery.context.destination {
        Destination::Phone(number) => number.expose(),
        Destination::Email(mailbox) => mailbox.expose(),
        Destination::OnFile => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let Some(Message { code, text }) = &delivery.message else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (code, text) = (code.expose().as_str(), text.expose().as_str());
    let line = Line { destination, channel: delivery.context.channel.name(), code, text };
    let mut json = serde_json::to_vec(&line)?;
    json.push(b'\n');
    let mut outputs = outputs.lock().unwrap_or_else(PoisonError::into_inner);
    // The file first, in one write: what stands on the screen is there for programs too.
    if let Some(file) = &mut outputs.file {
        file.write_all(&json)?;
    }
    writeln!(outputs.screen, "otpd console: to={destination} code={code}")?;
    outputs.screen.flush()
}
