//! What the kinds for Amazon Web Services share: region and URL, credentials, signatures, and the fields of answers.

mod answer;
mod credentials;
mod signature;

pub(super) use answer::{Fault, field};

use super::{
    adapter::settings,
    http::{Authority, BaseUrl},
};
use crate::settings::Section;
use credentials::Credentials;
use signature::Signature;

/// An account in a region.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) base_url: BaseUrl,
    region: String,
    service: &'static str,
    credentials: Credentials,
}

impl Account {
    /// Reads `region`, `base_url` and the credentials. `service` is the name that signatures hold, `host` the service's part of
    /// the host.
    pub(super) fn read(section: &mut Section<'_>, service: &'static str, host: &str) -> Option<Self> {
        let of_environment =
            || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| section_variable(section, name));
        let from_variable = of_environment();
        let region = section.text("region", region).or(from_variable);
        if region.is_none() {
            section.missing("region", "the region of the account, such as eu-central-1, here or as AWS_REGION");
        }
        let url = region.as_deref().map(|region| endpoint(host, region));
        let base_url = match &url {
            Some(url) => BaseUrl::read(section, Some(url)),
            None => section.text("base_url", BaseUrl::parse),
        };
        let credentials = Credentials::read(section, region.as_deref());
        Some(Self { base_url: base_url?, region: region?, service, credentials: credentials? })
    }

    /// The authority that signs requests to the account.
    pub(super) fn authority(&self) -> Box<dyn Authority> {
        Box::new(Signature::new(self.service, self.region.clone(), self.credentials.clone()))
    }
}

/// A region that a variable names, where it is one.
fn section_variable(section: &Section<'_>, name: &str) -> Option<String> {
    section.variable(name).and_then(|text| region(text).ok())
}

/// The URL of a service in a region (docs.aws.amazon.com, "AWS service endpoints"); China has a domain of its own.
fn endpoint(host: &str, region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{host}.{region}.amazonaws.com{suffix}")
}

/// A region: a part of a host name.
fn region(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let fits = (1..=32).contains(&text.len()) && letters && !text.starts_with('-') && !text.ends_with('-');
    if fits { Ok(text.to_owned()) } else { Err("must be a region such as eu-central-1".to_owned()) }
}

/// A setting of printable ASCII, 1 to `most` characters.
pub(super) fn printable(most: usize) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        let text = settings::header_text(text)?;
        if text.len() <= most { Ok(text) } else { Err(format!("must be 1 to {most} printable ASCII characters")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_those_of_the_region() {
        assert_eq!(endpoint("sns", "eu-central-1"), "https://sns.eu-central-1.amazonaws.com");
        assert_eq!(endpoint("sts", "cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn a_region_cannot_name_another_host() {
        for bad in ["", "eu.central", "a/b", "a@b", "-a", "a-", "EU-1", "a b"] {
            assert!(region(bad).is_err(), "{bad}");
        }
        assert!(region("us-gov-west-1").is_ok());
    }
}
