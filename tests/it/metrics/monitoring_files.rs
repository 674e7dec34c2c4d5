//! The dashboard and the alert rules in `packaging/monitoring` name only series that the server serves.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{Sample, samples};
use crate::support::Server;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/monitoring").join(name);
    fs::read_to_string(path).expect("a file")
}

/// Every value of a key, in the whole document.
fn values_of(key: &str, document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == key => found.push(text.clone()),
                    value => values_of(key, value, found),
                }
            }
        }
        Value::Array(array) => array.iter().for_each(|value| values_of(key, value, found)),
        _ => {}
    }
}

/// The names in an expression that are of metrics, each with the selector behind it.
fn selected(expression: &str) -> Vec<(String, String)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_part) {
        let word = &rest[start..];
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (name, behind) = word.split_at(end);
        if name.starts_with("bindery_") || name.starts_with("process_") {
            let selector = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
            found.push((
                name.to_owned(),
                selector.map(|(selector, _)| selector.to_owned()).unwrap_or_default(),
            ));
        }
        rest = behind;
    }
    found
}

/// Whether a sample fits the matchers that name values: `label="value"` and `label=~"value|value"`. Prometheus adds
/// `job` and `instance`.
fn fits(sample: &Sample, label: &str, values: &[&str]) -> bool {
    sample.labels.get(label).is_some_and(|value| values.contains(&value.as_str()))
}

#[tokio::test]
async fn each_series_that_a_dashboard_or_a_rule_names_exists() {
    let metrics = Server::start().await.metrics().await;
    let served = samples(&metrics);
    let mut expressions = Vec::new();
    values_of("expr", &serde_json::from_str(&file("grafana.json")).expect("JSON"), &mut expressions);
    let panels = expressions.len();
    values_of("expr", &serde_yaml_ng::from_str(&file("bindery.rules.yml")).expect("YAML"), &mut expressions);
    assert!(panels > 20 && expressions.len() > panels + 10);
    for (name, selector) in expressions.iter().flat_map(|expression| selected(expression)) {
        let own: Vec<&Sample> = served.iter().filter(|sample| sample.name == name).collect();
        assert!(!own.is_empty(), "{name} is not served");
        for matcher in selector.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, values) = matcher.split_once(['=', '!']).expect("a matcher");
            let values = values.trim_start_matches(['=', '~']).trim_matches('"');
            if ["job", "instance"].contains(&label) || values.contains('.') {
                continue;
            }
            for value in values.split('|') {
                assert!(
                    own.iter().any(|sample| fits(sample, label, &[value])),
                    "no {name}{{{label}=\"{value}\"}}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_operators_document_names_every_series() {
    let metrics = Server::start().await.metrics().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let document = fs::read_to_string(path).expect("the document");
    let typed = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: BTreeSet<String> = typed
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    let missing: Vec<_> = names.iter().filter(|name| !document.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
