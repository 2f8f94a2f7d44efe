//! What no fixture shows: settings, and alarms.

use http::HeaderMap;

use super::*;
use crate::{providers::adapter::settings::adapter_of, settings::ConfigErrors};

const GOOD: &str = "pg_instance_id = '1'\nmerchant_id = '2'\napi_key = 'k'\n";

fn adapter(settings: &str) -> Result<WibmoRupay, ConfigErrors> {
    adapter_of(settings, read)
}

#[test]
fn settings_that_are_wrong_are_all_reported() {
    let errors = adapter("generate_path = 'x'\nverify_path = 'y'").err().unwrap().0;
    let settings: Vec<&str> = errors.iter().map(|error| error.setting.as_str()).collect();
    let expected = ["base_url", "generate_path", "verify_path", "pg_instance_id", "merchant_id", "api_key"];
    assert_eq!(settings, expected);
}

#[test]
fn card_numbers_do_not_travel_in_the_open() {
    let base = |url: &str| adapter(&format!("{GOOD}base_url = '{url}'"));
    assert_eq!(base("http://gateway.example").err().unwrap().0.len(), 1);
    assert!(base("https://gateway.example").is_ok() && base("http://127.0.0.1:8080").is_ok());
}

#[test]
fn the_header_names_the_same_instance_unless_told() {
    let adapter = adapter(&format!("{GOOD}base_url = 'https://gateway.example'")).unwrap();
    assert_eq!(adapter.header_instance, "1");
}

#[test]
fn refused_credentials_are_alarms() {
    let adapter = adapter(&format!("{GOOD}base_url = 'https://gateway.example'")).unwrap();
    let alarm = |code: &str| {
        let body = format!(r#"{{"status":"failed","errorcode":"{code}"}}"#).into_bytes();
        adapter.alarm(&Inbound { status: 200, headers: HeaderMap::new(), body })
    };
    assert!(alarm("406").is_some() && alarm("407").is_some());
    assert!(["00", "01", "07", "13", "450", "503", "9"].iter().all(|code| alarm(code).is_none()));
}
