//! The text of a body, in whatever encoding it came.
//!
//! JSON is UTF-8 without a byte order mark (RFC 8259, 8.1); old gateways write one, or UTF-16, or a charset of their own. What
//! an answer means must not depend on that.

use std::borrow::Cow;

/// The text of a body with this `Content-Type`. Bytes that the encoding does not have are shown as U+FFFD.
pub(super) fn text<'a>(content_type: &str, body: &'a [u8]) -> Cow<'a, str> {
    match body {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest),
        [0xFF, 0xFE, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)),
        [0xFE, 0xFF, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)),
        // A text begins with an ASCII character, so a zero byte there tells the order of the others (RFC 4627, 3).
        [first, 0, ..] if *first != 0 => Cow::Owned(utf16(body, u16::from_le_bytes)),
        [0, second, ..] if *second != 0 => Cow::Owned(utf16(body, u16::from_be_bytes)),
        _ if is_latin(content_type) && std::str::from_utf8(body).is_err() => {
            Cow::Owned(body.iter().copied().map(char::from).collect())
        }
        _ => String::from_utf8_lossy(body),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit);
    char::decode_utf16(units).map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Whether the charset is one in which each byte is the character of that number, at least for letters.
fn is_latin(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    ["iso-8859-1", "latin1", "windows-1252"].iter().any(|name| content_type.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_whatever_its_encoding() {
        let little: Vec<u8> = "{\"é\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "{\"é\":1}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = |mark: &[u8], rest: &[u8]| [mark, rest].concat();
        for (charset, body) in [
            ("", "{\"é\":1}".as_bytes().to_vec()),
            ("; charset=iso-8859-1", "{\"é\":1}".as_bytes().to_vec()),
            ("", marked(&[0xEF, 0xBB, 0xBF], "{\"é\":1}".as_bytes())),
            ("", marked(&[0xFF, 0xFE], &little)),
            ("", marked(&[0xFE, 0xFF], &big)),
            ("; charset=utf-16le", little),
            ("; charset=utf-16be", big),
            ("; charset=\"ISO-8859-1\"", vec![b'{', b'"', 0xE9, b'"', b':', b'1', b'}']),
        ] {
            assert_eq!(text(&format!("application/json{charset}"), &body), "{\"é\":1}", "{charset} {body:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_shown_as_such() {
        assert_eq!(text("", &[b'a', 0xE9, b'b']), "a\u{FFFD}b");
        assert_eq!(text("", &[0xFF, 0xFE, 0x00]), "");
        assert_eq!(text("", &[]), "");
        assert_eq!(text("", &[0, 0, 0]), "\0\0\0");
    }
}
