//! Kinds of Unicode characters that matter in what people type and read.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{BidiControl, Dash, DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};

/// The longest run of decimal digits without a gap: the mathematical ones, five styles in a row.
const LONGEST_RUN: usize = 50;

/// A decimal digit of any script as the ASCII digit of the same value; any other character as it is.
pub(super) fn with_ascii_digit(character: char) -> char {
    if character.is_ascii() || !is_decimal_digit(u32::from(character)) {
        return character;
    }
    // Unicode encodes decimal digits in runs from 0 to 9, so the distance to the start of the run tells the value.
    let before = (0..u32::from(character)).rev().take(LONGEST_RUN).take_while(|code| is_decimal_digit(*code)).count();
    let value = u32::try_from(before % 10).ok().and_then(|value| char::from_digit(value, 10));
    value.unwrap_or(character)
}

fn is_decimal_digit(code: u32) -> bool {
    CodePointMapData::<GeneralCategory>::new().get32(code) == GeneralCategory::DecimalNumber
}

/// Dashes and hyphens, with which codes are grouped.
pub(super) fn is_dash(character: char) -> bool {
    CodePointSetData::new::<Dash>().contains(character) || DASH_LIKE.contains(&character)
}

/// What is typed for a dash and is none to Unicode: the long mark of Japanese keyboards and its half-width form, the heavy minus
/// sign, and the minus of phonetics.
const DASH_LIKE: [char; 4] = ['\u{30fc}', '\u{ff70}', '\u{2796}', '\u{2d7}'];

/// Characters without a shape of their own: joiners, fillers, variation selectors, marks of direction and of format.
pub(super) fn is_invisible(character: char) -> bool {
    let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character);
    is_ignorable || category(character) == GeneralCategory::Format
}

/// The frame of a keycap, as in `4️⃣`.
pub(super) fn is_keycap(character: char) -> bool {
    character == '\u{20e3}'
}

/// Letters, numbers, punctuation and symbols that have a shape. Marks alone have none, and what a character for private use or
/// one that is not assigned looks like, nobody knows.
pub(super) fn is_visible(character: char) -> bool {
    let has_shape = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::Number)
        .union(GeneralCategoryGroup::Punctuation)
        .union(GeneralCategoryGroup::Symbol)
        .contains(category(character));
    // It stands for a picture that is not there.
    let is_stand_in = character == '\u{fffc}';
    has_shape && !is_invisible(character) && !is_blank(character) && !is_stand_in
}

fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

/// Characters that leave a place empty: blanks, the Braille pattern without dots, the full and half blank of Egyptian
/// hieroglyphs, and the note without a head of music.
pub(super) fn is_blank(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{2800}' | '\u{13441}' | '\u{13442}' | '\u{1d159}')
}

/// Marks that turn the direction of the text around them.
pub(super) fn is_direction_mark(character: char) -> bool {
    CodePointSetData::new::<BidiControl>().contains(character)
}

/// Characters that end a line or a paragraph, and other controls.
pub(super) fn is_break(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// A text on one line and in its own direction: breaks become blanks, and marks that turn the direction are left out.
pub(super) fn on_one_line(text: &str) -> String {
    let kept = text.chars().filter(|character| !is_direction_mark(*character));
    kept.map(|character| if is_break(character) { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_any_script_have_their_value() {
        let ascii = |text: &str| -> String { text.chars().map(with_ascii_digit).collect() };
        for text in [
            "0123456789",
            "٠١٢٣٤٥٦٧٨٩",
            "۰۱۲۳۴۵۶۷۸۹",
            "०१२३४५६७८९",
            "๐๑๒๓๔๕๖๗๘๙",
            "０１２３４５６７８９",
            "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
            "𝟶𝟷𝟸𝟹𝟺𝟻𝟼𝟽𝟾𝟿",
        ] {
            assert_eq!(ascii(text), "0123456789");
        }
        // Other kinds of numbers stay what they are.
        assert_eq!(ascii("²½①四Ⅳ/:aＡ"), "²½①四Ⅳ/:aＡ");
    }

    /// Goal: the value of a digit may be told from its place in a run. Method: all characters, by their runs.
    #[test]
    fn decimal_digits_stand_in_runs_of_ten() {
        let mut run = 0;
        for code in 0..=u32::from(char::MAX) {
            if is_decimal_digit(code) {
                run += 1;
                assert!(run <= LONGEST_RUN, "{code:x}");
            } else {
                assert_eq!(run % 10, 0, "{code:x}");
                run = 0;
            }
        }
    }

    /// Goal: nothing that keyboards and copying add to a code is in its way. Method: all characters, by their category.
    #[test]
    fn whole_categories_are_of_a_kind() {
        for character in '\0'..=char::MAX {
            let code = u32::from(character);
            match category(character) {
                GeneralCategory::SpaceSeparator => assert!(is_blank(character), "{code:x}"),
                GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
                    assert!(is_blank(character) && is_break(character), "{code:x}");
                }
                GeneralCategory::DashPunctuation => assert!(is_dash(character), "{code:x}"),
                GeneralCategory::Format => assert!(is_invisible(character) && !is_visible(character), "{code:x}"),
                GeneralCategory::DecimalNumber => assert!(with_ascii_digit(character).is_ascii_digit(), "{code:x}"),
                GeneralCategory::Control => assert!(is_break(character) && !is_visible(character), "{code:x}"),
                GeneralCategory::PrivateUse | GeneralCategory::Unassigned => {
                    assert!(!is_visible(character), "{code:x}");
                }
                _ => assert!(!is_break(character), "{code:x}"),
            }
        }
    }

    #[test]
    fn kinds_do_not_take_letters_digits_or_controls() {
        for character in ('0'..='9').chain('a'..='z').chain('A'..='Z').chain(['\0', '\u{1b}', '.', '_']) {
            let taken = [is_dash, is_invisible, is_blank, is_direction_mark].map(|is_kind| is_kind(character));
            assert_eq!(taken, [false; 4], "{character:?}");
        }
        for character in ['-', '\u{2010}', '\u{2013}', '\u{2212}', '\u{ff0d}', '\u{30fc}', '\u{ff70}', '\u{2796}'] {
            assert!(is_dash(character), "{character:?}");
        }
        for character in ['\u{ad}', '\u{200b}', '\u{200e}', '\u{202e}', '\u{2060}', '\u{fe0f}', '\u{feff}'] {
            assert!(is_invisible(character), "{character:?}");
        }
    }
}
