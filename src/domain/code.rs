//! One-time codes. A code is never stored: it is made again, from a PRF, whenever it is needed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{canonical::Canonical, transaction::Transaction};
use crate::secret::Secret;

/// The longest code that is compared, in bytes: the contract's 16 characters.
const MAX_TYPED: usize = 16;

/// Who makes and checks a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeOwner {
    /// otpd does; the provider delivers it.
    Otpd,
    Provider {
        /// Whether asking it twice about one typed code is safe: it answers the second time as the first.
        check_repeatable: bool,
    },
}

/// The digest of a transaction: amount, currency, payee and reference.
pub(super) fn digest(transaction: &Transaction) -> [u8; 32] {
    Sha256::digest(encode(transaction)).into()
}

/// The canonical encoding of a transaction.
pub fn encode(transaction: &Transaction) -> Vec<u8> {
    Canonical::new("otpd transaction v1")
        .bytes(&transaction.amount.micros.to_be_bytes())
        .text(&transaction.amount.currency)
        .text(&transaction.payee)
        .text(&transaction.reference)
        .finish()
}

/// Reduces the PRF's output to decimal digits, as RFC 4226 section 5.3 does with 31 bits, here with 64: some codes are likelier
/// than others by at most `10^digits / 2^64`, which for 10 digits is less than one part in a thousand million.
pub fn reduce(prf: &[u8; 32], digits: u8) -> Secret<String> {
    let number = prf.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let modulus = 10_u64.pow(u32::from(digits.clamp(1, 19)));
    let width = usize::from(digits);
    Secret::new(format!("{:0width$}", number % modulus))
}

/// The code digit by digit, `7, 0, 4, 3`: a voice that reads `7043` says one number.
pub(crate) fn spelled(code: &str) -> String {
    let mut spelled = String::with_capacity(3 * code.len());
    for digit in code.chars() {
        if !spelled.is_empty() {
            spelled.push_str(", ");
        }
        spelled.push(digit);
    }
    spelled
}

/// Compares what was typed with the code, in the same time whatever they are.
pub fn matches(code: &Secret<String>, typed: &Secret<String>) -> bool {
    let (code, typed) = (padded(code.expose()), padded(typed.expose()));
    code.ct_eq(&typed).into()
}

/// Of one length, with the true length in front, so that only the true text compares equal.
fn padded(text: &str) -> [u8; MAX_TYPED + 1] {
    let mut padded = [0; MAX_TYPED + 1];
    let length = u8::try_from(text.len().min(MAX_TYPED + 1)).unwrap_or(u8::MAX);
    let bytes = std::iter::once(length).chain(text.bytes());
    padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelled_digit_by_digit() {
        assert_eq!(spelled("0743"), "0, 7, 4, 3");
        assert_eq!((spelled("7"), spelled("")), ("7".to_owned(), String::new()));
    }
}
