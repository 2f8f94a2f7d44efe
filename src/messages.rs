//! The texts of messages: the operator's templates, and the built-in text where none fits.
//!
//! [`Messages::new`] finds every error of a template, because it renders each template in all its branches. Templates may
//! hold so little (see [`templates`]) that the values of a later call cannot lead to another branch.

mod built_in;
mod segments;
pub mod sms_suffix;
pub mod templates;

use std::{fmt, sync::Arc, time::Duration};

use minijinja::{Environment, UndefinedBehavior, context};

use crate::{
    domain::{
        code::spelled,
        destination::Channel,
        locale::Language,
        route::Goal,
        time::whole_minutes,
        transaction::{Amount, Transaction},
    },
    secret::Secret,
};
use segments::Size;
use sms_suffix::{SmsSuffix, bound_host};
use templates::Template;

/// What a text is made of.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    /// The code.
    pub code: &'a Secret<String>,
    /// How long it is valid.
    pub code_life: Duration,
    /// What the person agrees to.
    pub transaction: Option<&'a Transaction>,
}

/// A template did not render, which [`Messages::new`] should have prevented. Nothing of the text is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message template {0} cannot be rendered")]
pub struct Unrendered(String);

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which template.
    pub template: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// All texts.
#[derive(Clone, Default)]
pub struct Messages {
    brand: Option<String>,
    suffix: SmsSuffix,
    templates: Vec<Template>,
    /// The same, compiled.
    compiled: Arc<Environment<'static>>,
}

impl Messages {
    /// Checks and compiles templates.
    ///
    /// # Errors
    /// All errors of all templates.
    pub fn new(brand: Option<String>, suffix: SmsSuffix, templates: Vec<Template>) -> Result<Self, Vec<Fault>> {
        let mut compiled = Environment::empty();
        compiled.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut faults = Vec::new();
        for (index, template) in templates.iter().enumerate() {
            let fault = |message| Fault { template: template.name.clone(), message };
            let same = |other: &&Template| (&other.scope, &other.locale) == (&template.scope, &template.locale);
            if let Some(twin) = templates.iter().take(index).find(same) {
                faults.push(fault(format!("is for the same as messages.templates.{}", twin.name)));
            }
            let wrong = template.faults(brand.is_some());
            if !wrong.is_empty() {
                faults.extend(wrong.into_iter().map(fault));
                continue;
            }
            if compiled.add_template_owned(template.name.clone(), template.text.clone()).is_err() {
                faults.push(fault("{% if %}, {% else %} and {% endif %} do not pair up".to_owned()));
            }
        }
        let messages = Self { brand, suffix, templates, compiled: Arc::new(compiled) };
        let compiled = |template: &&Template| messages.compiled.get_template(&template.name).is_ok();
        for template in messages.templates.iter().filter(compiled) {
            let found = messages.lacks(template).into_iter();
            faults.extend(found.map(|message| Fault { template: template.name.clone(), message }));
        }
        if faults.is_empty() { Ok(messages) } else { Err(faults) }
    }

    /// The text of a message.
    ///
    /// # Errors
    /// See [`Unrendered`].
    pub fn text(&self, goal: &Goal<'_>, locale: &str, content: &Content<'_>) -> Result<Secret<String>, Unrendered> {
        let reader = Language::parse(locale);
        let fitting =
            self.templates.iter().filter_map(|template| Some((template.fit(goal, reader.as_ref())?, template)));
        if let Some((_, template)) = fitting.max_by_key(|(fit, _)| *fit) {
            return self.render(template, goal.channel, content);
        }
        let text = built_in::text(goal.channel, content);
        Ok(self.with_suffix(text.expose().clone(), goal.channel, content.code))
    }

