//! `[server.tls]` and `[server.sidecar]`: how the server shows who it is, and how it learns who calls.

use std::path::PathBuf;

use crate::{
    domain::identity::{Identity, SidecarTrust},
    settings::{Section, values},
};

/// How many names a sidecar may have.
const MAX_SIDECAR_NAMES: usize = 100;

/// Files of the server's certificate. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The server's certificate, and those between it and its authority, in PEM.
    pub certificate_file: PathBuf,
    /// Its key, in PEM.
    pub key_file: PathBuf,
    /// The authorities of callers' certificates, in PEM. Unset: callers are not asked for one.
    pub client_ca_file: Option<PathBuf>,
}

impl ServerTlsFiles {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let certificate = section.optional_text("certificate_file", values::path);
        let key = section.optional_text("key_file", values::path);
        let client_ca_file = section.optional_text("client_ca_file", values::path);
        match (certificate, key) {
            (Some(certificate_file), Some(key_file)) => Some(Self { certificate_file, key_file, client_ca_file }),
            (None, None) => {
                if client_ca_file.is_some() {
                    section.missing("certificate_file", "the server's own, beside client_ca_file");
                }
                None
            }
            (None, Some(_)) => {
                section.missing("certificate_file", "beside key_file");
                None
            }
            (Some(_), None) => {
                section.missing("key_file", "beside certificate_file");
                None
            }
        }
    }
}

/// Which headers of a sidecar are believed. None by default.
pub(super) fn sidecar(section: &mut Section<'_>) -> SidecarTrust {
    let name = |text: &str| {
        let id = Identity::spiffe(text.trim());
        id.ok_or_else(|| "must be the SPIFFE id of our own sidecar, spiffe://TRUST-DOMAIN/PATH".to_owned())
    };
    let xfcc_by = section.list("xfcc_by", 0..=MAX_SIDECAR_NAMES, name).unwrap_or_default();
    let l5d_client_id = section.boolean("l5d_client_id").unwrap_or(false);
    SidecarTrust { xfcc_by: xfcc_by.into_iter().collect(), l5d_client_id }
}
