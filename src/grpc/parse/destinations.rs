//! The ways to reach a person.

use std::collections::BTreeSet;

use super::{Violations, values};
use crate::{
    domain::{
        challenge::MAX_OPTIONS,
        destination::{Channel, Destination, Mailbox, PhoneNumber},
        ids::OptionId,
    },
    grpc::proto::{self, destination::Destination as Target},
    service::request::Reach,
};

/// 1 to 10 ways, each different.
pub(super) fn destinations(faults: &mut Violations, destinations: Vec<proto::Destination>) -> Vec<Reach> {
    if destinations.is_empty() {
        faults.missing("destinations");
        return Vec::new();
    }
    if destinations.len() > MAX_OPTIONS {
        // One fault says it; a list of what is wrong with each of thousands would say it no better.
        faults.invalid("destinations", "must be at most 10");
        return Vec::new();
    }
    let mut listed = Listed::default();
    let numbered = destinations.into_iter().enumerate();
    numbered.filter_map(|(index, destination)| one(faults, &mut listed, index, destination)).collect()
}

/// Whether a registration names one contact, whose lockout its failures belong to: one number over several channels, or one
/// destination alone. Whether two contacts on file are the same, otpd does not know.
pub(super) fn are_one_contact(faults: &mut Violations, destinations: &[Reach]) {
    let [first, others @ ..] = destinations else { return };
    let contact = first.destination.canonical();
    let are_one = others.iter().all(|other| contact.is_some() && other.destination.canonical() == contact);
    if !are_one {
        faults.invalid("destinations", "must be one contact with PURPOSE_REGISTRATION");
    }
}

#[derive(Default)]
struct Listed {
    ids: BTreeSet<OptionId>,
    destinations: BTreeSet<(Channel, Option<String>)>,
}

fn one(faults: &mut Violations, listed: &mut Listed, index: usize, asked: proto::Destination) -> Option<Reach> {
    let path = format!("destinations[{index}]");
    let channel = channel(faults, &path, asked.channel);
    let destination = target(faults, &path, asked.destination, channel);
    let id_field = format!("{path}.challenge_option_id");
    let id = values::optional_id(faults, &id_field, &asked.challenge_option_id, OptionId::parse);
    if id.as_ref().is_some_and(|id| !listed.ids.insert(id.clone())) {
        faults.invalid(id_field, "must be unique in the request");
    }
    let (channel, destination) = (channel?, destination?);
    if !listed.destinations.insert((channel, destination.canonical())) {
        faults.invalid(path, "must differ from the other destinations");
    }
    Some(Reach { id, channel, destination })
}

fn channel(faults: &mut Violations, path: &str, channel: i32) -> Option<Channel> {
    match proto::Channel::try_from(channel) {
        Ok(proto::Channel::Sms) => Some(Channel::Sms),
        Ok(proto::Channel::Voice) => Some(Channel::Voice),
        Ok(proto::Channel::Whatsapp) => Some(Channel::WhatsApp),
        Ok(proto::Channel::Email) => Some(Channel::Email),
        Ok(proto::Channel::Unspecified) => {
            faults.missing(format!("{path}.channel"));
            None
        }
        Err(_) => {
            faults.invalid(format!("{path}.channel"), "must be a known channel");
            None
        }
    }
}

fn target(
    faults: &mut Violations,
    path: &str,
    target: Option<Target>,
    channel: Option<Channel>,
) -> Option<Destination> {
    let (field, text, parsed, fitting) = match target {
        None => {
            faults.missing(format!("{path}.destination"));
            return None;
        }
        Some(Target::ContactOnFile(proto::ContactOnFile {})) => return Some(Destination::OnFile),
        Some(Target::PhoneNumber(text)) => {
            let parsed = PhoneNumber::parse(&text).map(Destination::Phone);
            ("phone_number", text, parsed, channel != Some(Channel::Email))
        }
        Some(Target::EmailAddress(text)) => {
            let parsed = Mailbox::parse(&text).map(Destination::Email);
            ("email_address", text, parsed, channel.is_none_or(|channel| channel == Channel::Email))
        }
    };
    let field = format!("{path}.{field}");
    if !fitting {
        faults.invalid(field, "does not fit the channel");
        return None;
    }
    if text.is_empty() {
        faults.missing(field);
        return None;
    }
    parsed.map_err(|malformed| faults.invalid(field, malformed.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a registration has one lockout. Method: destinations of a registration, and whether they are one contact.
    #[test]
    fn a_registration_proves_one_contact() {
        use proto::Channel::{Email, Sms, Voice, Whatsapp};
        let number = |text: &str| Some(Target::PhoneNumber(text.to_owned()));
        let address = |text: &str| Some(Target::EmailAddress(text.to_owned()));
        let on_file = || Some(Target::ContactOnFile(proto::ContactOnFile {}));
        for (are_one, given) in [
            (true, vec![(Sms, number("+14155550100"))]),
            (true, vec![(Email, address("jane@example.com"))]),
            (true, vec![(Sms, on_file())]),
            (
                true,
                vec![
                    (Sms, number("+14155550100")),
                    (Voice, number("+14155550100")),
                    (Whatsapp, number("+14155550100")),
                ],
            ),
            (false, vec![(Sms, number("+14155550100")), (Sms, number("+14155550101"))]),
            (false, vec![(Sms, number("+14155550100")), (Email, address("jane@example.com"))]),
            (false, vec![(Email, address("jane@example.com")), (Email, address("joe@example.com"))]),
            (false, vec![(Sms, number("+14155550100")), (Voice, on_file())]),
            (false, vec![(Sms, on_file()), (Sms, number("+14155550100"))]),
            (false, vec![(Sms, on_file()), (Email, on_file())]),
        ] {
            let mut faults = Violations::default();
            let asked = given.iter().map(|(channel, destination)| proto::Destination {
                channel: (*channel).into(),
                destination: destination.clone(),
                challenge_option_id: String::new(),
            });
            let destinations = destinations(&mut faults, asked.collect());
            assert_eq!(destinations.len(), given.len());
            are_one_contact(&mut faults, &destinations);
            let fields: Vec<String> = faults.into_iter().map(|fault| fault.field).collect();
            assert_eq!(fields, if are_one { vec![] } else { vec!["destinations"] });
        }
    }
}
