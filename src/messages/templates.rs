//! One template: what it is for, and what may stand in it.
//!
//! A template holds variables, and the one condition that languages need for "1 minute". Nothing in it can fail with one
//! value and succeed with another, so a text that renders when the configuration is read always renders.

use std::collections::BTreeSet;

use crate::domain::{
    locale::{self, Language, Nearness},
    purpose::Purpose,
    route::Goal,
    route::Scope,
};

/// The variables of every template.
pub(super) const COMMON: [&str; 4] = ["code", "code_spelled", "minutes", "brand"];
/// The variables of templates for transactions.
pub(super) const OF_TRANSACTIONS: [&str; 4] = ["amount", "currency", "payee", "reference"];

const MAX_TEXT: usize = 2000;

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name in the configuration.
    pub name: String,
    /// The tenant, purpose and channel that it is for; the prefix is unused.
    pub scope: Scope,
    /// The language of its readers. `None`: any.
    pub locale: Option<Language>,
    /// The text.
    pub text: String,
}

/// How specifically a template fits, the most important part first: a template of the tenant, then the language that the
/// person reads, then the purpose, then the channel.
pub(super) type Fit = (bool, Option<Nearness>, bool, bool);

impl Template {
    /// How specifically it fits. `None` where it does not.
    ///
    /// Only templates for transactions fit a transaction, because no other shows what the person agrees to.
    pub(super) fn fit(&self, goal: &Goal<'_>, reader: Option<&Language>) -> Option<Fit> {
        let Scope { tenant, purpose, channel, .. } = &self.scope;
        let nearness = match &self.locale {
            None => None,
            Some(language) => Some(language.nearness_to(reader?)?),
        };
        let fits =
            self.is_for_transactions() == (goal.purpose == Purpose::Transaction) && self.scope.fit(goal).is_some();
        fits.then_some((tenant.is_some(), nearness, purpose.is_some(), channel.is_some()))
    }

    /// Whether it shows what the person agrees to.
    pub(super) fn is_for_transactions(&self) -> bool {
        self.scope.purpose == Some(Purpose::Transaction)
    }

    /// Its errors: what it must not hold, and what it lacks.
    pub(super) fn faults(&self, has_brand: bool) -> Vec<String> {
        let text = &self.text;
        let mut faults = Vec::new();
        if text.is_empty() || text.chars().count() > MAX_TEXT || text.contains(|c: char| c.is_control() && c != '\n') {
            faults.push(format!("must be 1 to {MAX_TEXT} characters without control characters but line breaks"));
        }
        let mut used = BTreeSet::new();
        for (line, tag) in tags(text) {
            match tag.and_then(TemplateTag::known) {
                Some(Known::Variable(name)) => drop(used.insert(name)),
                Some(Known::Condition) => {}
                None => faults.push(format!(
                    "line {line}: only variables such as {{{{ code }}}}, and {{% if minutes == 1 %}} {{% else %}} {{% endif %}}, \
                     may stand in braces; the variables are: {}, {}",
                    COMMON.join(", "),
                    OF_TRANSACTIONS.join(", ")
                )),
            }
        }
        for name in OF_TRANSACTIONS.into_iter().filter(|name| used.contains(name) && !self.is_for_transactions()) {
            faults.push(format!("uses {name}, which only templates with purpose = \"transaction\" have"));
        }
        if used.contains("brand") && !has_brand {
            faults.push("uses brand, and messages.brand is not set".to_owned());
        }
        faults
    }
}

/// Parses a language tag.
///
/// # Errors
/// What a tag must be.
pub(crate) fn locale(text: &str) -> Result<Language, String> {
    let language = Some(text).filter(|text| text.len() <= locale::MAX_LENGTH).and_then(Language::parse);
    language.ok_or_else(|| "must be the BCP 47 tag of a language, such as pt-BR or pt".to_owned())
}

/// What stands in a pair of braces.
#[derive(Clone, Copy)]
enum TemplateTag<'a> {
    Expression(&'a str),
    Statement(&'a str),
}

enum Known {
    Variable(&'static str),
    Condition,
}

impl TemplateTag<'_> {
    fn known(self) -> Option<Known> {
        match self {
            Self::Expression(inside) => {
                let mut names = COMMON.into_iter().chain(OF_TRANSACTIONS);
                names.find(|name| *name == inside.trim()).map(Known::Variable)
            }
            Self::Statement(inside) => {
                let words: Vec<&str> = inside.split_whitespace().collect();
                matches!(words.as_slice(), ["if", "minutes", "==", "1"] | ["else" | "endif"])
                    .then_some(Known::Condition)
            }
        }
    }
}

/// All tags of a text with their lines. `None` for a comment, and for a tag that is not closed.
fn tags(text: &str) -> Vec<(usize, Option<TemplateTag<'_>>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((at, end)) = opening(rest) {
        let before = text.len() - rest.len() + at;
        let line = text.get(..before).unwrap_or_default().matches('\n').count() + 1;
        let inside = rest.get(at + 2..).unwrap_or_default();
        let Some((inside, after)) = end.and_then(|end| inside.split_once(end)) else {
            found.push((line, None));
            break;
        };
        found.push((
            line,
            Some(if end == Some("}}") { TemplateTag::Expression(inside) } else { TemplateTag::Statement(inside) }),
        ));
        rest = after;
    }
    found
}

/// Where the first tag begins, and what ends it.
fn opening(text: &str) -> Option<(usize, Option<&'static str>)> {
    let pairs = [("{{", Some("}}")), ("{%", Some("%}")), ("{#", None)];
    pairs.into_iter().filter_map(|(begin, end)| Some((text.find(begin)?, end))).min_by_key(|(at, _)| *at)
}
