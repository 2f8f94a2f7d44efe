//! The audit of a configuration, and what is asked of its files and tags.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use super::{App, StartError, parts::store_config};
use crate::{
    audit::{
        Audit, AuditPorts,
        verify::{self, AuditReport},
    },
    config::{Config, Keys, StreamSettings},
    domain::{
        destination::{Destination, Mailbox, PhoneNumber},
        ids::{AccountId, RequestId, SupportTag, Tenant},
    },
    keys::{generate, ring::KeyRing},
    ports::{
        clock::Clock,
        decisions::ConfigurationStart,
        entropy::{Entropy, SystemEntropy},
        observer::AuditObserver,
    },
    secret::Secret,
    stores::{self, StoreUrl},
};

/// What an audit is made from.
pub(super) struct AuditInputs {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) observer: Arc<dyn AuditObserver>,
    /// Runs the task of the stream, until it is closed.
    pub(super) tasks: TaskTracker,
}

/// The audit of the configuration, if it has one.
///
/// # Errors
/// Its file or stream cannot be had.
pub(super) fn start(config: &Config, inputs: AuditInputs) -> Result<Option<Arc<Audit>>, StartError> {
    if !config.audit.is_on() {
        return Ok(None);
    }
    let AuditInputs { clock, keys, observer, tasks } = inputs;
    let stream = match &config.audit.stream {
        Some(StreamSettings { name, max_length }) => {
            let url: StoreUrl =
                config.store.url.expose().parse().map_err(|cause| StartError::Store(Box::new(cause)))?;
            let opened = stores::open_event_stream(&store_config(config, url), name, *max_length, &tasks);
            Some(opened.map_err(|cause| StartError::Store(Box::new(cause)))?)
        }
        None => None,
    };
    let mut instance = [0; 8];
    SystemEntropy.fill(&mut instance).map_err(|cause| StartError::Audit(io::Error::other(cause.to_string())))?;
    let providers: Vec<&str> = config.providers.by_name.keys().map(String::as_str).collect();
    let callers: Vec<&str> = config.callers.iter().map(|caller| caller.name.as_str()).collect();
    let (key_ids, digest) = (keys.ids(), policy_digest(config));
    let start = ConfigurationStart {
        version: env!("CARGO_PKG_VERSION"),
        profile: config.profile.name(),
        policy_digest: &digest,
        providers: &providers,
        callers: &callers,
        key_ids: &key_ids,
    };
    let ports = AuditPorts { clock, keys, observer, instance: u64::from_be_bytes(instance) };
    let file = config.audit.file.clone();
    let audit = Audit::start(ports, &start, file, stream, &tasks);
    Ok(Some(Arc::new(audit.map_err(StartError::Audit)?)))
}

/// The same for the same policies of all tenants, profile, providers and routes, with the same version of otpd.
fn policy_digest(config: &Config) -> String {
    let Config { tenants, profile, providers, .. } = config;
    let names: Vec<&String> = providers.by_name.keys().collect();
    let text = format!("{tenants:?} {} {names:?} {:?} {:?}", profile.name(), providers.routes, providers.scoped);
    let mut digest = String::new();
    for byte in Sha256::digest(text) {
        // Writing to a text does not fail.
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

/// Whom a tag is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOwner {
    /// An account.
    Account,
    /// A challenge, by the `request_id` of its CreateChallenge.
    Challenge,
    /// The contact of a registration.
    Contact,
}

impl App {
    /// Verifies files of the audit; their seals, too, where the configuration has the keys at hand.
    ///
    /// # Errors
    /// A file cannot be read, or the keys cannot.
    pub fn verify_audit(config: &Config, files: &[PathBuf]) -> Result<AuditReport, StartError> {
        let keys = keys_at_hand(config)?;
        verify::verify(files, keys.as_ref()).map_err(StartError::Audit)
    }

    /// The tag by which logs, traces and events name an account, a challenge or a contact.
    ///
    /// # Errors
    /// There are no keys, or the text is none of what it is said to be.
    pub fn support_tag(config: &Config, owner: TagOwner, tenant: &str, text: String) -> Result<SupportTag, StartError> {
        let text = Secret::new(text);
        let wrong = |what: &str| StartError::Audit(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
        let tenant = Tenant::parse(tenant).map_err(|_| wrong("the tenant is malformed"))?;
        let keys = keys_at_hand(config)?;
        let keys = keys.ok_or_else(|| StartError::Keys("none is set, and the embedded store has none yet".into()))?;
        let text = text.expose().as_str();
        Ok(match owner {
            TagOwner::Account => {
                keys.account_tag(&tenant, &AccountId::parse(text).map_err(|_| wrong("the account is malformed"))?)
            }
            TagOwner::Challenge => {
                keys.challenge_tag(&tenant, &RequestId::parse(text).map_err(|_| wrong("the request id is malformed"))?)
            }
            TagOwner::Contact => {
                let mailbox = || Mailbox::parse(text).map(Destination::Email).ok();
                let contact = PhoneNumber::parse(text).map(Destination::Phone).ok().or_else(mailbox);
                let canonical = contact.and_then(|contact| contact.canonical());
                keys.contact_tag(&tenant, &canonical.ok_or_else(|| wrong("the contact is no number and no mailbox"))?)
            }
        })
    }
}

/// The keys of the configuration, without making any.
fn keys_at_hand(config: &Config) -> Result<Option<KeyRing>, StartError> {
    let text = match &config.keys {
        Keys::Generated => {
            let url: Option<StoreUrl> = config.store.url.expose().parse().ok();
            let folder = url.as_ref().and_then(|url| url.directory()).filter(|folder| folder.is_dir());
            match folder.map(|folder: &Path| generate::kept_in(folder, false, &SystemEntropy)) {
                Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StartError::Keys(error.into()));
                }
                kept => kept.and_then(Result::ok),
            }
        }
        given => given.text().map_err(|error| StartError::Keys(error.into()))?,
    };
    let ring = text.map(|text| KeyRing::parse(&text, config.force.missing_lowest_key));
    ring.transpose().map_err(|bad| StartError::Keys(bad.into()))
}
