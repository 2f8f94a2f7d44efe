//! The audit: every decision as a line of a file that is chained by hashes, and as an entry of a stream.
//!
//! A decision is encoded where it is made, and waits in memory for one thread that writes the file, and one task that writes the
//! stream. Neither holds up a call, but where the file is required: then an answer waits until its decisions are on the disk.

mod chain;
mod encode;
mod file;
mod queue;
mod stream;
mod tail;
mod unsealed;
pub mod verify;

use std::{io, path::PathBuf, sync::Arc};

use tokio_util::task::TaskTracker;

use crate::{
    keys::ring::KeyRing,
    ports::{
        call::CallRecord,
        clock::{Clock, Deadline},
        decisions::{ConfigurationStart, DecisionEvent, DecisionKind, DecisionObserver, Keeping},
        event_stream::EventStream,
        observer::AuditObserver,
    },
};
use encode::Encoder;
use file::FileSink;
use stream::StreamSink;

/// Where a file of the audit is, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// The file that is written now. Rotated ones stand beside it, with the number of their first line at the end of the name.
    pub path: PathBuf,
    /// Whether answers wait until their decisions are on the disk.
    pub required: bool,
    /// A file that would become longer is rotated first.
    pub max_bytes: u64,
    /// How many rotated files are kept; `None`: all.
    pub max_files: Option<usize>,
}

/// What an audit needs from outside.
pub struct AuditPorts {
    pub clock: Arc<dyn Clock>,
    /// Seals the chain.
    pub keys: Arc<KeyRing>,
    pub observer: Arc<dyn AuditObserver>,
    /// Tells this process from others.
    pub instance: u64,
}

/// Keeps decisions.
pub struct Audit {
    encoder: Encoder,
    clock: Arc<dyn Clock>,
    file: Option<FileSink>,
    stream: Option<StreamSink>,
    required: bool,
}

impl Audit {
    /// Opens the sinks, and writes by which configuration decisions are made from now on.
    ///
    /// # Errors
    /// The file cannot be opened, or is no audit of otpd's.
    pub fn start(
        ports: AuditPorts,
        start: &ConfigurationStart<'_>,
        file: Option<FileOptions>,
        stream: Option<Arc<dyn EventStream>>,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let AuditPorts { clock, keys, observer, instance } = ports;
        let encoder = Encoder::new(instance, start.policy_digest);
        let required = file.as_ref().is_some_and(|file| file.required);
        let sealed =
            |options| FileSink::start(options, encoder.clone(), keys, Arc::clone(&clock), Arc::clone(&observer));
        let file = file.map(sealed).transpose()?;
        let stream = stream.map(|stream| StreamSink::start(stream, encoder.clone(), Arc::clone(&observer), tasks));
        let audit = Self { encoder, clock, file, stream, required };
        let (at, call) = (audit.clock.now(), CallRecord::default());
        audit.decided(&DecisionEvent {
            at,
            call: &call,
            is_overdue: false,
            decision: DecisionKind::Configuration(*start),
        });
        Ok(audit)
    }

    /// Writes what waits, and closes. Waits until the deadline at the longest; what fails again and again is given up after some
    /// two seconds, and is lost.
    pub async fn close(&self, deadline: Deadline) {
        let now = self.clock.now();
        let stream = async {
            if let Some(stream) = &self.stream {
                stream.close(now, deadline).await;
            }
        };
        let file = async {
            if let Some(file) = &self.file {
                file.close(now, deadline).await;
            }
        };
        tokio::join!(stream, file);
    }
}

impl DecisionObserver for Audit {
    fn decided(&self, event: &DecisionEvent<'_>) {
        let body = self.encoder.encode(event);
        if let Some(stream) = &self.stream {
            stream.push(&body, event.at);
        }
        if let Some(file) = &self.file
            && !file.push(&body, event.at)
            && self.required
        {
            event.call.unkept.get_or_init(|| ());
        }
    }

    fn accepts(&self) -> bool {
        !self.required || self.file.as_ref().is_none_or(FileSink::accepts)
    }

    fn keeping(&self) -> Option<Keeping> {
        self.file.as_ref().filter(|_| self.required)?.keeping()
    }
}

#[cfg(test)]
mod tests;
