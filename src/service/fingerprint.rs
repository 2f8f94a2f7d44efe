//! The content of requests, for telling a repetition from other content under the same id.
//!
//! The encoding names the RPC and holds every parsed field but the header's timestamp and version: a repetition is a new
//! call at a new time.

use super::request::{CreateChallenge, LockAccount, LockoutOwner, SendOtp, UnlockAccount, VerifyOtp};
use crate::{
    domain::{canonical::Canonical, code, destination::Destination, ids::RequestId},
    ports::provider::{ClientContext, Parameters},
};

impl CreateChallenge {
    pub(super) fn content(&self) -> Canonical {
        let content = Canonical::new("CreateChallenge")
            .text(self.account.as_str())
            .text(self.purpose.name())
            .optional(self.transaction.as_ref().map(code::encode).as_deref())
            .text(&self.locale)
            .number(u64::from(self.send_otp));
        let content = self.destinations.iter().fold(content, |content, reach| {
            let (kind, value) = match &reach.destination {
                Destination::Phone(number) => ("phone", number.expose()),
                Destination::Email(mailbox) => ("email", mailbox.expose()),
                Destination::OnFile => ("on file", ""),
            };
            let id = reach.id.as_ref().map(|id| id.as_str().as_bytes());
            content.text("destination").text(reach.channel.name()).text(kind).text(value).optional(id)
        });
        with_parameters(with_client(content.text("client"), &self.client), &self.parameters)
    }
}

impl SendOtp {
    pub(super) fn content(&self) -> Canonical {
        let content = Canonical::new("SendOtp").text(self.challenge.as_str()).text(self.option.as_str());
        with_parameters(with_client(content.text("client"), &self.client), &self.parameters)
    }
}

impl VerifyOtp {
    pub(super) fn content(&self) -> Canonical {
        let content = Canonical::new("VerifyOtp")
            .text(self.challenge.as_str())
            .text(self.otp.expose())
            .optional(self.account.as_ref().map(|account| account.as_str().as_bytes()))
            .optional(self.purpose.map(|purpose| purpose.name().as_bytes()))
            .optional(self.transaction.as_ref().map(code::encode).as_deref());
        with_parameters(content, &self.parameters)
    }
}

/// The content of a CancelChallenge.
pub(super) fn cancel(challenge: &RequestId) -> Canonical {
    Canonical::new("CancelChallenge").text(challenge.as_str())
}

impl LockAccount {
    pub(super) fn content(&self) -> Canonical {
        let until = self.until.map(|until| until.as_millis().to_be_bytes());
        let content = with_owner(Canonical::new("LockAccount"), &self.owner).text(&self.reason);
        content.optional(until.as_ref().map(<[u8; 8]>::as_slice))
    }
}

impl UnlockAccount {
    pub(super) fn content(&self) -> Canonical {
        with_owner(Canonical::new("UnlockAccount"), &self.owner).text(&self.reason)
    }
}

fn with_owner(content: Canonical, owner: &LockoutOwner) -> Canonical {
    match owner {
        LockoutOwner::Account(account) => content.text("account").text(account.as_str()),
        LockoutOwner::Contact(contact) => {
            content.text("contact").optional(contact.canonical().as_deref().map(str::as_bytes))
        }
    }
}

fn with_client(content: Canonical, client: &ClientContext) -> Canonical {
    content.text(&client.ip_address).text(&client.user_agent).text(&client.device_id).text(&client.lat_long)
}

/// A map has one order here: that of its keys.
fn with_parameters(content: Canonical, parameters: &Parameters) -> Canonical {
    let content = content.text("parameters");
    parameters.iter().fold(content, |content, (key, value)| content.text(key).text(value.expose()))
}
