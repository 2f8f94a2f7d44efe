//! `[messages]` and `[messages.templates.NAME]`: the texts of messages.

use crate::{
    domain::{destination::Channel, ids::Tenant, purpose::Purpose, route::Scope},
    messages::{
        Messages,
        sms_suffix::SmsSuffix,
        templates::{self, Template},
    },
    settings::{Section, values},
};

const MAX_BRAND: usize = 50;
const MAX_TEMPLATES: usize = 1000;

/// Reads `[messages]`.
pub(super) fn read(section: &mut Section<'_>) -> Messages {
    let diagnostics = section.diagnostics();
    let brand = section.optional_text("brand", brand);
    // Where the brand is wrong, templates that use it are not reported as well.
    let brand = brand.or_else(|| diagnostics.is_wrong("messages.brand").then(String::new));
    let origin = section.optional_text("webotp_domain", SmsSuffix::origin_bound);
    let retriever = section.optional_text("sms_retriever_hash", SmsSuffix::sms_retriever);
    if origin.is_some() && retriever.is_some() {
        let message = "set too is messages.webotp_domain, and each has to be the last line: set one of them";
        section.cross_field_error("sms_retriever_hash", message);
    }
    let templates = section.section("templates", |section| {
        let names = section.names();
        if names.len() > MAX_TEMPLATES {
            diagnostics.add(section.path(), format!("must be at most {MAX_TEMPLATES}"));
        }
        names.into_iter().filter_map(|name| section.section(&name, |section| read_template(section, &name))).collect()
    });
    Messages::new(brand, origin.or(retriever).unwrap_or_default(), templates).unwrap_or_else(|faults| {
        for fault in faults {
            diagnostics.add(&format!("messages.templates.{}.text", fault.template), fault.message);
        }
        Messages::default()
    })
}

fn read_template(section: &mut Section<'_>, name: &str) -> Option<Template> {
    let purposes = Purpose::ALL.map(|purpose| (purpose.name(), purpose));
    let channels = Channel::ALL.map(|channel| (channel.name(), channel));
    let scope = Scope {
        tenant: section.optional_text("tenant", |text| Tenant::parse(text).map_err(|malformed| malformed.to_string())),
        purpose: section.optional_text("purpose", values::word(&purposes)),
        channel: section.optional_text("channel", values::word(&channels)),
        prefix: String::new(),
    };
    let locale = section.optional_text("locale", templates::locale);
    // A text over several lines ends with the line break before its closing quotes.
    let text = section.text("text", |text| Ok(text.trim_end().to_owned()));
    if text.is_none() {
        section.missing("text", "the text, such as \"{{ code }} is your code.\"");
    }
    // Which variables the text may hold depends on its purpose, so it is not checked while another key is wrong.
    let judged = !section.diagnostics().is_wrong_within(section.path());
    text.filter(|_| judged).map(|text| Template { name: name.to_owned(), scope, locale, text })
}

fn brand(text: &str) -> Result<String, String> {
    let fits = text.chars().count() <= MAX_BRAND && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(format!("must be at most {MAX_BRAND} characters, in one line")) }
}
