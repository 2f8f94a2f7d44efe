//! What no fixture shows: settings, units of amounts, notes.

use super::*;
use crate::{providers::adapter::settings::adapter_of, settings::ConfigErrors};

const GOOD: &str = "client_id = 'a'\nclient_secret = 'b'\nusername = 'c'\n";

fn adapter(settings: &str) -> Result<IServeU, ConfigErrors> {
    adapter_of(settings, read)
}

#[test]
fn settings_that_are_wrong_are_all_reported() {
    let wrong = "base_url = 'http://iserveu.example'\nsend_path = 'x'\nregistration_path = 'y'\namount_unit = 'lakh'";
    let errors = adapter(wrong).err().unwrap().0;
    let settings: Vec<&str> = errors.iter().map(|error| error.setting.as_str()).collect();
    let expected =
        ["base_url", "send_path", "registration_path", "client_id", "client_secret", "username", "amount_unit"];
    assert_eq!(settings, expected);
}

#[test]
fn amounts_are_whole_in_their_unit() {
    let amount = |micros| Amount { micros, currency: "INR".to_owned() };
    assert_eq!(whole(&amount(1_001_000_000), Unit::Rupees), Ok("1001".to_owned()));
    assert_eq!(whole(&amount(1_001_000_000), Unit::Paise), Ok("100100".to_owned()));
    assert_eq!(whole(&amount(1_500_000), Unit::Paise), Ok("150".to_owned()));
    for (micros, unit) in [(1_500_000, Unit::Rupees), (1_000_001, Unit::Paise), (0, Unit::Paise)] {
        assert_eq!(
            whole(&amount(micros), unit),
            Err(RequestError::InvalidParameter("transaction.amount.amount_micros"))
        );
    }
}

#[test]
fn notes_tell_what_cannot_be_verified_and_the_development_host() {
    assert_eq!(adapter(GOOD).unwrap().notes().len(), 2);
    let live = adapter(&format!("{GOOD}base_url = 'https://iserveu.example'")).unwrap();
    assert!(live.notes().concat().contains("transactions") && live.notes().len() == 1);
}
