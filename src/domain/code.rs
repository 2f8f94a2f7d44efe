//! One-time codes. A code is never stored: it is made again, from a PRF, whenever it is needed.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    canonical::Canonical,
    challenge::{Challenge, LiveCode, Phase},
    transaction::Transaction,
};
use crate::secret::Secret;

/// The longest code that is compared, in bytes: the contract's 16 characters.
const MAX_TYPED: usize = 16;

/// What the PRF is applied to: the challenge's nonce, the option, the generation and the digest of the bound transaction.
/// `None` once the challenge has ended, for then the nonce is gone.
pub fn material(challenge: &Challenge, code: &LiveCode) -> Option<Vec<u8>> {
    let Phase::Open(open) = &challenge.phase else { return None };
    let option = challenge.option_at(code.option)?;
    let bound = challenge.transaction.as_ref().map(digest);
    let material = Canonical::new("otpd code v1")
        .bytes(&open.nonce)
        .text(option.id.as_str())
        .number(u64::from(code.generation))
        .optional(bound.as_ref().map(<[u8; 32]>::as_slice));
    Some(material.finish())
}

/// The digest of a transaction: amount, currency, payee and reference.
fn digest(transaction: &Transaction) -> [u8; 32] {
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

    fn code(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_the_same_text_matches() {
        assert!(matches(&code("012345"), &code("012345")));
        for other in ["", "01234", "0123456", "12345", "012346", "0123450000000000", "abcdef"] {
            assert!(!matches(&code("012345"), &code(other)), "{other}");
        }
    }

    #[test]
    fn codes_keep_their_leading_zeros() {
        let mut prf = [0; 32];
        assert_eq!(reduce(&prf, 6).expose(), "000000");
        prf[7] = 42;
        assert_eq!(reduce(&prf, 6).expose(), "000042");
        assert_eq!(reduce(&prf, 10).expose(), "0000000042");
        assert_eq!(reduce(&[0xff; 32], 6).expose(), "551615", "2^64 - 1 modulo 10^6");
    }

    /// Every digit at every place is about equally likely. With 60,000 codes a place has 6,000 of each digit, give or take
    /// 73; six times that never happens by chance, and a bias like byte-modulo-10 (0 to 5 likelier by 4 %) is seen.
    #[test]
    fn digits_are_uniform() {
        let mut counts = [[0_i64; 10]; 6];
        for seed in 0_u32..60_000 {
            let prf: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
            for (place, digit) in reduce(&prf, 6).expose().bytes().enumerate() {
                counts[place][usize::from(digit - b'0')] += 1;
            }
        }
        for (place, digits) in counts.iter().enumerate() {
            for (digit, count) in digits.iter().enumerate() {
                assert!((count - 6_000).abs() < 6 * 73, "place {place}, digit {digit}: {count}");
            }
        }
    }
}
