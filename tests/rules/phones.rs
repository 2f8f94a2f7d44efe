//! Phone numbers: one spelling for each phone.

use otpd::domain::destination::{Destination, MalformedDestination, PhoneNumber};
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};

const TYPES: [PhoneNumberType; 10] = [
    PhoneNumberType::FixedLine,
    PhoneNumberType::Mobile,
    PhoneNumberType::TollFree,
    PhoneNumberType::PremiumRate,
    PhoneNumberType::SharedCost,
    PhoneNumberType::VoIP,
    PhoneNumberType::PersonalNumber,
    PhoneNumberType::Pager,
    PhoneNumberType::UAN,
    PhoneNumberType::VoiceMail,
];

/// Google's example numbers in E.164, each with the length of its country code: of all regions and types, and of the codes of
/// no country.
fn examples() -> Vec<(String, usize)> {
    let util = &*PHONE_NUMBER_UTIL;
    let of_regions = util.get_supported_regions().flat_map(|region| {
        TYPES.into_iter().filter_map(move |kind| util.get_example_number_for_type_and_region(region, kind).ok())
    });
    let codes = util.get_supported_global_network_calling_codes();
    let of_no_country = codes.filter_map(|code| util.get_example_number_for_non_geo_entity(code).ok());
    let written = |number: rlibphonenumber::PhoneNumber| {
        let text = util.format(&number, PhoneNumberFormat::E164).to_string();
        (text, number.country_code.to_string().len())
    };
    of_regions.chain(of_no_country).map(written).collect()
}

#[test]
fn every_example_number_is_taken() {
    let examples = examples();
    assert!(examples.len() >= 1100, "{}", examples.len());
    for (example, _) in examples {
        assert!(PhoneNumber::parse(&example).is_ok(), "{example}");
    }
}

/// A 0 after the country code is a trunk prefix everywhere but where numbers of the country begin with 0: in Italy another
/// subscriber's, on Ascension a number for businesses.
#[test]
fn no_example_number_has_a_trunk_prefix() {
    for (example, code) in examples() {
        let (code, within) = example.split_at(1 + code);
        let prefixed = format!("{code}0{within}");
        if !matches!(code, "+39" | "+247") {
            assert_eq!(PhoneNumber::parse(&prefixed), Err(MalformedDestination::PhoneNumber), "{prefixed}");
        }
    }
}

/// Numbers of countries, with what is dialled before them within the country: trunk, carrier and mobile prefixes.
const NUMBERS: &[(&str, &str, &[&str])] = &[
    ("1", "4155550100", &["1", "0", "01"]),
    ("7", "9161234567", &["8", "0"]),
    ("20", "1001234567", &["0"]),
    ("27", "711234567", &["0"]),
    ("30", "6912345678", &["0"]),
    ("31", "612345678", &["0"]),
    ("32", "470123456", &["0"]),
    ("33", "639980001", &["0"]),
    ("34", "612345678", &["0"]),
    ("36", "201234567", &["06", "0"]),
    ("39", "3123456789", &["00"]),
    ("40", "712034567", &["0"]),
    ("41", "781234567", &["0"]),
    ("43", "664123456", &["0"]),
    ("44", "7700900123", &["0", "44", "0044"]),
    ("45", "34412345", &["0"]),
    ("46", "701234567", &["0"]),
    ("47", "40612345", &["0"]),
    ("48", "512345678", &["0"]),
    ("49", "15123456789", &["0"]),
    ("51", "912345678", &["0"]),
    ("52", "5512345678", &["1", "01", "044", "045"]),
    ("54", "91123456789", &["0"]),
    ("55", "11961234567", &["0", "015", "041"]),
    ("56", "221234567", &["0"]),
    ("57", "3211234567", &["0", "03"]),
    ("60", "123456789", &["0"]),
    ("61", "491570006", &["0", "61"]),
    ("62", "812345678", &["0"]),
    ("63", "9051234567", &["0"]),
    ("64", "211234567", &["0"]),
    ("65", "81234567", &["0"]),
    ("66", "812345678", &["0"]),
    ("81", "9012345678", &["0"]),
    ("82", "1020000000", &["0"]),
    ("84", "912345678", &["0"]),
    ("86", "13123456789", &["0", "17951"]),
    ("90", "5012345678", &["0"]),
    ("91", "9876543210", &["0", "91", "0091"]),
    ("92", "3012345678", &["0", "92"]),
    ("94", "712345678", &["0"]),
    ("98", "9123456789", &["0"]),
    ("212", "650123456", &["0"]),
    ("234", "8021234567", &["0"]),
    ("254", "712123456", &["0"]),
    ("351", "912345678", &["0"]),
    ("353", "850123456", &["0"]),
    ("358", "412345678", &["0"]),
    ("370", "61234567", &["8", "0"]),
    ("375", "294911911", &["80", "8", "0"]),
    ("380", "501234567", &["0"]),
    ("420", "601123456", &["0"]),
    ("852", "51234567", &["0"]),
    ("880", "1812345678", &["0"]),
    ("886", "912345678", &["0"]),
    ("966", "512345678", &["0"]),
    ("971", "501234567", &["0"]),
    ("972", "502345678", &["0"]),
    ("977", "9841234567", &["0"]),
    ("998", "912345678", &["0", "8"]),
];

