//! Explains keys that do not exist: which one the operator probably means.
//!
//! An unknown key is an error: if Bindery ignored a misspelt key, the operator would find out at the worst time.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::{
    document::Document,
    schema::{Known, last, resolve},
};

/// Keys of earlier versions, and what replaces each.
const EARLIER_KEYS: [(&str, &str); 3] = [
    ("limits.lookup_per_account", "set lookup.daily_budget"),
    ("limits.lookup_per_homeserver", "set lookup.homeserver_budgets"),
    ("limits.lookup_per_ip", "set lookup.network_budgets"),
];

/// A problem for each unknown key.
pub fn find(table: &Table, known: &Known, document: &Document) -> Vec<String> {
    let mut problems = Vec::new();
    walk(table, known.schema().as_value(), known, "", &mut |path, siblings| {
        let hint = hint(path, &siblings, known, document);
        problems.push(format!("{path}: there is no such configuration key{hint}"));
    });
    problems
}

fn walk(table: &Table, part: &Json, known: &Known, prefix: &str, report: &mut impl FnMut(&str, Vec<&str>)) {
    let part = resolve(part, known.schema());
    let properties = part.get("properties").and_then(Json::as_object);
    if properties.is_none() && part.get("additionalProperties").is_none() {
        // Any key is allowed here, as in sms.http.body.
        return;
    }
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        let inner = match properties {
            Some(properties) => properties.get(key),
            // A map, in which the operator chooses the keys.
            None => part.get("additionalProperties"),
        };
        match (inner, value) {
            (None, _) => {
                report(
                    &path,
                    properties.into_iter().flat_map(|all| all.keys()).map(String::as_str).collect(),
                );
            }
            (Some(inner), Value::Table(table)) => walk(table, inner, known, &format!("{path}."), report),
            (Some(_), _) => {}
        }
    }
}

/// What to do about an unknown key, as the end of a sentence.
fn hint(path: &str, siblings: &[&str], known: &Known, document: &Document) -> String {
    if let Some((_, instead)) = EARLIER_KEYS.iter().find(|(key, _)| *key == path) {
        return format!(" any more; {instead}");
    }
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let same = known.keys().filter(|other| last(other) == key);
    let owners: Vec<&str> = same.map(|other| other.rsplit_once('.').map_or("", |(owner, _)| owner)).collect();
    let header = document.line(path).and_then(|line| document.commented_header(line, known));
    if let Some((line, owner)) = header.filter(|(_, owner)| owners.contains(owner)) {
        return format!(
            " in this section; it belongs to [{owner}]: remove the '#' before that header in line {line}"
        );
    }
    if let Some(meant) = same_letters(path, known) {
        return format!("; did you mean '{meant}'?");
    }
    match owners.as_slice() {
        [] => nearest(key, siblings, section),
        [""] => "; it belongs above the first section header of the file".to_owned(),
        owners => {
            let owners: Vec<String> = owners.iter().map(|owner| format!("[{owner}]")).collect();
            format!("; it belongs below the header {}", owners.join(" or "))
        }
    }
}

/// The key that has the same letters, if dots, underscores and hyphens count alike: `mail_from` for `mail.from`.
pub fn same_letters<'a>(path: &str, known: &'a Known) -> Option<&'a str> {
    let letters = |path: &str| {
        path.split(['.', '_', '-']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
    };
    let wanted = letters(path);
    known.keys().find(|key| letters(key) == wanted)
}

fn nearest(key: &str, siblings: &[&str], section: &str) -> String {
    let similarity = |name: &&&str| strsim::jaro_winkler(name, key);
    let nearest = siblings.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let dot = if section.is_empty() { "" } else { "." };
    nearest.map(|name| format!("; did you mean '{section}{dot}{name}'?")).unwrap_or_default()
}
