//! Terms of service: documents, each with a version and several languages.
//!
//! An account that accepts a document in one language has accepted the document (specification, Identity Service
//! API, "Terms of service").

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The documents that accounts must accept, by the ID that the operator chose.
pub type Terms = BTreeMap<String, Document>;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version; when you change it, accounts must accept the document again.
    pub version: String,
    /// The document in each language, by language code; it is enough to accept one language.
    pub languages: BTreeMap<String, Text>,
}

/// A document in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The title of the document in this language.
    pub name: String,
    /// The URL of the document in this language; it should contain the document's ID, version and language.
    pub url: String,
}

/// A document that accounts must accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Required {
    /// The ID of the document.
    pub id: String,
    /// The document as Bindery offers it.
    pub document: Document,
    /// The versions of which an account must have accepted one, including the offered version.
    pub enough: Vec<String>,
}

impl Required {
    /// A document whose offered version alone is enough.
    pub fn just(id: &str, document: &Document) -> Self {
        let enough = vec![document.version.clone()];
        Self { id: id.to_owned(), document: document.clone(), enough }
    }

    /// Whether one of these URLs is the document's URL in any language.
    pub fn is_accepted_by(&self, urls: &[String]) -> bool {
        self.document.languages.values().any(|text| urls.contains(&text.url))
    }
}
