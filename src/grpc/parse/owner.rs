//! Whose lockout an operator means.

use super::{FieldReason, Violations, values};
use crate::{
    domain::{
        destination::{Destination, Mailbox, MalformedDestination, PhoneNumber},
        ids::AccountId,
    },
    service::request::LockoutOwner,
};

/// Exactly one of the three.
pub(super) fn owner(faults: &mut Violations, account: &str, number: &str, address: &str) -> Option<LockoutOwner> {
    match (account, number, address) {
        ("", "", "") => {
            faults.add("account_id", FieldReason::MissingRequiredField, "or a contact is required");
            None
        }
        (account, "", "") => values::id(faults, "account_id", account, AccountId::parse).map(LockoutOwner::Account),
        ("", number, "") => contact(faults, "phone_number", PhoneNumber::parse(number).map(Destination::Phone)),
        ("", "", address) => contact(faults, "email_address", Mailbox::parse(address).map(Destination::Email)),
        _ => {
            faults.invalid("account_id", "must be the only one of account_id, phone_number and email_address");
            None
        }
    }
}

fn contact(
    faults: &mut Violations,
    field: &str,
    parsed: Result<Destination, MalformedDestination>,
) -> Option<LockoutOwner> {
    parsed.map(LockoutOwner::Contact).map_err(|malformed| faults.invalid(field, malformed.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(account: &str, number: &str, address: &str) -> Result<LockoutOwner, Vec<(String, FieldReason)>> {
        let mut faults = Violations::default();
        let owner = owner(&mut faults, account, number, address);
        let faults: Vec<_> = faults.into_iter().map(|fault| (fault.field, fault.reason)).collect();
        assert_eq!(owner.is_none(), !faults.is_empty());
        owner.ok_or(faults)
    }

    #[test]
    fn an_owner_is_an_account_or_one_contact() {
        let account = LockoutOwner::Account(AccountId::parse("jane").unwrap());
        let number = LockoutOwner::Contact(Destination::Phone(PhoneNumber::parse("+14155550100").unwrap()));
        let address = LockoutOwner::Contact(Destination::Email(Mailbox::parse("jane@example.com").unwrap()));
        assert_eq!(found("jane", "", ""), Ok(account));
        assert_eq!(found("", "+14155550100", ""), Ok(number));
        assert_eq!(found("", "", "jane@example.com"), Ok(address));
    }

    #[test]
    fn what_names_no_owner_or_several_is_refused() {
        use FieldReason::{InvalidFieldValue, MissingRequiredField};
        for (account, number, address, field, reason) in [
            ("", "", "", "account_id", MissingRequiredField),
            ("a b", "", "", "account_id", InvalidFieldValue),
            ("", "4155550100", "", "phone_number", InvalidFieldValue),
            ("", "", "jane", "email_address", InvalidFieldValue),
            ("jane", "+14155550100", "", "account_id", InvalidFieldValue),
            ("", "+14155550100", "jane@example.com", "account_id", InvalidFieldValue),
            ("jane", "+14155550100", "jane@example.com", "account_id", InvalidFieldValue),
        ] {
            assert_eq!(found(account, number, address), Err(vec![(field.to_owned(), reason)]));
        }
    }
}
