//! What is shipped beside the server goes with it: metrics that rules and dashboard ask for, pages that alerts name, the contract.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, and says then what it did")]

mod contract;
mod promql;
mod release;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use promql::{Selector, selectors};

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The labels of a series, by the table of metrics in docs/operations.md, which a test of the crate holds to what is
/// exposed. `None`: there is no such metric.
fn labels_of(docs: &str, series: &str) -> Option<BTreeSet<String>> {
    let (_, table) = docs.split_once("<!-- metrics -->").expect("the table of metrics");
    let (table, _) = table.split_once("<!-- /metrics -->").expect("the end of the table");
    let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|ending| series.strip_suffix(ending));
    let row = table.lines().find(|line| {
        let named = |name: &str| line.starts_with(&format!("| `{name}` |"));
        named(series) || of_histogram.is_some_and(named)
    });
    let labels = row?.split('|').nth(2)?;
    Some(labels.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The expressions of all rules. The file is YAML of one shape: an expression follows `expr:` or is folded below it.
fn rule_expressions() -> Vec<String> {
    let rules = text("deploy/prometheus/otpd-rules.yaml");
    let mut expressions = Vec::new();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim().strip_prefix("expr:") else { continue };
        let mut expression = expression.trim().trim_start_matches(">-").to_owned();
        while let Some(next) = lines.peek().filter(|next| next.starts_with("          ")) {
            expression.push(' ');
            expression.push_str(next.trim());
            lines.next();
        }
        expressions.push(expression);
    }
    assert!(expressions.len() > 20, "{expressions:?}");
    expressions
}

fn dashboard_expressions() -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(expression)) = fields.get("expr") {
                    into.push(expression.clone());
                }
                if let Some(Value::String(query)) = fields.get("query")
                    && query.starts_with("label_values(")
                {
                    into.push(query.clone());
                }
                fields.values().for_each(|value| collect(value, into));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut expressions = Vec::new();
    collect(&serde_json::from_str(&text("deploy/grafana/otpd.json")).expect("JSON"), &mut expressions);
    assert!(expressions.len() > 40, "{expressions:?}");
    expressions
}

#[test]
fn every_metric_and_label_that_is_asked_for_exists() {
    let docs = text("docs/operations.md");
    let mut complaints = BTreeSet::new();
    for expression in rule_expressions().into_iter().chain(dashboard_expressions()) {
        for Selector { metric, labels } in selectors(&expression) {
            // Recorded by a rule, or of Prometheus itself.
            if metric.contains(':') || metric == "ALERTS" {
                continue;
            }
            let Some(known) = labels_of(&docs, &metric) else {
                complaints.insert(format!("{metric} does not exist"));
                continue;
            };
            // What Prometheus adds to every series that it scrapes, and to buckets.
            let added = ["job", "instance", "le"];
            let unknown = labels.iter().filter(|label| !added.contains(&label.as_str()) && !known.contains(*label));
            complaints.extend(unknown.map(|label| format!("{metric} has no label {label}")));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_recorded_series_that_is_asked_for_is_recorded() {
    let rules = text("deploy/prometheus/otpd-rules.yaml");
    let recorded: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let expressions = rule_expressions();
    let asked: BTreeSet<String> =
        expressions.iter().flat_map(|expression| selectors(expression)).map(|s| s.metric).collect();
    let asked: BTreeSet<&str> = asked.iter().map(String::as_str).filter(|metric| metric.contains(':')).collect();
    assert_eq!(asked, recorded);
}

#[test]
fn every_alert_has_a_page_that_says_what_to_do() {
    let rules = text("deploy/prometheus/otpd-rules.yaml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let runbooks: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    let docs = text("docs/operations.md");
    let pages: Vec<&str> = docs.split("\n### ").filter(|page| page.starts_with("Otpd")).collect();
    assert_eq!(alerts.len(), pages.len());
    for (alert, runbook) in alerts.iter().zip(&runbooks) {
        assert_eq!(*runbook, format!("docs/operations.md#{}", alert.to_lowercase()));
        let page = pages.iter().find(|page| page.lines().next() == Some(alert));
        let page = page.unwrap_or_else(|| panic!("{alert} has no page"));
        for part in ["**You see**", "**It means**", "**Do**"] {
            assert!(page.contains(part), "{alert}: {part}");
        }
        let tests = text("deploy/prometheus/otpd-rules.test.yaml");
        for story in ["fires", "lets pass"] {
            assert!(tests.contains(&format!("- name: {alert} {story}\n")), "{alert} {story}");
        }
    }
    assert_eq!(alerts.len(), runbooks.len());
}
