//! Finds values of a kind that their key does not take, and says what to write. Never shows a value, which may be a
//! password.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::{
    Config,
    schema::{Kind, Known, is_rate, resolve},
};

/// A problem for each value of a wrong kind.
pub fn find_wrong(table: &Table, known: &Known) -> Vec<String> {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut problems = Vec::new();
    check_table(table, known.schema().as_value(), known, "", &defaults, &mut problems);
    problems
}

fn check_table(
    table: &Table,
    part: &Json,
    known: &Known,
    prefix: &str,
    defaults: &Table,
    problems: &mut Vec<String>,
) {
    let part = resolve(part, known.schema());
    for (key, value) in table {
        let own = part.get("properties").and_then(|properties| properties.get(key));
        let Some(property) = own.or_else(|| part.get("additionalProperties")) else { continue };
        let (path, kind, default) = (format!("{prefix}{key}"), known.kind(property), defaults.get(key));
        if let Some(problem) = mismatch(&kind, value, default) {
            problems.push(format!("{path}: {problem}"));
            continue;
        }
        match value {
            Value::Table(inner) => {
                let empty = Table::new();
                let defaults = default.and_then(Value::as_table).unwrap_or(&empty);
                check_table(inner, property, known, &format!("{path}."), defaults, problems);
            }
            Value::Array(values) => {
                let Kind::List(kind) = kind else { continue };
                let wrong = values.iter().enumerate().filter_map(|(number, value)| {
                    Some(format!("{path}[{number}]: {}", mismatch(&kind, value, None)?))
                });
                problems.extend(wrong);
            }
            _ => {}
        }
    }
}

/// What is wrong with the kind of a value; `None` if nothing is.
fn mismatch(kind: &Kind, value: &Value, default: Option<&Value>) -> Option<String> {
    let needed = match (kind, value) {
        (Kind::Any, _)
        | (Kind::Text, Value::String(_))
        | (Kind::Number, Value::Integer(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::List(_), Value::Array(_))
        | (Kind::Section(_) | Kind::Map(_), Value::Table(_)) => return None,
        (Kind::Choice(words), Value::String(word)) if words.contains(word) => return None,
        (Kind::Choice(words), _) => {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            return Some(format!("this is none of the possible values; write one of {}", words.join(", ")));
        }
        (Kind::Text, _) => "a text is needed here",
        (Kind::Number, _) => "a whole number is needed here",
        (Kind::Boolean, _) => "true or false is needed here",
        (Kind::List(_), _) => "a list is needed here",
        (Kind::Section(keys), _) if is_rate(keys) => "a rate of two numbers is needed here",
        (Kind::Section(_) | Kind::Map(_), _) => "a section is needed here",
    };
    let like = default.map(ToString::to_string);
    let write = match kind {
        Kind::Text if value.is_array() => "write one without brackets, like \"example\"".to_owned(),
        Kind::Text => "write it in quotation marks, like \"example\"".to_owned(),
        Kind::Number => format!("write it like {}", like.unwrap_or_else(|| "10".to_owned())),
        Kind::Boolean => "write it without quotation marks, like true".to_owned(),
        Kind::List(inner) if **inner == Kind::Text => {
            "write each text in quotation marks and all in brackets, like [\"example\"]".to_owned()
        }
        Kind::Section(keys) if is_rate(keys) => {
            format!("write it like {}", default.map(rate).unwrap_or_default())
        }
        Kind::List(_) | Kind::Section(_) | Kind::Map(_) | Kind::Any | Kind::Choice(_) => {
            "'bindery config example' shows how to write it".to_owned()
        }
    };
    Some(format!("{needed}, not {}; {write}", name(value)))
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

fn rate(default: &Value) -> String {
    let number = |key: &str| default.get(key).map(ToString::to_string).unwrap_or_default();
    format!("{{ burst = {}, per_hour = {} }}", number("burst"), number("per_hour"))
}
