//! Reading the configuration: a TOML file, then `BINDERY_*` variables over it, then the checks.
//!
//! A key that does not exist is an error that names the nearest one that does, because a
//! misspelt setting that is silently ignored is found at the worst time.

use std::path::Path;

use schemars::{Schema, schema_for};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{Config, ConfigError};

/// The prefix of environment variables; `__` in them separates a section from its key.
const PREFIX: &str = "BINDERY_";

/// Reads the configuration from `file`, if one is named, and from the environment's variables.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let one = |problem: String| ConfigError(vec![problem]);
    let mut table = match file {
        None => Table::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| one(format!("cannot read the configuration {}: {error}", path.display())))?;
            text.parse().map_err(|error| one(format!("{}: {error}", path.display())))?
        }
    };
    for (variable, value) in environment {
        // Settings that the command line itself reads are not configuration keys.
        if let Some(key) = variable.strip_prefix(PREFIX).filter(|key| *key != "CONFIG") {
            let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
            set(&mut table, &path, parse_value(&value))
                .map_err(|()| one(format!("{variable} is not a configuration key")))?;
        }
    }
    let schema = schema_for!(Config);
    let mut unknown = Vec::new();
    find_unknown(&table, schema.as_value(), &schema, "", &mut unknown);
    if !unknown.is_empty() {
        return Err(ConfigError(unknown));
    }
    let config: Config =
        table.try_into().map_err(|error: toml::de::Error| one(error.to_string().trim().to_owned()))?;
    config.check()?;
    Ok(config)
}

/// A variable's value is read as TOML if it is that, as a plain string otherwise.
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

/// Follows a reference of the schema to the object it means.
pub(super) fn resolve<'a>(part: &'a Json, schema: &'a Schema) -> &'a Json {
    let reference = part.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(part)
}

fn find_unknown(table: &Table, part: &Json, schema: &Schema, prefix: &str, unknown: &mut Vec<String>) {
    let part = resolve(part, schema);
    let known = part.get("properties").and_then(Json::as_object);
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        let inner = match known {
            Some(known) => known.get(key),
            // A map with keys of the operator's choice.
            None => part.get("additionalProperties"),
        };
        match (inner, value) {
            (None, _) => {
                let names = known.into_iter().flat_map(|known| known.keys());
                let nearest = names
                    .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
                let hint =
                    nearest.map(|name| format!("; did you mean '{prefix}{name}'?")).unwrap_or_default();
                unknown.push(format!("there is no configuration key '{path}'{hint}"));
            }
            (Some(inner), Value::Table(inner_table)) => {
                find_unknown(inner_table, inner, schema, &format!("{path}."), unknown);
            }
            (Some(_), _) => {}
        }
    }
}
