//! Loads the configuration: a TOML file, then `BINDERY_*` variables over it, then the checks.
//!
//! Each problem begins with the place of the mistake: the file and the line, or the variable.

use std::{collections::HashMap, path::Path};

use serde_json::Value as Json;
use toml::{Table, Value};

use super::{
    Config, ConfigError, Source,
    document::Document,
    kinds,
    schema::{Kind, Known, resolve},
    source, unknown,
};

/// The prefix of environment variables; `__` in them separates a section from its key.
const PREFIX: &str = "BINDERY_";

/// Loads the configuration from `file`, if there is one, and from environment variables.
///
/// # Errors
/// All mistakes of one kind: wrong syntax, unknown keys, values of a wrong kind, else everything that the checks find.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let known = Known::new();
    let document = match file {
        None => Document::default(),
        Some(path) => Document::parse(source::read(path)?, &known).map_err(|(line, problem)| {
            ConfigError(vec![format!("{}, line {line}: {problem}", path.display())])
        })?,
    };
    let source = Source { file: file.map(Path::to_owned), doubts: document.doubts(&known) };
    let mut input = Input { source, variables: HashMap::new(), table: document.table.clone(), document };
    input.set_variables(environment, &known).map_err(ConfigError)?;
    input.typed(&known).map_err(|problems| input.placed(problems))
}

/// What the operator wrote.
struct Input {
    source: Source,
    document: Document,
    /// The variable that sets a key.
    variables: HashMap<String, String>,
    table: Table,
}

impl Input {
    fn set_variables(
        &mut self,
        environment: impl Iterator<Item = (String, String)>,
        known: &Known,
    ) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for (variable, value) in environment {
            // BINDERY_CONFIG is an argument of the command line, not a configuration key.
            let Some(key) = variable.strip_prefix(PREFIX).filter(|key| *key != "CONFIG") else { continue };
            let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
            let kind = known.property(path.iter().map(String::as_str)).map(|property| known.kind(property));
            if kind.is_none()
                && let Some(meant) = unknown::same_letters(&path.join("."), known)
            {
                let name = meant.replace('.', "__").to_ascii_uppercase();
                problems.push(format!(
                    "{variable} is no setting: write {PREFIX}{name}, with two underscores between a section and its key"
                ));
                continue;
            }
            // Others use this prefix, too: Kubernetes sets BINDERY_PORT beside a service of that name.
            if path.len() == 1 && kind.is_none() {
                self.source.doubts.push(format!("the variable {variable} is no setting and is ignored"));
                continue;
            }
            // A value of a text key stays text, since a password may look like a number.
            let is_text = matches!(kind, Some(Kind::Text | Kind::Choice(_)));
            let value = if is_text { Value::String(value) } else { parse_value(&value) };
            if set(&mut self.table, &path, value).is_err() {
                problems.push(format!("{variable} is not a configuration key"));
            }
            self.variables.insert(path.join("."), variable);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Gives the values their types and checks them.
    fn typed(&self, known: &Known) -> Result<Config, Vec<String>> {
        let unknown = unknown::find(&self.table, known, &self.document);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let mut table = self.table.clone();
        drop_empty(&mut table, known.schema().as_value(), known);
        let wrong = kinds::find_wrong(&table, known);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut config = deserialize(table)?;
        config.check().map_err(|ConfigError(problems)| problems)?;
        config.source = self.source.clone();
        Ok(config)
    }

    /// Adds the place to each problem: the operator looks for what they wrote.
    fn placed(&self, problems: Vec<String>) -> ConfigError {
        let placed = problems.into_iter().map(|problem| {
            let key = problem.split_once(':').map_or("", |(key, _)| key);
            let name = key.split('[').next().unwrap_or_default();
            match (self.variables.get(name), self.document.line(key)) {
                (Some(variable), _) => format!("{variable}: {problem}"),
                (None, Some(line)) => format!("{}, line {line}: {problem}", self.source),
                (None, None) => format!("{}: {problem}", self.source),
            }
        });
        ConfigError(placed.collect())
    }
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

/// Gives the table its types. An error names the key and never shows the value, which may be a password.
fn deserialize(table: Table) -> Result<Config, Vec<String>> {
    serde_path_to_error::deserialize(table).map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
        let message = error.inner().message();
        let problem = match (message.strip_prefix("missing field "), message.rsplit_once(", expected ")) {
            (Some(key), _) => format!("the key {} is missing", key.replace('`', "'")),
            (None, Some((_, expected))) => format!("the value is wrong, expected {}", in_words(expected)),
            (None, None) => "the value is wrong".to_owned(),
        };
        vec![format!("{}: {problem}", error.path())]
    })
}

/// What an operator calls a type of number.
fn in_words(expected: &str) -> &str {
    match expected {
        "u16" => "a number from 0 to 65535",
        "u32" | "u64" | "usize" => "a number from 0 on",
        "a nonzero u32" | "a nonzero u64" => "a number from 1 on",
        other => other,
    }
}

/// Removes optional keys with an empty value: the example writes an unset key like that.
fn drop_empty(table: &mut Table, part: &Json, known: &Known) {
    let Some(properties) = resolve(part, known.schema()).get("properties") else { return };
    table.retain(|key, value| {
        let Some(property) = properties.get(key) else { return true };
        if let Value::Table(inner) = value {
            drop_empty(inner, property, known);
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
