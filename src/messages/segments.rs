//! The size of a text as a short message (3GPP TS 23.038): a segment has 160 septets of the GSM 7 bit default alphabet, or 70
//! code units of UCS-2 as soon as one character is outside of that alphabet.

/// The alphabet of TS 23.038, section 6.2.1, without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§\
                     ¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Its extension, section 6.2.1.1: each character is an escape and a septet.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

const SEPTETS: usize = 160;
const CODE_UNITS: usize = 70;

/// The size of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Septets, or code units of UCS-2.
    pub(super) units: usize,
    /// The first character that GSM-7 does not have. `None`: the text is in GSM-7.
    pub(super) foreign: Option<char>,
}

impl Size {
    /// Measures a text.
    pub(super) fn of(text: &str) -> Self {
        match text.chars().find(|c| septets(*c).is_none()) {
            None => Self { units: text.chars().filter_map(septets).sum(), foreign: None },
            foreign => Self { units: text.encode_utf16().count(), foreign },
        }
    }

    /// How many units one segment has.
    pub(super) fn room(&self) -> usize {
        if self.foreign.is_none() { SEPTETS } else { CODE_UNITS }
    }

    /// Whether it is more than one segment.
    pub(super) fn overflows(&self) -> bool {
        self.units > self.room()
    }
}

/// How many septets a character takes, if GSM-7 has it.
fn septets(c: char) -> Option<usize> {
    match c {
        _ if BASIC.contains(c) => Some(1),
        _ if EXTENSION.contains(c) => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> (usize, Option<char>, bool) {
        let size = Size::of(text);
        (size.units, size.foreign, size.overflows())
    }

    #[test]
    fn the_alphabet_is_complete() {
        assert_eq!(BASIC.chars().count(), 127, "128 characters, less the escape");
        assert_eq!(EXTENSION.chars().count(), 10);
        let mut all: Vec<char> = BASIC.chars().chain(EXTENSION.chars()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 137);
    }

    /// Goal: no character is counted wrongly. Method: all characters, against a table of another origin.
    #[test]
    fn the_alphabet_is_that_of_another_table() {
        let lines = include_str!("../../tests/vectors/gsm_7.txt").lines().filter(|line| !line.starts_with('#'));
        let table: std::collections::BTreeMap<char, usize> = lines
            .map(|line| {
                let (units, point) = line.split_once(' ').expect("two fields");
                let point = u32::from_str_radix(point, 16).expect("hexadecimal");
                (char::from_u32(point).expect("a character"), units.len() / 2)
            })
            .collect();
        assert_eq!(table.len(), 137);
        for c in '\0'..=char::MAX {
            assert_eq!(septets(c), table.get(&c).copied(), "{c:?}");
        }
    }

    #[test]
    fn known_lengths() {
        assert_eq!(size(""), (0, None, false));
        assert_eq!(size(&"a".repeat(160)), (160, None, false));
        assert_eq!(size(&"a".repeat(161)), (161, None, true));
        assert_eq!(size(&"ä".repeat(160)), (160, None, false));
        assert_eq!(size(&"€".repeat(80)), (160, None, false));
        assert_eq!(size(&format!("{}€", "a".repeat(159))), (161, None, true));
        assert_eq!(size("12.50 €\n"), (9, None, false));
        assert_eq!(size(&"я".repeat(70)), (70, Some('я'), false));
        assert_eq!(size(&"я".repeat(71)), (71, Some('я'), true));
        assert_eq!(size(&format!("{}ç", "a".repeat(70))), (71, Some('ç'), true), "GSM-7 has Ç only");
        assert_eq!(size(&"😀".repeat(35)), (70, Some('😀'), false));
        assert_eq!(size(&"😀".repeat(36)), (72, Some('😀'), true));
        assert_eq!(size("it`s ’"), (6, Some('`'), false));
    }
}
