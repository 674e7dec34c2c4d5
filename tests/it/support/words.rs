//! The words of pages and mails, read from `assets/`. A test that needs some takes them from here, so that it holds
//! whatever they are.

use std::fs;

fn read(path: &str) -> String {
    let path = format!("{}/assets/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A text of the pages as HTML, by its section and key.
pub fn text(language: &str, section: &str, key: &str) -> String {
    let texts: toml::Table = read(&format!("i18n/{language}.toml")).parse().expect("TOML");
    let text = texts[section][key].as_str().expect("a text");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&#x27;")
}

/// The subject of a kind of mail that has the same one for everybody.
pub fn subject(language: &str, kind: &str) -> String {
    let subject = read(&format!("mail/{language}/{kind}.subject"));
    assert!(
        !subject.contains("{{"),
        "{language}/{kind}.subject has variables: find the mail by something else"
    );
    subject.trim().to_owned()
}

/// The text of a kind of mail after its title and up to its first variable, as far as it is on one line.
pub fn opening(language: &str, kind: &str) -> String {
    let text = read(&format!("mail/{language}/{kind}.txt"));
    let (_title, text) = text.split_once("\n\n").expect("a title");
    up_to_variable(text)
}

/// The template of the message to a phone with a code.
pub fn message(language: &str) -> String {
    read(&format!("sms/{language}.txt")).trim().to_owned()
}

/// The message to a phone with the link to its owner's page, up to its first variable.
pub fn opening_of_visit_message(language: &str) -> String {
    up_to_variable(&read(&format!("sms/{language}.visit.txt")))
}

fn up_to_variable(template: &str) -> String {
    let opening: String = template.split('{').next().unwrap_or_default().chars().take(40).collect();
    assert!(opening.trim().len() > 5, "the text begins with a variable: find it by something else");
    opening.trim().to_owned()
}

/// A block of the HTML of a kind of mail.
pub fn block(language: &str, kind: &str, name: &str) -> String {
    let html = read(&format!("mail/{language}/{kind}.html"));
    let block = html.split_once(&format!("{{% block {name} %}}")).and_then(|(_, rest)| rest.split_once("{%"));
    block.unwrap_or_else(|| panic!("{language}/{kind}.html has no block {name}")).0.trim().to_owned()
}
