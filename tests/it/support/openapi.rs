//! Checks answers against the OpenAPI data of the specification (`tests/spec`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use reqwest::Method;
use serde_json::{Map, Value};

use super::Reply;

/// What the specification says of one endpoint.
pub struct Endpoint {
    pub method: Method,
    /// The path with `{placeholders}`.
    pub path: String,
    responses: Map<String, Value>,
}

/// Every endpoint of the identity service that is in `tests/spec`.
pub fn endpoints() -> &'static [Endpoint] {
    static ENDPOINTS: OnceLock<Vec<Endpoint>> = OnceLock::new();
    ENDPOINTS.get_or_init(read_all)
}

/// Panics if the specification does not allow this answer.
#[track_caller]
pub fn check(method: &Method, path: &str, reply: &Reply) {
    let status = reply.status.as_u16();
    let known = endpoints().iter().find(|known| known.method == *method && matches(&known.path, path));
    let range = format!("{}XX", status / 100);
    let response =
        known.and_then(|known| known.responses.get(&status.to_string()).or(known.responses.get(&range)));
    if let (Some(known), 200) = (known, status) {
        assert!(response.is_some(), "{method} {}: 200 is not in the specification", known.path);
    }
    let schema = response.and_then(|response| response.pointer("/content/application~1json/schema"));
    let is_page =
        reply.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if status >= 400 && !is_page && *method != Method::HEAD {
        // Every error has both members (Identity Service API, "API standards").
        let body = reply.json();
        assert!(body["errcode"].is_string() && body["error"].is_string(), "{method} {path}: {body}");
    }
    if !is_page && status != 204 && !reply.text.is_empty() {
        assert_eq!(reply.headers["content-type"], "application/json", "{method} {path}");
    }
    if let Some(schema) = schema {
        let body = reply.json();
        let validator = jsonschema::validator_for(schema).expect("a schema");
        let problems: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{method} {path} {status}: {problems:?} in {body}");
    }
}

/// Panics if the specification does not allow this body of `/3pid/onbind`.
#[track_caller]
pub fn check_on_bind(body: &Value) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/api/server-server/third_party_invite.yaml");
    let document = resolve(&load(&path), &path);
    let pointer = "/paths/~13pid~1onbind/put/requestBody/content/application~1json/schema";
    let schema = document.pointer(pointer).expect("a schema");
    let validator = jsonschema::validator_for(schema).expect("a schema");
    let problems: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?} in {body}");
}

/// Whether `path` fits `template`, whose placeholders stand for one segment each.
pub fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
}

fn read_all() -> Vec<Endpoint> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/api/identity");
    let mut endpoints = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the specification") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            read_file(&path, &mut endpoints);
        }
    }
    // A literal path comes before one with a placeholder that it would also fit.
    endpoints
        .sort_by(|a, b| a.path.contains('{').cmp(&b.path.contains('{')).then_with(|| a.path.cmp(&b.path)));
    endpoints
}

fn read_file(path: &Path, endpoints: &mut Vec<Endpoint>) {
    let document = resolve(&load(path), path);
    let base =
        document.pointer("/servers/0/variables/basePath/default").and_then(Value::as_str).expect("a base");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let responses = operation["responses"].as_object().expect("responses").clone();
            endpoints.push(Endpoint { method, path: format!("{base}{path}"), responses });
        }
    }
}

fn load(path: &Path) -> Value {
    static FILES: OnceLock<std::sync::Mutex<BTreeMap<PathBuf, Value>>> = OnceLock::new();
    let mut files = FILES.get_or_init(Default::default).lock().expect("not poisoned");
    let parse = || {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.entry(path.to_owned()).or_insert_with(parse).clone()
}

/// Puts what `$ref`s mean in their place.
fn resolve(value: &Value, file: &Path) -> Value {
    match value {
        Value::Object(object) => match object.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let (name, pointer) = reference.split_once('#').unwrap_or((reference, ""));
                let target = file.parent().expect("a directory").join(name);
                let target =
                    target.canonicalize().unwrap_or_else(|_| panic!("{}: {reference}", file.display()));
                let document = load(&target);
                let part = document.pointer(pointer).unwrap_or_else(|| panic!("{reference}"));
                resolve(part, &target)
            }
            None => object.iter().map(|(key, value)| (key.clone(), resolve(value, file))).collect(),
        },
        Value::Array(values) => values.iter().map(|value| resolve(value, file)).collect(),
        other => other.clone(),
    }
}
