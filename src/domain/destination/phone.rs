//! Phone numbers in E.164.

use std::fmt;

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumberFormat};
use serde::{Deserialize, Serialize};

use super::MalformedDestination;

/// The most digits of a number, with its country code (ITU-T E.164, 6.2.1).
const MAX_DIGITS: usize = 15;

/// The codes of Ivory Coast, Benin, Gabon, Congo and San Marino: numbers there begin with 0, and there is no trunk prefix.
const WITH_ZERO: [&str; 5] = ["225", "229", "241", "242", "378"];

/// A phone number in E.164: a plus, the country code, and the number within the country.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Takes a number in its own E.164 form. With a trunk or carrier prefix after the country code, which networks would drop,
    /// or with the country code twice, it would be another text for the same phone, and is refused.
    ///
    /// The country code must exist and the length be possible there when dialled from abroad. Whether the number is assigned
    /// is the provider's to say: numbering plans change faster than any library.
    /// Fails: it is not E.164.
    pub fn parse(text: &str) -> Result<Self, MalformedDestination> {
        let digits = text.strip_prefix('+').ok_or(MalformedDestination::PhoneNumber)?;
        let shape = (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if shape && is_own_form(text) { Ok(Self(text.to_owned())) } else { Err(MalformedDestination::PhoneNumber) }
    }

    /// The number, for the provider that delivers to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether a plus and digits are the one way to write a possible number.
fn is_own_form(text: &str) -> bool {
    let Ok(number) = PHONE_NUMBER_UTIL.parse(text, None) else { return false };
    if PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164) != text {
        return false;
    }
    // A number that is possible within an area alone does not reach the phone from elsewhere.
    let is_possible = PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number) == Ok(NumberLengthType::IsPossible);
    let code = number.country_code.to_string();
    let within = text.get(1 + code.len()..).unwrap_or_default();
    // The numbers of a few more countries that may begin with 0, such as Italy's, are known to the library; anywhere else it is a
    // trunk prefix.
    let has_zero = within.starts_with('0') && !WITH_ZERO.contains(&code.as_str());
    let is_doubtful = has_zero || (within.starts_with(&code) && is_number(within));
    (is_possible && !is_doubtful) || PHONE_NUMBER_UTIL.is_valid_number(&number)
}

/// Whether digits are a number of some country.
fn is_number(digits: &str) -> bool {
    let number = PHONE_NUMBER_UTIL.parse(format!("+{digits}"), None);
    number.is_ok_and(|number| PHONE_NUMBER_UTIL.is_valid_number(&number))
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(..)")
    }
}
