//! Which series an expression of PromQL asks for.

use std::collections::BTreeSet;

/// A metric, and the labels that it is asked for by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) labels: BTreeSet<String>,
}

/// Words of the language that look like names of metrics.
const WORDS: &[&str] =
    &["and", "or", "unless", "by", "on", "ignoring", "without", "offset", "group_left", "group_right"];

/// All series that an expression asks for, with the labels that it picks them by.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut found: Vec<Selector> = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let after = after.trim_start();
            rest = after;
            if matches!(word, "by" | "on" | "without" | "ignoring") {
                // A list of labels, which are no metrics.
                rest = after.split_once(')').map_or("", |(_, rest)| rest);
            } else if !is_applied(after) && !WORDS.contains(&word) {
                let mut labels = BTreeSet::new();
                if let Some(inside) = after.strip_prefix('{') {
                    let (inside, after) = inside.split_once('}').unwrap_or((inside, ""));
                    labels = matchers(inside);
                    rest = after;
                }
                found.push(Selector { metric: word.to_owned(), labels });
            }
        } else if let Some(inside) = rest.strip_prefix('[') {
            rest = inside.split_once(']').map_or("", |(_, rest)| rest);
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if let Some(inside) = rest.strip_prefix('"') {
            rest = inside.split_once('"').map_or("", |(_, rest)| rest);
        } else {
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        }
    }
    // The second part of `label_values(metric, label)`.
    if expression.starts_with("label_values(") {
        found.truncate(1);
    }
    found
}

/// Whether a word is a function or an aggregation, by what follows it.
fn is_applied(after: &str) -> bool {
    ["(", "by ", "by(", "without ", "without("].iter().any(|start| after.starts_with(start))
}

/// The labels of `a="x",b=~"y"`.
fn matchers(inside: &str) -> BTreeSet<String> {
    let outside_of_quotes: String = inside.split('"').step_by(2).collect();
    let names = outside_of_quotes.split(',').map(|matcher| matcher.trim_end_matches(['=', '~', '!', ' ']).trim());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn series_and_labels_are_found() {
    let of = |expression: &str| {
        let found = selectors(expression).into_iter();
        found.map(|s| format!("{} {:?}", s.metric, s.labels)).collect::<Vec<_>>().join("; ")
    };
    for (expression, expected) in [
        ("up", "up {}"),
        ("sum by (job, le) (rate(a_total{x=\"1,2\",y=~\"b|c\"}[5m])) > 0.5", "a_total {\"x\", \"y\"}"),
        ("a:b:rate5m / (c > 0) and on (job) d offset 1d", "a:b:rate5m {}; c {}; d {}"),
        ("label_values(a{job=~\"$job\"}, instance)", "a {\"job\"}"),
        ("histogram_quantile(0.99, x_bucket) == 1", "x_bucket {}"),
    ] {
        assert_eq!(of(expression), expected, "{expression}");
    }
}
