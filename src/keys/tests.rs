//! Known answers: the functions that keys are used with, against Wycheproof's vectors.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

use super::{Prf, ring, seal};

/// The fields of the vectors in a file, one vector a line; a minus is an empty field.
fn vectors<const FIELDS: usize>(file: &'static str) -> Vec<[&'static str; FIELDS]> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let fields = |line: &'static str| line.split(' ').collect::<Vec<_>>().try_into().expect("fields");
    lines.map(fields).collect()
}

fn bytes(field: &str) -> Vec<u8> {
    let digits = if field == "-" { "" } else { field };
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.as_bytes().chunks(2).map(byte).collect()
}

fn array<const LENGTH: usize>(field: &str) -> [u8; LENGTH] {
    bytes(field).try_into().expect("length")
}

#[test]
fn names_and_codes_are_hmac_sha256() {
    let vectors = vectors::<4>(include_str!("../../tests/vectors/hmac_sha256.txt"));
    assert_eq!(vectors.len(), 162);
    for [verdict, key, message, tag] in vectors {
        let output = Prf::new(&array(key)).output(&bytes(message));
        let tag = bytes(tag);
        assert_eq!(output.starts_with(&tag), verdict == "valid", "{key} {message}");
    }
}

#[test]
fn keys_are_derived_by_hkdf_sha256() {
    let vectors = vectors::<6>(include_str!("../../tests/vectors/hkdf_sha256.txt"));
    assert_eq!(vectors.len(), 86);
    for [verdict, master, salt, purpose, length, output] in vectors {
        let mut key = vec![0; length.parse().expect("length")];
        let expanded = ring::expand(&bytes(master), &bytes(salt), &bytes(purpose), &mut key);
        assert_eq!(expanded, verdict == "valid", "{master} {length}");
        assert!(!expanded || key == bytes(output), "{master} {salt} {purpose}");
    }
}

#[test]
fn records_are_sealed_with_xchacha20_poly1305() {
    let vectors = vectors::<7>(include_str!("../../tests/vectors/xchacha20_poly1305.txt"));
    assert_eq!(vectors.len(), 306);
    for [verdict, key, nonce, associated, text, sealed, tag] in vectors {
        let cipher = XChaCha20Poly1305::new(&array::<32>(key).into());
        let (nonce, associated, tag) = (array(nonce), bytes(associated), array(tag));
        let mut opened = bytes(sealed);
        let is_whole = seal::decrypt(&cipher, nonce, &associated, &mut opened, tag);
        assert_eq!(is_whole, verdict == "valid", "{key} {sealed}");
        if is_whole {
            assert_eq!(opened, bytes(text), "{key} {sealed}");
            let made = seal::encrypt(&cipher, nonce, &associated, &mut opened).expect("a tag");
            assert_eq!((opened, made), (bytes(sealed), tag), "{key} {text}");
        }
    }
}
