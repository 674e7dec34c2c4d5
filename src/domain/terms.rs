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

/// A document that has to be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Required {
    /// The ID of the document.
    pub id: String,
    /// The document as it is offered.
    pub document: Document,
    /// The versions of which one must have been accepted; the one that is offered is among them.
    pub enough: Vec<String>,
}

impl Required {
    /// A document of which only the version that is offered will do.
    pub fn just(id: &str, document: &Document) -> Self {
        let enough = vec![document.version.clone()];
        Self { id: id.to_owned(), document: document.clone(), enough }
    }

    /// Whether one of these URLs is the document's, in any language.
    pub fn is_accepted_by(&self, urls: &[String]) -> bool {
        self.document.languages.values().any(|text| urls.contains(&text.url))
    }
}
