//! What the types of the configuration say about its keys: which there are, and what kind of value each needs.

use schemars::{Schema, schema_for};
use serde_json::Value as Json;

use super::Config;

/// The kind of value that a key needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these texts.
    Choice(Vec<String>),
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list of such values.
    List(Box<Kind>),
    /// A table whose keys are known, such as a section or a rate.
    Section(Vec<String>),
    /// A table whose keys the operator chooses.
    Map(Box<Kind>),
    /// Whatever the operator likes.
    Any,
}

/// All keys of the configuration.
pub struct Known {
    schema: Schema,
    /// The path of each key that is no section.
    keys: Vec<String>,
    sections: Vec<String>,
}

impl Known {
    /// Reads them from the types.
    pub fn new() -> Self {
        let schema = schema_for!(Config);
        let mut known = Self { schema, keys: Vec::new(), sections: Vec::new() };
        let (mut keys, mut sections) = (Vec::new(), Vec::new());
        known.collect(known.schema.as_value(), "", &mut keys, &mut sections);
        (known.keys, known.sections) = (keys, sections);
        known
    }

    fn collect(&self, part: &Json, prefix: &str, keys: &mut Vec<String>, sections: &mut Vec<String>) {
        let properties = resolve(part, &self.schema).get("properties").and_then(Json::as_object);
        for (key, property) in properties.into_iter().flatten() {
            let path = format!("{prefix}{key}");
            match self.kind(property) {
                Kind::Section(inner) if !is_rate(&inner) => {
                    self.collect(property, &format!("{path}."), keys, sections);
                    sections.push(path);
                }
                _ => keys.push(path),
            }
        }
    }

    /// The schema of everything.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The path of each key that is no section.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// Whether there is a key with this path.
    pub fn is_key(&self, path: &str) -> bool {
        self.keys().any(|key| key == path)
    }

    /// The path of each section, an outer one behind its inner ones.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(String::as_str)
    }

    /// Whether there is a section with this path.
    pub fn is_section(&self, path: &str) -> bool {
        self.sections().any(|section| section == path)
    }

    /// Whether some section has a key of this name.
    pub fn is_name(&self, name: &str) -> bool {
        self.keys().chain(self.sections()).any(|key| last(key) == name)
    }

    /// The schema of the key or section at this path.
    pub fn property<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Json> {
        let at = |part, key: &str| resolve(part, &self.schema).get("properties")?.get(key);
        path.into_iter().try_fold(self.schema.as_value(), at)
    }

    /// The kind of value of a property.
    pub fn kind(&self, property: &Json) -> Kind {
        let property = resolve(property, &self.schema);
        let forms = ["oneOf", "anyOf"].into_iter().find_map(|name| property.get(name)?.as_array());
        if let Some(forms) = forms {
            let words: Vec<_> = forms.iter().filter_map(|form| form.get("const")?.as_str()).collect();
            let is_null = |form: &&Json| form.get("type").is_some_and(|kind| kind == "null");
            return match forms.iter().find(|form| !is_null(form)) {
                Some(form) if words.is_empty() => self.kind(form),
                _ => Kind::Choice(words.into_iter().map(str::to_owned).collect()),
            };
        }
        if let Some(words) = property.get("enum").and_then(Json::as_array) {
            return Kind::Choice(words.iter().filter_map(Json::as_str).map(str::to_owned).collect());
        }
        let kinds = property.get("type");
        let several = kinds.and_then(Json::as_array).map(Vec::as_slice);
        let mut kinds = several.unwrap_or_else(|| kinds.map(std::slice::from_ref).unwrap_or_default()).iter();
        let inner = |name: &str| Box::new(property.get(name).map_or(Kind::Any, |inner| self.kind(inner)));
        match kinds.find_map(|kind| kind.as_str().filter(|kind| *kind != "null")) {
            Some("string") => Kind::Text,
            Some("integer") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            Some("array") => Kind::List(inner("items")),
            Some("object") => match property.get("properties").and_then(Json::as_object) {
                Some(properties) => Kind::Section(properties.keys().cloned().collect()),
                None => Kind::Map(inner("additionalProperties")),
            },
            _ => Kind::Any,
        }
    }
}

/// Whether these are the keys of a rate, which the operator writes in one line.
pub fn is_rate(keys: &[String]) -> bool {
    keys.iter().any(|key| key == "per_hour")
}

/// The last part of a path: the name of the key in its section.
pub fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// Follows a `$ref` of the schema.
pub(super) fn resolve<'a>(part: &'a Json, schema: &'a Schema) -> &'a Json {
    let reference = part.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(part)
}
