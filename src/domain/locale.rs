//! Languages of readers and of texts (BCP 47), and which text is nearest to a reader.
//!
//! Tags are made canonical, given their likely script and followed to their parents by CLDR's data (Unicode TS 35, part 1). The
//! lookup is that of RFC 4647, section 3.4, with these parents instead of a tag's own beginnings: a reader of `zh-TW` reads
//! `zh-Hant` before `zh`, and one of `es-AR` reads `es-419` before `es`.

use std::{borrow::Borrow, cmp::Reverse};

use icu_locale::{
    LanguageIdentifier, Locale, LocaleCanonicalizer, LocaleExpander, LocaleFallbacker,
    fallback::LocaleFallbackConfig,
    subtags::{Region, Script},
};
use oxilangtag::LanguageTag;

/// The longest tag that is taken (RFC 5646, 4.4.1).
pub(crate) const MAX_LENGTH: usize = 35;

/// Whether a text has the syntax of a tag (RFC 5646), grandfathered ones included.
pub(crate) fn is_tag(text: &str) -> bool {
    LanguageTag::parse(text).is_ok()
}

/// How near a text is to a reader; the greater is the nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nearness(Reverse<(Relation, usize, usize)>);

/// What the languages of a text and of a reader have to do with each other, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Relation {
    /// The same tag.
    Same,
    /// The same language, once what is likely is added: `pt` and `pt-BR`.
    Alike,
    /// The text is for the reader's region and others: `es-419` for `es-AR`.
    Parent,
    /// Another region of the same language and script, by the nearest parent that they share.
    Sibling,
    /// Another script, or a language that is written alike, which the reader reads as well.
    Readable,
}

/// The language of a reader or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// The tag with its script, where that is not the usual one of the language, and then its parents.
    chain: Vec<LanguageIdentifier>,
    /// The shortest tag that means the same.
    shortest: LanguageIdentifier,
    /// What the reader reads as well.
    readable: Vec<LanguageIdentifier>,
}

impl Language {
    /// The language of a tag. `None` where it is not a tag, or names no language.
    pub fn parse(text: &str) -> Option<Self> {
        let tag = identifier(text)?;
        let expander = LocaleExpander::new_common();
        let mut whole = tag.clone();
        expander.maximize(&mut whole);
        let mut shortest = whole.clone();
        expander.minimize_favor_script(&mut shortest);
        let mut exact = tag;
        let is_usual = [None, exact.region].map(|region| likely_script(&exact, region)) == [whole.script; 2];
        exact.script = whole.script.filter(|_| !is_usual);
        Some(Self { chain: with_parents(&exact), shortest, readable: readable(&whole) })
    }

    /// How near a text in this language is to a reader. `None`: the reader does not read it.
    pub fn nearness_to(&self, reader: &Self) -> Option<Nearness> {
        let exact = self.chain.first()?;
        let (relation, up, down) = if reader.chain.first() == Some(exact) {
            (Relation::Same, 0, 0)
        } else if reader.shortest == self.shortest {
            (Relation::Alike, 0, 0)
        } else if let Some(up) = reader.chain.iter().position(|parent| parent == exact) {
            (Relation::Parent, up, 0)
        } else if let Some((up, down)) = self.shared_with(&reader.chain) {
            (Relation::Sibling, up, down)
        } else {
            let (up, down) = self.shared_with(&reader.readable)?;
            (Relation::Readable, up, down)
        };
        Some(Nearness(Reverse((relation, up, down))))
    }

    /// Where the first tag of a list stands that is among this one and its parents of the same language, there and here. The usual
    /// region is no step.
    fn shared_with(&self, list: &[LanguageIdentifier]) -> Option<(usize, usize)> {
        let own = |tag: &LanguageIdentifier| {
            let place = self.chain.iter().position(|parent| parent == tag);
            if *tag == self.shortest { Some(0) } else { place }
        };
        let mut ours = list.iter().enumerate().filter(|(_, tag)| tag.language == self.shortest.language);
        ours.find_map(|(there, tag)| Some((there, own(tag)?)))
    }
}

/// The value whose language is nearest to a reader; of several that are alike, the first.
pub(crate) fn nearest<L: Borrow<Language>, T>(values: impl Iterator<Item = (L, T)>, reader: &str) -> Option<T> {
    let reader = Language::parse(reader)?;
    let mut found: Option<(Nearness, T)> = None;
    for (language, value) in values {
        if let Some(nearness) = language.borrow().nearness_to(&reader)
            && found.as_ref().is_none_or(|(best, _)| nearness > *best)
        {
            found = Some((nearness, value));
        }
    }
    found.map(|(_, value)| value)
}