    /// Templates that may cost more than the operator expects or not work everywhere, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let short = |template: &&Template| matches!(template.scope.channel, None | Some(Channel::Sms));
        let long = self.templates.iter().filter(short).flat_map(|template| self.too_long(template));
        long.chain(self.templates.iter().filter_map(|template| self.read_as_number(template))).collect()
    }

    /// A template for calls that does not spell the code.
    fn read_as_number(&self, template: &Template) -> Option<String> {
        let amount = Amount { micros: 1, currency: "XTS".to_owned() };
        let transaction = Transaction { amount, payee: MARK.to_owned(), reference: String::new() };
        let text = self.sample(template, CODE, 10, &transaction).unwrap_or_default();
        let is_number = template.scope.channel == Some(Channel::Voice) && !text.contains(&spelled(CODE));
        let why = "a voice reads {{ code }} as one number; {{ code_spelled }} is read digit by digit";
        is_number.then(|| format!("messages.templates.{}.text: {why}", template.name))
    }

    fn too_long(&self, template: &Template) -> Vec<String> {
        let sample = "m".repeat(SAMPLE_NAME);
        let amount = Amount { micros: i64::MAX, currency: "EUR".to_owned() };
        let transaction = Transaction { amount, payee: sample.clone(), reference: sample };
        let both =
            [1, 10].map(|minutes| self.sample(template, "0123456789", minutes, &transaction).unwrap_or_default());
        let text = both.into_iter().max_by_key(|text| Size::of(text).units).unwrap_or_default();
        let (size, bytes) = (Size::of(&text), text.len());
        let about = format!("messages.templates.{}.text: as a text message", template.name);
        let with = if template.is_for_transactions() {
            format!(
                ", with a code of 10 digits, the greatest amount, and a payee and reference of {SAMPLE_NAME} characters"
            )
        } else {
            ", with a code of 10 digits".to_owned()
        };
        let mut warnings = Vec::new();
        if size.overflows() {
            let (units, room) = (size.units, size.room());
            let why = match size.foreign {
                None => format!("{units} of {room} septets of GSM-7"),
                Some(c) => format!(
                    "{units} of {room} characters of UCS-2, because GSM-7 lacks U+{:04X} {}",
                    u32::from(c),
                    c.escape_debug()
                ),
            };
            warnings.push(format!("{about} it takes more than one segment: {why}{with}"));
        }
        if matches!(self.suffix, SmsSuffix::SmsRetriever(_)) && bytes > SmsSuffix::RETRIEVER_BYTES {
            let most = SmsSuffix::RETRIEVER_BYTES;
            warnings.push(format!("{about} it is too long for the SMS Retriever: {bytes} of {most} bytes{with}"));
        }
        warnings
    }

    /// What the text of a template lacks, in any of its branches.
    fn lacks(&self, template: &Template) -> Vec<String> {
        let amount = Amount { micros: 987_654_321_012_345, currency: "XTS".to_owned() };
        let decimal = amount.decimal();
        // Characters that no text holds (private use), and names that look like the last line of a message.
        let forged = format!("@{MARK} #000000");
        let plain = Transaction { amount, payee: MARK.to_owned(), reference: String::new() };
        let hostile = Transaction { payee: forged.clone(), reference: forged, ..plain.clone() };
        let mut faults = Vec::new();
        for minutes in [1, 10] {
            let (Ok(text), Ok(attacked)) =
                (self.sample(template, CODE, minutes, &plain), self.sample(template, CODE, minutes, &hostile))
            else {
                faults.push("cannot be rendered".to_owned());
                continue;
            };
            if !text.contains(CODE) && !text.contains(&spelled(CODE)) {
                faults.push("must show the code in every case: {{ code }} or {{ code_spelled }}".to_owned());
            }
            if template.is_for_transactions() && !text.contains(&decimal) {
                faults.push("must show the amount of a transaction in every case: {{ amount }}".to_owned());
            }
            if template.is_for_transactions() && !text.contains(MARK) {
                faults.push("must show the payee of a transaction in every case: {{ payee }}".to_owned());
            }
            if bound_host(&attacked).is_some_and(|host| host.contains(MARK)) {
                faults.push("the last line must not begin with payee or reference: it could name a site".to_owned());
            }
        }
        faults.sort();
        faults.dedup();
        faults
    }

    /// Renders a sample: as a text message where the template is for every channel, with the transaction where it is for one.
    fn sample(
        &self,
        template: &Template,
        code: &str,
        minutes: u64,
        transaction: &Transaction,
    ) -> Result<String, Unrendered> {
        let code = Secret::new(code.to_owned());
        let code_life = Duration::from_secs(minutes * 60);
        let transaction = template.is_for_transactions().then_some(transaction);
        let channel = template.scope.channel.unwrap_or(Channel::Sms);
        let text = self.render(template, channel, &Content { code: &code, code_life, transaction })?;
        Ok(text.expose().clone())
    }

    fn render(
        &self,
        template: &Template,
        channel: Channel,
        content: &Content<'_>,
    ) -> Result<Secret<String>, Unrendered> {
        let (code, minutes) = (content.code.expose(), whole_minutes(content.code_life));
        let code_spelled = spelled(code);
        let brand = self.brand.as_deref();
        // The template crate frees its copies of the code without wiping them.
        let values = if let Some(Transaction { amount, payee, reference }) = content.transaction {
            let (currency, amount) = (&amount.currency, amount.decimal());
            context! { code, code_spelled, minutes, brand, amount, currency, payee, reference }
        } else {
            context! { code, code_spelled, minutes, brand }
        };
        let found = self.compiled.get_template(&template.name);
        // The cause is dropped, because it could quote the text.
        let text = found.and_then(|found| found.render(values)).map_err(|_| Unrendered(template.name.clone()))?;
        Ok(self.with_suffix(text, channel, content.code))
    }

    fn with_suffix(&self, mut text: String, channel: Channel, code: &Secret<String>) -> Secret<String> {
        if channel == Channel::Sms {
            self.suffix.append_to(&mut text, code.expose());
        }
        Secret::new(text)
    }
}

/// Payee and code of samples, in characters for private use, so that no template holds them by chance.
const MARK: &str = "\u{e002}\u{e003}";
const CODE: &str = "\u{e000}\u{e001}";
/// The length of names in the samples that are measured.
const SAMPLE_NAME: usize = 40;

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.templates.iter().map(|template| template.name.as_str()).collect();
        write!(f, "Messages({names:?})")
    }
}

impl PartialEq for Messages {
    fn eq(&self, other: &Self) -> bool {
        (&self.brand, &self.suffix, &self.templates) == (&other.brand, &other.suffix, &other.templates)
    }
}

impl Eq for Messages {}

#[cfg(test)]
mod tests;
