//! Names: each type name means one thing, and no name uses a word that has a better one.

use std::collections::BTreeMap;

use super::code::tokens;

/// Words that the field does not use for what they once meant here, with the word that it does use. Checked in the names of
/// modules, types, functions and constants; their plurals too.
const WORDS: &[(&str, &str)] = &[
    ("charge", "count a failure"),
    ("ending", "suffix"),
    ("figure", "metric"),
    ("forgive", "reset"),
    ("give_back", "refund"),
    ("given_back", "refunded"),
    ("ground", "inputs"),
    ("held", "versioned"),
    ("journey", "outcome"),
    ("means", "dependencies"),
    ("misfit", "cross-field error"),
    ("occasion", "context"),
    ("patience", "timeout"),
    ("place", "permit"),
    ("recall", "seen"),
    ("standing", "status"),
    ("taken", "acquired"),
    ("unfit", "request error"),
];
/// Nor this one, but in what sends mail, whose subject is the field's word.
const LOCKOUT: (&str, &str) = ("subject", "lockout");
const MAIL: [&str; 5] = ["mail", "sendgrid", "mailgun", "http_json", "config/"];

/// A name with the keyword that defines it, for all definitions outside of test modules.
fn definitions(code: &str) -> Vec<(String, String)> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let tokens = tokens(code);
    let defines = |word: &str| matches!(word, "struct" | "enum" | "trait" | "type" | "fn" | "mod" | "const" | "static");
    let pairs = tokens.windows(2).filter_map(|pair| match pair {
        [keyword, name] if defines(keyword) => Some(((*keyword).to_owned(), (*name).to_owned())),
        _ => None,
    });
    pairs.collect()
}

/// The words of a name in either spelling, joined by underscores, with one before and one after.
fn words(name: &str) -> String {
    let mut words = String::from("_");
    for c in name.chars() {
        if c.is_uppercase() && !words.ends_with('_') && name.chars().any(char::is_lowercase) {
            words.push('_');
        }
        words.extend(c.to_lowercase());
    }
    words + "_"
}

pub(crate) fn word_complaints(sources: &[(&str, String)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, code) in sources.iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        let sends_mail = MAIL.iter().any(|part| path.contains(part));
        let listed = WORDS.iter().chain((!sends_mail).then_some(&LOCKOUT));
        for (word, better) in listed {
            for (keyword, name) in definitions(code) {
                let words = words(&name);
                if words.contains(&format!("_{word}_")) || words.contains(&format!("_{word}s_")) {
                    complaints.push(format!("{path}: `{keyword} {name}`: say `{better}`"));
                }
            }
        }
    }
    complaints
}

/// Type names that are defined more than once. Associated types and the private types of adapters' messages are named by what
/// they stand beside.
pub(crate) fn type_complaints(sources: &[(&str, String)]) -> Vec<String> {
    let mut defined: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, code) in
        sources.iter().filter(|(path, _)| !path.starts_with("src/providers/") && !path.ends_with("tests.rs"))
    {
        for (keyword, name) in definitions(code) {
            let is_type =
                matches!(keyword.as_str(), "struct" | "enum" | "trait") && name.starts_with(char::is_uppercase);
            if is_type {
                defined.entry(name).or_default().push(path);
            }
        }
    }
    let twice = defined.into_iter().filter(|(_, paths)| paths.len() > 1);
    twice.map(|(name, paths)| format!("`{name}` is defined in {}", paths.join(" and "))).collect()
}

#[test]
fn checks_see_names_with_two_meanings() {
    let sources = [
        ("src/a.rs", "struct Held; enum Held {}".to_owned()),
        ("src/b.rs", "fn give_back_first() {} pub struct AccountSubject;".to_owned()),
        ("src/providers/mail.rs", "fn subject() {} struct Held;".to_owned()),
        ("src/c.rs", "fn withheld() {} fn replace() {} #[cfg(test)] mod tests { fn charge() {} }".to_owned()),
    ];
    assert_eq!(type_complaints(&sources).len(), 1);
    assert_eq!(word_complaints(&sources).len(), 5);
}
