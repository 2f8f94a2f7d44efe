//! The HTML part of mails, beside the text: a page of the operator's with the message in it.

use crate::{ports::provider::Message, secret::Secret, settings::Section};

const TEXT: &str = "{{text}}";
const CODE: &str = "{{code}}";

/// The longest page, in bytes.
const MAX_PAGE: usize = 100_000;

/// A page with places for the message and the code.
#[derive(Clone)]
pub(super) struct HtmlPart(String);

impl HtmlPart {
    /// Reads `html`; `None` where mails have no such part.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        section.optional_text("html", |text| {
            let shows = text.contains(TEXT);
            let fits = text.len() <= MAX_PAGE && shows && text.replace(TEXT, "").replace(CODE, "").find("{{").is_none();
            if fits { Ok(Self(text.to_owned())) } else { Err(format!("must be HTML with {TEXT}, and perhaps {CODE}")) }
        })
    }

    /// The page with a message in it.
    pub(super) fn fill(&self, message: &Message) -> Secret<String> {
        let text = escaped(message.text.expose()).replace('\n', "<br>\n");
        // The code is digits, so it can bring no placeholder and no markup; the text comes last, for it may.
        Secret::new(self.0.replace(CODE, &escaped(message.code.expose())).replace(TEXT, &text))
    }
}

/// A text as HTML shows it (HTML, 13.3 "Serializing HTML fragments").
fn escaped(text: &str) -> String {
    let entities = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")];
    entities.iter().fold(text.to_owned(), |text, (character, entity)| text.replace(*character, entity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::adapter_of;

    fn page(html: &str) -> Result<HtmlPart, String> {
        let settings = format!("html = '{html}'");
        adapter_of(&settings, HtmlPart::read).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_page_shows_the_message_and_nothing_in_it_is_markup() {
        let page = page("<b>{{code}}</b><p>{{text}}</p>").unwrap();
        let secret = |text: &str| Secret::new(text.to_owned());
        let message = Message { code: secret("123456"), text: secret("123456 for <i>A&B</i> {{code}}\nNow") };
        let expected = "<b>123456</b><p>123456 for &lt;i&gt;A&amp;B&lt;/i&gt; {{code}}<br>\nNow</p>";
        assert_eq!(page.fill(&message).expose(), expected);
    }

    #[test]
    fn a_page_without_the_message_is_refused() {
        for wrong in ["<p>{{code}}</p>", "<p>{{text}}{{name}}</p>"] {
            assert!(page(wrong).err().unwrap().starts_with("html: must be HTML with {{text}}"), "{wrong}");
        }
    }
}