/// The one of some tags that is nearest to a reader; of several that are alike, the first.
pub(crate) fn nearest_tag<'a>(tags: impl Iterator<Item = &'a str>, reader: &str) -> Option<&'a str> {
    nearest(tags.filter_map(|tag| Some((Language::parse(tag)?, tag))), reader)
}

/// Tags from before RFC 4646 that CLDR does not replace, with what IANA's registry of language subtags has for them.
const GRANDFATHERED: [(&str, &str); 21] = [
    ("art-lojban", "jbo"),
    ("en-gb-oed", "en-GB-oxendict"),
    ("i-ami", "ami"),
    ("i-bnn", "bnn"),
    ("i-hak", "hak"),
    ("i-klingon", "tlh"),
    ("i-lux", "lb"),
    ("i-navajo", "nv"),
    ("i-pwn", "pwn"),
    ("i-tao", "tao"),
    ("i-tay", "tay"),
    ("i-tsu", "tsu"),
    ("no-bok", "nb"),
    ("no-nyn", "nn"),
    ("sgn-be-fr", "sfb"),
    ("sgn-be-nl", "vgt"),
    ("sgn-ch-de", "sgg"),
    ("zh-guoyu", "cmn"),
    ("zh-hakka", "hak"),
    ("zh-min-nan", "nan"),
    ("zh-xiang", "hsn"),
];

/// Language, script and region of a tag, in canonical form.
fn identifier(text: &str) -> Option<LanguageIdentifier> {
    let lower = text.to_ascii_lowercase();
    let replaced = GRANDFATHERED.iter().find(|(old, _)| *old == lower).map_or(text, |(_, new)| new);
    let tag = LanguageTag::parse(replaced).ok()?;
    // `zh-yue` is `yue`: an extended language subtag is a language of its own (RFC 5646, 4.1.2).
    let language = tag.extended_language().unwrap_or_else(|| tag.primary_language());
    let parts = [Some(language), tag.script(), tag.region(), tag.variant()];
    let plain = parts.into_iter().flatten().collect::<Vec<_>>().join("-");
    let mut locale: Locale = plain.parse().ok()?;
    LocaleCanonicalizer::new_common().canonicalize(&mut locale);
    let LanguageIdentifier { language, script, region, .. } = locale.id;
    (!language.is_unknown()).then_some(LanguageIdentifier { language, script, region, ..LanguageIdentifier::UNKNOWN })
}

/// The script that a language is written in, everywhere or in a region, where nothing else is said.
fn likely_script(tag: &LanguageIdentifier, region: Option<Region>) -> Option<Script> {
    let mut bare = LanguageIdentifier { language: tag.language, region, ..LanguageIdentifier::UNKNOWN };
    LocaleExpander::new_common().maximize(&mut bare);
    bare.script
}

/// A tag and its parents, the nearest first, without those in another script of the same language.
fn with_parents(tag: &LanguageIdentifier) -> Vec<LanguageIdentifier> {
    let fallbacker = LocaleFallbacker::new();
    let mut parents = fallbacker.for_config(LocaleFallbackConfig::default()).fallback_for(tag.into());
    let mut chain = vec![tag.clone()];
    // CLDR's parent, which the library does not find, because it drops a script that the region implies.
    if tag.to_string() == "zh-Hant-MO" {
        chain.extend("zh-Hant-HK".parse());
    }
    while !parents.step().get().is_unknown() {
        let parent = parents.get();
        let (language, script, region) = (parent.language, parent.script, parent.region);
        let parent = LanguageIdentifier { language, script, region, ..LanguageIdentifier::UNKNOWN };
        if chain.last() != Some(&parent) {
            chain.push(parent);
        }
    }
    chain
}

/// What else people read: Chinese who read traditional characters read simplified ones, Serbian is read in both scripts, Norwegian
/// in both its forms, and other languages of China are written as Chinese (CLDR, `languageMatching`).
fn readable(whole: &LanguageIdentifier) -> Vec<LanguageIdentifier> {
    let script = whole.script.map(|script| script.to_string()).unwrap_or_default();
    let tags: &[&str] = match (whole.language.as_str(), script.as_str()) {
        ("zh", "Hant") | ("yue" | "gan" | "hsn" | "wuu", "Hans") => &["zh"],
        ("sr", "Latn") => &["sr"],
        ("no", _) => &["nb", "nn"],
        ("nb", _) => &["nn"],
        ("nn", _) => &["nb"],
        ("sr", "Cyrl") => &["sr-Latn"],
        ("yue", "Hant") => &["zh-Hant-HK", "zh-Hant", "zh"],
        ("hak" | "nan", _) => &["zh-Hant", "zh"],
        _ => &[],
    };
    tags.iter().filter_map(|tag| tag.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