/// Goal: spelling makes no second destination. Method: for numbers of 60 countries, one text is taken and all others are refused.
#[test]
fn a_number_has_one_spelling() {
    for (code, number, prefixes) in NUMBERS {
        let right = format!("+{code}{number}");
        assert!(PhoneNumber::parse(&right).is_ok(), "{right}");
        let (first, last) = number.split_at(3);
        let wide: String = right.chars().filter_map(|c| char::from_u32(0xff10 + c.to_digit(10)?)).collect();
        let mut wrong = vec![
            format!("{code}{number}"),
            format!("00{code}{number}"),
            format!("+00{code}{number}"),
            format!("+0{code}{number}"),
            format!("++{code}{number}"),
            format!("+ {code}{number}"),
            format!(" {right}"),
            format!("{right} "),
            format!("{right}\n"),
            format!("+{code} {number}"),
            format!("+{code}-{number}"),
            format!("+{code}.{number}"),
            format!("+{code}({first}){last}"),
            format!("+{code}(0){number}"),
            format!("+{code}\u{a0}{number}"),
            format!("+{code}\u{200b}{number}"),
            format!("\u{202a}{right}\u{202c}"),
            format!("+{wide}"),
            format!("\u{ff0b}{code}{number}"),
            format!("{right}x1"),
            format!("{right};ext=1"),
            format!("{right},1"),
            format!("{right}#1"),
            format!("tel:{right}"),
            format!("+{code}{first}A{last}"),
            format!("+{code}"),
            "+".to_owned(),
        ];
        wrong.extend(prefixes.iter().map(|prefix| format!("+{code}{prefix}{number}")));
        for wrong in wrong {
            assert_eq!(PhoneNumber::parse(&wrong), Err(MalformedDestination::PhoneNumber), "{wrong:?}");
        }
    }
}

#[test]
fn what_is_possible_is_taken() {
    for good in [
        "+15555550123",
        "+442079460000",
        "+4930123456",
        "+390236618300",
        "+3780549886377",
        "+2290197123456",
        "+2290112345678",
        "+22997123456",
        "+2250101234567",
        "+242061234567",
        "+24106031234",
        "+541123456789",
        "+5491123456789",
        "+525512345678",
        "+80012345678",
        "+870773111632",
        "+989601",
    ] {
        assert!(PhoneNumber::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "+0123456789",
        "+999123456789",
        "+1415555",
        // Seven digits reach a phone only within its area.
        "+15550100",
        "+1234567890123456",
        "+1415555010O",
        // Numbers that their countries have replaced.
        "+5215512345678",
        "+22507080910",
        "+378886377",
    ] {
        assert_eq!(PhoneNumber::parse(bad), Err(MalformedDestination::PhoneNumber), "{bad}");
    }
}

#[test]
fn the_old_and_the_new_number_of_a_phone_are_one_destination() -> Result<(), MalformedDestination> {
    let canonical = |text| PhoneNumber::parse(text).map(|number| Destination::Phone(number).canonical());
    for (old, new) in [
        ("+22940123456", "+2290140123456"),
        ("+24106031234", "+24166031234"),
        ("+841691234567", "+84391234567"),
        ("+551187654321", "+5511987654321"),
        ("+5712345678", "+576012345678"),
        ("+5491123456789", "+541123456789"),
        ("+972591234567", "+970591234567"),
        ("+37744123456", "+38344123456"),
        ("+390549886377", "+3780549886377"),
    ] {
        assert_eq!(canonical(old)?.as_deref(), Some(new));
        assert_eq!(canonical(new)?.as_deref(), Some(new));
        // What is sent to stays what was given.
        assert_eq!(PhoneNumber::parse(old)?.expose(), old);
    }
    Ok(())
}
