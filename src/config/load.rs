//! Loads the configuration: a TOML file, then `BINDERY_*` variables over it, then the checks.
//!
//! An unknown key is an error that names the nearest known one: if Bindery ignored a misspelt key, the operator
//! would find out at the worst time.

use std::{collections::HashMap, path::Path};

use schemars::{Schema, schema_for};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{Config, ConfigError};
use crate::domain::file_error::with_path;

/// The prefix of environment variables; `__` in them separates a section from its key.
const PREFIX: &str = "BINDERY_";

/// Loads the configuration from `file`, if there is one, and from environment variables.
///
/// # Errors
/// All mistakes of one kind: unknown keys, else the first wrong type, else everything that the checks find.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let one = |problem: String| ConfigError(vec![problem]);
    let mut table = match file {
        None => Table::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(with_path(path)).map_err(|error| {
                one(format!(
                    "the configuration file: {error}; pass another one with --config or BINDERY_CONFIG"
                ))
            })?;
            // Only the message and the line, because the text around a mistake may contain a password.
            let wrong = |error: toml::de::Error| {
                let before = error.span().map_or(0, |span| span.start.min(text.len()));
                let line = text.bytes().take(before).filter(|byte| *byte == b'\n').count();
                one(format!("{}: line {}: {}", path.display(), line + 1, error.message()))
            };
            text.parse().map_err(wrong)?
        }
    };
    let schema = schema_for!(Config);
    let (mut variables, mut unknown_variables) = (HashMap::new(), Vec::new());
    for (variable, value) in environment {
        // BINDERY_CONFIG is an argument of the command line, not a configuration key.
        if let Some(key) = variable.strip_prefix(PREFIX).filter(|key| *key != "CONFIG") {
            let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
            // Others use this prefix, too: Kubernetes sets BINDERY_PORT beside a service of that name.
            if path.len() == 1 && property(&path, &schema).is_none() {
                unknown_variables.push(variable);
                continue;
            }
            variables.insert(path.join("."), variable.clone());
            // A value of a text key stays text, since a password may look like a number.
            let is_text = property(&path, &schema).is_some_and(|property| is_text(property, &schema));
            set(&mut table, &path, if is_text { Value::String(value) } else { parse_value(&value) })
                .map_err(|()| one(format!("{variable} is not a configuration key")))?;
        }
    }
    let mut unknown = Vec::new();
    find_unknown(&table, schema.as_value(), &schema, "", &mut unknown);
    // The operator looks for the name that they wrote.
    let as_written = |ConfigError(problems)| {
        let named = problems.into_iter().map(|problem: String| {
            let variable = problem.split_once(':').and_then(|(key, _)| variables.get(key));
            variable.map(|variable| format!("{variable}: {problem}")).unwrap_or(problem)
        });
        ConfigError(named.collect())
    };
    if !unknown.is_empty() {
        return Err(as_written(ConfigError(unknown)));
    }
    drop_empty(&mut table, schema.as_value(), &schema);
    let mut config = typed(table).map_err(as_written)?;
    config.check().map_err(as_written)?;
    config.unknown_variables = unknown_variables;
    Ok(config)
}

/// The value of a variable: TOML if it parses as such, else a plain string.
fn parse_value(text: &str) -> Value {
    let document: Result<Table, _> = format!("value = {text}").parse();
    document
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), ()> {
    match path {
        [] => Err(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [section, rest @ ..] => {
            let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            set(inner.as_table_mut().ok_or(())?, rest, value)
        }
    }
}

/// Follows a `$ref` of the schema.
pub(super) fn resolve<'a>(part: &'a Json, schema: &'a Schema) -> &'a Json {
    let reference = part.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(part)
}

fn find_unknown(table: &Table, part: &Json, schema: &Schema, prefix: &str, unknown: &mut Vec<String>) {
    let part = resolve(part, schema);
    let known = part.get("properties").and_then(Json::as_object);
    if known.is_none() && part.get("additionalProperties").is_none() {
        // Any key is allowed here, as in sms.http.body.
        return;
    }
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        let inner = match known {
            Some(known) => known.get(key),
            // A map, in which the operator chooses the keys.
            None => part.get("additionalProperties"),
        };
        match (inner, value) {
            (None, _) => {
                let names = known.into_iter().flat_map(|known| known.keys());
                let nearest = names
                    .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
                let hint =
                    nearest.map(|name| format!("; did you mean '{prefix}{name}'?")).unwrap_or_default();
                unknown.push(format!("{path}: there is no such configuration key{hint}"));
            }
            (Some(inner), Value::Table(inner_table)) => {
                find_unknown(inner_table, inner, schema, &format!("{path}."), unknown);
            }
            (Some(_), _) => {}
        }
    }
}

/// Gives the table its types. An error names the key and never shows the value, which may be a password.
fn typed(table: Table) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(table).map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
        let message = error.inner().message();
        let problem = match (message.strip_prefix("missing field "), message.rsplit_once(", expected ")) {
            (Some(key), _) => format!("the key {} is missing", key.replace('`', "'")),
            (None, Some((_, expected))) => format!("the value is wrong, expected {expected}"),
            (None, None) => "the value is wrong".to_owned(),
        };
        ConfigError(vec![format!("{}: {problem}", error.path())])
    })
}

/// The schema of the key with this path.
fn property<'a>(path: &[String], schema: &'a Schema) -> Option<&'a Json> {
    path.iter().try_fold(schema.as_value(), |part, key| resolve(part, schema).get("properties")?.get(key))
}

fn is_text(property: &Json, schema: &Schema) -> bool {
    let property = resolve(property, schema);
    let is = |kind: &Json, name: &str| {
        kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == name))
    };
    let forms = ["anyOf", "oneOf"].into_iter().filter_map(|name| property.get(name)?.as_array()).flatten();
    property.get("type").is_some_and(|kind| is(kind, "string"))
        || property.get("enum").is_some()
        || forms.into_iter().any(|form| is_text(form, schema))
}

/// Removes optional keys with an empty value: the example writes an unset key like that.
fn drop_empty(table: &mut Table, part: &Json, schema: &Schema) {
    let Some(properties) = resolve(part, schema).get("properties") else { return };
    table.retain(|key, value| {
        let Some(property) = properties.get(key) else { return true };
        if let Value::Table(inner) = value {
            drop_empty(inner, property, schema);
        }
        value.as_str() != Some("") || !may_be_unset(property)
    });
}

fn may_be_unset(property: &Json) -> bool {
    let has_null = |kinds: &Vec<Json>| {
        kinds.iter().any(|kind| kind == "null" || kind.get("type").is_some_and(|t| t == "null"))
    };
    ["type", "anyOf"].into_iter().filter_map(|name| property.get(name)?.as_array()).any(has_null)
}
