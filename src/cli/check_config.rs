//! `otpd check-config`: what the settings come to.

use std::{process::ExitCode, sync::Arc};

use super::{MISUSED, output};
use crate::{
    app::certificates::{self, CertificateErrors},
    config::Config,
    keys::ring::KeyRing,
    metrics::Metrics,
    ports::clock::SystemClock,
    providers::ProviderDeps,
};

pub(super) fn run(config: &Config) -> ExitCode {
    let keys = check_keys(config).map_err(|error| format!("master keys: {error}"));
    let certificate = check_certificate(config);
    let unusable = certificate.as_ref().err().map(ToString::to_string);
    let otlp = config.otlp.as_ref().and_then(|otlp| otlp.check().err()).map(|error| error.to_string());
    let errors = keys.err().into_iter().chain(unusable).chain(otlp).chain(check_audit(config));
    let errors: Vec<String> = errors.chain(check_providers(config)).collect();
    if !errors.is_empty() {
        output::complain(&format!("otpd: the configuration is wrong:\n{}\n", errors.join("\n")));
        return ExitCode::from(MISUSED);
    }
    let mut lines = vec!["the configuration is valid".to_owned()];
    lines.extend(config.summary());
    let warnings = config.warnings().into_iter().chain(certificate.ok().flatten());
    lines.extend(warnings.map(|warning| format!("warning: {warning}")));
    output::say(&(lines.join("\n") + "\n"));
    ExitCode::SUCCESS
}

/// The keys of a file are no part of the settings, but of what they come to.
fn check_keys(config: &Config) -> Result<(), String> {
    let text = config.keys.text()?;
    let ring = text.map(|text| KeyRing::parse(&text, config.force.missing_lowest_key));
    ring.transpose().map(|_| ()).map_err(|bad| bad.to_string())
}

/// Nor is the server's certificate. What is to be warned of.
fn check_certificate(config: &Config) -> Result<Option<String>, CertificateErrors> {
    config.server.tls.as_ref().map_or(Ok(None), |files| certificates::check(files, &SystemClock))
}

/// Where the audit's file would be made.
fn check_audit(config: &Config) -> Option<String> {
    let folder = config.audit.file.as_ref()?.path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    (!folder.is_dir()).then(|| format!("audit.file: {} is no folder", folder.display()))
}

/// Nor are the certificates and other files of providers.
fn check_providers(config: &Config) -> Vec<String> {
    let deps = ProviderDeps {
        clock: Arc::new(SystemClock),
        observer: Arc::new(Metrics::default()),
        proxies: config.proxies.clone(),
    };
    let built = config.providers.by_name.iter().map(|(name, provider)| {
        let built = provider.build(name, &deps);
        built.map(|_| ()).map_err(|error| format!("providers.{name}: {error}"))
    });
    built.filter_map(Result::err).collect()
}
