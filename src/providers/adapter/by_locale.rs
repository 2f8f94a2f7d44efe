//! Settings that differ with the language of the reader, such as the subjects of mails.

use crate::{
    domain::locale::{self, Language},
    settings::Section,
};

/// The most languages of one setting.
const MAX_LANGUAGES: usize = 200;

/// A setting with values of its own for some languages.
#[derive(Clone, Debug)]
pub(in crate::providers) struct ByLocale<T> {
    otherwise: T,
    values: Vec<(Language, T)>,
}

impl<T> ByLocale<T> {
    /// Reads a table of values by language, such as `subjects.pt-BR`; `otherwise` is the value for all who read none of them.
    pub(in crate::providers) fn read(
        section: &mut Section<'_>,
        table: &str,
        otherwise: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Self {
        let values = section.section(table, |section| {
            let names = section.names();
            if names.len() > MAX_LANGUAGES {
                section.diagnostics().add(section.path(), format!("must be at most {MAX_LANGUAGES}"));
            }
            names.into_iter().filter_map(|name| read_one(section, &name, &parse)).collect()
        });
        Self { otherwise, values }
    }

    /// Whether no language has a value of its own.
    pub(in crate::providers) fn is_uniform(&self) -> bool {
        self.values.is_empty()
    }

    /// The value that is nearest to a reader.
    pub(in crate::providers) fn of(&self, reader: &str) -> &T {
        let values = self.values.iter().map(|(language, value)| (language, value));
        locale::nearest(values, reader).unwrap_or(&self.otherwise)
    }
}

fn read_one<T>(
    section: &mut Section<'_>,
    name: &str,
    parse: &impl Fn(&str) -> Result<T, String>,
) -> Option<(Language, T)> {
    let language = Some(name).filter(|name| name.len() <= locale::MAX_LENGTH).and_then(Language::parse);
    section.text(name, |text| match language {
        Some(language) => parse(text).map(|value| (language, value)),
        None => Err("must be named by a BCP 47 tag, such as pt-BR or pt".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::adapter_of;

    #[expect(clippy::unnecessary_wraps, reason = "as adapters are read")]
    fn read(section: &mut Section<'_>) -> Option<ByLocale<String>> {
        let parse =
            |text: &str| if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) };
        Some(ByLocale::read(section, "words", "other".to_owned(), parse))
    }

    #[test]
    fn the_nearest_value_is_taken() {
        let words = adapter_of("words = { de = \"Wort\", pt-BR = \"palavra\", zh-hant = \"字\", no = \"ord\" }", read);
        let words = words.expect("sound");
        for (reader, expected) in [
            ("de-AT", "Wort"),
            ("pt", "palavra"),
            ("pt-PT", "palavra"),
            ("zh-TW", "字"),
            ("zh", "other"),
            ("nb-NO", "ord"),
            ("", "other"),
            ("fr", "other"),
        ] {
            assert_eq!(words.of(reader), expected, "{reader}");
        }
    }

    #[test]
    fn wrong_names_and_values_are_reported() {
        let errors =
            adapter_of("[words]\nde = \"\"\nen_US = \"word\"\nfr = 1", read).expect_err("mistakes").to_string();
        for expected in
            ["words.de: must not be empty", "words.en_US: must be named by a BCP 47", "words.fr: must be a text"]
        {
            assert!(errors.contains(expected), "{errors}");
        }
    }
}
