//! Terms of service: documents with a version each, in several languages.
//!
//! Accepting one language of a document accepts the document (specification, Identity Service
//! API, "Terms of service").

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The documents that have to be accepted, by an ID of the operator's choice.
pub type Terms = BTreeMap<String, Document>;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version; a new one has to be accepted again.
    pub version: String,
    /// The document in each language, by language code; accepting one of them accepts the document.
    pub languages: BTreeMap<String, Text>,
}

/// A document in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The title of the document in this language.
    pub name: String,
    /// Where to read it; should hold the document's ID, version and language.
    pub url: String,
}

/// The documents that accepting these URLs accepts: ID and version of each.
pub fn accepted_by<'a>(terms: &'a Terms, urls: &[String]) -> Vec<(&'a str, &'a str)> {
    let has_url = |document: &Document| document.languages.values().any(|text| urls.contains(&text.url));
    terms
        .iter()
        .filter(|(_, document)| has_url(document))
        .map(|(id, document)| (id.as_str(), document.version.as_str()))
        .collect()
}
