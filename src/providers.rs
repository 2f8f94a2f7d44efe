//! The registry of providers. A new one is a file, a line in [`KINDS`] and a folder of fixtures (docs/adding-a-provider.md).

pub mod adapter;
mod aws;
mod aws_ses;
mod aws_sns;
mod breaker;
pub(crate) mod console;
mod google_payment_integrator;
pub mod guard;
pub mod http;
mod http_json;
mod infobip_2fa;
mod iserveu;
mod mail;
mod mail_html;
mod mailgun;
mod msg91;
pub(crate) mod sandbox;
mod sendgrid;
mod smtp;
mod twilio;
mod twilio_messages;
mod twilio_verify;
mod vonage_verify;
mod whatsapp_cloud;
mod wibmo_rupay;

use std::{fmt, io, sync::Arc};

use adapter::Adapter;
use http::{HttpProvider, HttpSettings, ProxyVariables};

use crate::{
    ports::{
        clock::Clock,
        provider::{Provider, ProviderObserver},
    },
    settings::Section,
};

/// A kind of provider: its name in the configuration, and how its settings are read.
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    read: fn(&mut Section<'_>) -> Option<Configured>,
}

/// All kinds, one line each.
pub const KINDS: &[Kind] = &[
    Kind { name: "aws-ses", read: |section| Configured::http(section, aws_ses::read) },
    Kind { name: "aws-sns", read: |section| Configured::http(section, aws_sns::read) },
    Kind { name: "console", read: |section| Some(console::read(section)) },
    Kind {
        name: "google-payment-integrator",
        read: |section| Configured::http(section, google_payment_integrator::read),
    },
    Kind { name: "http-json", read: |section| Configured::http(section, http_json::read) },
    Kind { name: "infobip-2fa", read: |section| Configured::http(section, infobip_2fa::read) },
    Kind { name: "iserveu", read: |section| Configured::http(section, iserveu::read) },
    Kind { name: "mailgun", read: |section| Configured::http(section, mailgun::read) },
    Kind { name: "msg91", read: |section| Configured::http(section, msg91::read) },
    Kind { name: "sendgrid", read: |section| Configured::http(section, sendgrid::read) },
    Kind { name: "smtp", read: smtp::read },
    Kind { name: "twilio-messages", read: |section| Configured::http(section, twilio_messages::read) },
    Kind { name: "twilio-verify", read: |section| Configured::http(section, twilio_verify::read) },
    Kind { name: "vonage-verify", read: |section| Configured::http(section, vonage_verify::read) },
    Kind { name: "whatsapp-cloud", read: |section| Configured::http(section, whatsapp_cloud::read) },
    Kind { name: "wibmo-rupay", read: |section| Configured::http(section, wibmo_rupay::read) },
];

/// Reads the settings of a provider of a kind. `None` where they are wrong; the errors are in the section's diagnostics.
pub fn read(kind: &str, section: &mut Section<'_>) -> Option<Configured> {
    let kind = KINDS.iter().find(|known| known.name == kind)?;
    (kind.read)(section).map(|configured| Configured { kind: kind.name, ..configured })
}

/// A provider whose settings are valid, and which is not built yet.
#[derive(Clone)]
pub struct Configured {
    kind: &'static str,
    notes: Vec<String>,
    open: Option<(&'static str, &'static str)>,
    build: Arc<Build>,
}

/// What every provider is built with.
#[derive(Clone)]
pub struct ProviderDeps {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Is told of every call.
    pub observer: Arc<dyn ProviderObserver>,
    /// The proxies of the environment.
    pub proxies: ProxyVariables,
}

type Build = dyn Fn(&str, &ProviderDeps) -> io::Result<Arc<dyn Provider>> + Send + Sync;

impl Configured {
    /// A provider that is built by this function.
    pub(crate) fn new(
        build: impl Fn(&str, &ProviderDeps) -> io::Result<Arc<dyn Provider>> + Send + Sync + 'static,
    ) -> Self {
        Self { kind: "", notes: Vec::new(), open: None, build: Arc::new(build) }
    }

    /// Reads a provider over HTTP: the settings of its adapter, and those that all providers over HTTP have.
    fn http<A: Adapter + Clone + 'static>(
        section: &mut Section<'_>,
        read: impl FnOnce(&mut Section<'_>) -> Option<A>,
    ) -> Option<Self> {
        let settings = HttpSettings::read(section);
        let adapter = read(section)?;
        let note = "base_url is plain http: codes and credentials can be read on the way";
        let open = adapter.base_url().is_open().then_some(("base_url", "is plain http"));
        let notes = open.map(|_| note.to_owned()).into_iter().chain(adapter.notes()).collect();
        let build = move |name: &str, deps: &ProviderDeps| {
            let settings = HttpSettings { variables: deps.proxies.clone(), ..settings.clone() };
            let provider = HttpProvider::new(name, Box::new(adapter.clone()), &settings, Arc::clone(&deps.clock))?;
            Ok(Arc::new(provider.observed(Arc::clone(&deps.observer))) as Arc<dyn Provider>)
        };
        Some(Self { notes, open, ..Self::new(build) })
    }

    /// The kind.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The setting because of which what is sent there can be read on the way, and what is wrong with it; `None` where it cannot.
    pub(crate) fn open(&self) -> Option<(&'static str, &'static str)> {
        self.open
    }

    /// What the operator should know of it, one line each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Builds the provider.
    ///
    /// # Errors
    /// A file that it needs cannot be opened.
    pub fn build(&self, name: &str, deps: &ProviderDeps) -> io::Result<Arc<dyn Provider>> {
        (self.build)(name, deps)
    }
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Configured({})", self.kind)
    }
}

/// Compares the kinds only: functions cannot be compared.
impl PartialEq for Configured {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Configured {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Diagnostics, tree::Table};

    #[test]
    fn a_base_url_that_is_not_encrypted_is_noted() {
        let notes = |base_url: &str| {
            let table = Table::from_toml(format!("base_url = \"{base_url}\"").parse().expect("TOML"));
            let diagnostics = Diagnostics::default();
            let configured = Section::root(table, &diagnostics, |section| read("google-payment-integrator", section));
            configured.expect("right settings").notes().len()
        };
        assert_eq!(["http://a", "https://a", "http://127.0.0.1:1"].map(notes), [1, 0, 0]);
    }
}
