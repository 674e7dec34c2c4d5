//! Prints `bindery config example`: a configuration file with every key, its default and its sentence, from the
//! types.

use std::fmt::Write;

use schemars::{Schema, schema_for};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{Config, load::resolve};

/// The complete example. Each line that sets a key is commented out and shows the default.
pub fn example() -> String {
    let schema = schema_for!(Config);
    let defaults = Table::try_from(Config::default()).expect("the defaults are a table");
    let mut text = String::from(
        "# The configuration of Bindery. Every key is here with its default; remove the '#' to change one.\n\
                 # You can also set each key with an environment variable: http.listen is BINDERY_HTTP__LISTEN.\n",
    );
    section(&mut text, schema.as_value(), &schema, "", &defaults);
    terms(&mut text, &schema);
    text
}

fn section(text: &mut String, part: &Json, schema: &Schema, path: &str, defaults: &Table) {
    let part = resolve(part, schema);
    let Some(properties) = part.get("properties").and_then(Json::as_object) else { return };
    // The operator chooses the keys of the terms, so an example of them is printed at the end.
    let is_section = |key: &String| {
        let table = defaults.get(key).and_then(Value::as_table);
        table.is_some_and(|table| !table.is_empty() && !table.contains_key("per_hour"))
    };
    for (key, property) in properties.iter().filter(|(key, _)| !is_section(key) && *key != "terms") {
        let default = defaults.get(key).map(one_line).unwrap_or_else(|| "\"\"".to_owned());
        let unset = if defaults.contains_key(key) { "" } else { " Not set by default." };
        let _ = write!(text, "\n# {}{unset}\n#{key} = {default}\n", sentence(property, schema));
    }
    for (key, property) in properties.iter().filter(|(key, _)| is_section(key) && *key != "terms") {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let _ = write!(text, "\n# {}\n#[{path}]\n", sentence(property, schema));
        if let Some(Value::Table(inner)) = defaults.get(key) {
            section(text, property, schema, &path, inner);
        }
    }
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

fn sentence<'a>(property: &'a Json, schema: &'a Schema) -> &'a str {
    let own = property.get("description").or_else(|| resolve(property, schema).get("description"));
    own.and_then(Json::as_str).unwrap_or_default()
}

/// Prints the terms with an example document.
fn terms(text: &mut String, schema: &Schema) {
    let of = |pointer: &str| {
        schema.pointer(pointer).map(|property| sentence(property, schema)).unwrap_or_default()
    };
    let _ = write!(
        text,
        "\n# {}\n#[terms.privacy_policy]\n\n# {}\n#version = \"1.0\"\n\n# {}\n#[terms.privacy_policy.languages.en]\n\n\
         # {}\n#name = \"Privacy policy\"\n\n# {}\n#url = \"https://id.example.org/privacy/1.0/en\"\n",
        of("/properties/terms"),
        of("/$defs/Document/properties/version"),
        of("/$defs/Document/properties/languages"),
        of("/$defs/Text/properties/name"),
        of("/$defs/Text/properties/url"),
    );
}
