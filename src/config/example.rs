//! Prints `bindery config example`: a configuration file with every key, its default and its sentence, from the
//! types. What every operator must set comes first, the limits last.

use std::fmt::Write;

use serde_json::Value as Json;
use toml::Value;

use super::{
    Config,
    schema::{Known, last, resolve},
};

/// The keys that stand in the example without '#'. Every operator must set six of them; the defaults of the other two,
/// `data_dir` and `mail.transport`, are for a try.
pub const SET: [(&str, &str); 8] = [
    ("server_name", "id.example.org"),
    ("public_base_url", "https://id.example.org"),
    ("data_dir", "/var/lib/bindery"),
    ("mail.transport", "smtp"),
    ("mail.from", "noreply@example.org"),
    ("mail.smtp.host", "mail.example.org"),
    ("operator.name", "Example Society"),
    ("operator.contact", "privacy@example.org"),
];

/// The sections by task. Those that are missing here come before the limits.
const TASKS: [(&str, &[&str]); 8] = [
    ("What every server needs", &["", "mail", "mail.smtp", "operator"]),
    ("Whose users may use this server", &["homeservers"]),
    ("Where it listens", &["http"]),
    ("Invitations, and links after a validation", &["invites", "validation"]),
    ("Phone numbers", &["sms", "sms.http", "delegation"]),
    ("How long data is kept, and lookups", &["privacy", "lookup"]),
    ("The log and the memory of the server", &["log", "store"]),
    ("Limits for each caller", LIMITS),
];

const LIMITS: &[&str] = &["limits"];

/// Values for a task, beside the default. These keys come before the others of their section, in this order.
const EXAMPLES: [(&str, &str); 12] = [
    ("aliases", r#"["identity.example.org"]"#),
    ("mail.smtp.port", "587"),
    ("mail.smtp.security", r#""starttls""#),
    ("mail.smtp.username", r#""bindery""#),
    ("mail.smtp.password_file", r#""/etc/bindery/smtp-password""#),
    ("operator.postal_address", r#""1 Example Road, Exampletown""#),
    ("homeservers.allow", r#"["example.org", "matrix.example.net"]"#),
    ("http.listen", r#"["127.0.0.1:8090", "[::1]:8090"]"#),
    ("http.metrics_listen", r#"["127.0.0.1:9090"]"#),
    ("validation.next_link_prefixes", r#"["https://app.element.io/"]"#),
    ("sms.countries", r#"["GB", "IE"]"#),
    ("delegation.allowed_networks", r#"["192.0.2.10/32"]"#),
];

const INTRODUCTION: &str = "\
# The configuration of Bindery. Every key is here with its default; remove the '#' to change one.
# First set the keys without a '#': what stands there is an example.
# You can also set each key with an environment variable: http.listen is BINDERY_HTTP__LISTEN.
# 'bindery config check' says what is wrong.
";

/// The complete example. It loads as it is. Each line that sets another key is commented out and shows the default.
pub fn example() -> String {
    let known = Known::new();
    let defaults = Value::try_from(Config::default()).expect("the defaults are a table");
    let mut page = Page { text: INTRODUCTION.to_owned(), defaults, known: &known };
    let named: Vec<&str> = TASKS.iter().flat_map(|(_, sections)| *sections).copied().collect();
    let others: Vec<&str> = known.sections().filter(|section| !named.contains(section)).collect();
    for (title, sections) in TASKS {
        if sections == LIMITS {
            if !others.is_empty() {
                page.task("More", &others);
            }
            page.terms();
        }
        page.task(title, sections);
    }
    page.text
}

struct Page<'a> {
    text: String,
    defaults: Value,
    known: &'a Known,
}

impl Page<'_> {
    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(line);
    }

    fn task(&mut self, title: &str, sections: &[&str]) {
        self.write(format_args!("\n\n# ==== {title} ====\n"));
        for section in sections {
            self.section(section);
        }
    }

    fn section(&mut self, section: &str) {
        if !section.is_empty() {
            let sentence = self.sentence(section);
            self.write(format_args!("\n# {sentence}\n[{section}]\n"));
        }
        let is_own = |key: &&str| {
            key.strip_suffix(last(key)).is_some_and(|rest| rest.trim_end_matches('.') == section)
        };
        for (key, value) in SET.iter().filter(|(key, _)| is_own(key)) {
            let sentence = self.sentence(key);
            self.write(format_args!("\n# {sentence}\n{} = \"{value}\"\n", last(key)));
        }
        for (key, example) in EXAMPLES.iter().filter(|(key, _)| is_own(key)) {
            self.key(key, Some(example));
        }
        let is_written = |key: &&str| SET.iter().chain(&EXAMPLES).any(|(other, _)| other == key);
        let known = self.known;
        for key in known.keys().filter(|key| is_own(key) && !is_written(key) && *key != "terms") {
            self.key(key, None);
        }
    }

    /// Prints a key that the operator may set, commented out.
    fn key(&mut self, key: &str, example: Option<&str>) {
        let default = key.split('.').try_fold(&self.defaults, |part, name| part.get(name)).map(one_line);
        let unset = if default.is_some() { "" } else { " Not set by default." };
        let (sentence, name) = (self.sentence(key), last(key));
        self.write(format_args!("\n# {sentence}{unset}\n"));
        if let Some(example) = example {
            self.write(format_args!("# Example: {name} = {example}\n"));
        }
        let default = default.unwrap_or_else(|| "\"\"".to_owned());
        self.write(format_args!("#{name} = {default}\n"));
    }

    fn sentence(&self, path: &str) -> String {
        let property = self.known.property(path.split('.')).unwrap_or(&Json::Null);
        self.sentence_of(property).to_owned()
    }

    fn sentence_of<'a>(&'a self, property: &'a Json) -> &'a str {
        let schema = self.known.schema();
        let own = property.get("description").or_else(|| resolve(property, schema).get("description"));
        own.and_then(Json::as_str).unwrap_or_default()
    }

    /// Prints the terms with an example document, because the operator chooses their keys.
    fn terms(&mut self) {
        let of = |pointer: &str| {
            self.known
                .schema()
                .pointer(pointer)
                .map(|property| self.sentence_of(property))
                .unwrap_or_default()
        };
        let text = format!(
            "\n\n# ==== Documents of your own in place of the privacy notice ====\n\n\
             # {}\n#[terms.privacy_policy]\n\n# {}\n#version = \"1.0\"\n\n# {}\n#[terms.privacy_policy.languages.en]\n\n\
             # {}\n#name = \"Privacy policy\"\n\n# {}\n#url = \"https://id.example.org/privacy/1.0/en\"\n",
            of("/properties/terms"),
            of("/$defs/Document/properties/version"),
            of("/$defs/Document/properties/languages"),
            of("/$defs/Text/properties/name"),
            of("/$defs/Text/properties/url"),
        );
        self.text.push_str(&text);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_value_loads() {
        for (key, value) in EXAMPLES {
            let text = example().replace("# Example: ", "");
            let shown = format!("{} = {value}\n", last(key));
            assert!(text.contains(&shown), "{key}: no such key");
            let document: toml::Table = format!("{key} = {value}").parse().expect(key);
            let config: Result<Config, _> = document.try_into();
            config.expect(key);
        }
    }
}
