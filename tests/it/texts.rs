//! Every text for people says the same in each language, in its words, in short sentences and well set.

mod glossary;
mod prose;
mod sms;
mod typography;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bindery::domain::language::Language;

/// A text in one language.
struct Text {
    /// The file, and the key in it.
    name: String,
    language: Language,
    source: String,
}

impl Text {
    fn is_html(&self) -> bool {
        Path::new(&self.name).extension().is_some_and(|extension| extension == "html")
    }

    /// The words as their reader sees them, with "7" for every variable. Branches of a template that exclude each
    /// other are apart.
    fn prose(&self) -> Vec<String> {
        prose::read(&self.source, self.is_html())
    }
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the files in a folder of `assets/`.
fn files(folder: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(folder);
    let entries =
        std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.map(|name| name.into_string().expect("UTF-8")).collect()
}

/// The texts of `assets/i18n`, by section and key.
fn translations(language: Language) -> BTreeMap<String, String> {
    let table: toml::Table = read(&format!("i18n/{}.toml", language.as_str())).parse().expect("TOML");
    let mut texts = BTreeMap::new();
    for (section, keys) in &table {
        for (key, text) in keys.as_table().expect("a section") {
            texts.insert(format!("{section}.{key}"), text.as_str().expect("a text").to_owned());
        }
    }
    texts
}

/// The paths of the templates of a language, with `<lang>` for the language.
fn templates(language: Language) -> BTreeSet<String> {
    let code = language.as_str();
    let mails = files(&format!("mail/{code}")).into_iter().map(|name| format!("mail/<lang>/{name}"));
    let sms = files("sms").into_iter();
    let sms =
        sms.filter_map(|name| Some(format!("sms/<lang>.{}", name.strip_prefix(code)?.strip_prefix('.')?)));
    mails.chain(sms).chain(["privacy/<lang>.html".to_owned()]).collect()
}

fn path_in(language: Language, template: &str) -> String {
    template.replace("<lang>", language.as_str())
}

/// Every text for people.
fn texts() -> Vec<Text> {
    let mut texts = Vec::new();
    for language in Language::ALL {
        for (key, source) in translations(language) {
            let name = format!("i18n/{}.toml {key}", language.as_str());
            texts.push(Text { name, language, source: prose::as_template(&source) });
        }
        for template in templates(language) {
            let name = path_in(language, &template);
            texts.push(Text { source: read(&name), name, language });
        }
    }
    assert!(texts.len() > 700, "there are texts: {}", texts.len());
    texts
}

/// Fails with all problems at once, so that a writer sees them together.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_language_has_every_text() {
    let english = translations(Language::En);
    for language in [Language::Fr, Language::De, Language::Es] {
        let other = translations(language);
        assert!(other.keys().eq(english.keys()), "{language:?}: {:?}", differing(&other, &english));
        for (key, text) in &other {
            let is_the_same_word = text == "Version {number}";
            assert!(is_the_same_word || text != &english[key], "{language:?} {key} is translated");
        }
        assert_eq!(templates(language), templates(Language::En), "{language:?}");
    }
    // Nothing in the folders belongs to no language.
    let all = |count: usize| count * Language::ALL.len();
    assert_eq!(files("sms").len(), all(2));
    assert_eq!(files("i18n").len(), all(1));
    assert_eq!(files("privacy").len(), all(1));
}

fn differing(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let keys = |texts: &BTreeMap<String, String>| texts.keys().cloned().collect::<BTreeSet<_>>();
    keys(one).symmetric_difference(&keys(other)).cloned().collect()
}

#[test]
fn every_text_has_the_same_variables_and_conditions_in_every_language() {
    let mut problems = Vec::new();
    let mut compare = |name: &str, english: &BTreeSet<String>, other: &BTreeSet<String>| {
        for missing in english.difference(other) {
            problems.push(format!("{name} has not {missing}"));
        }
        for more in other.difference(english) {
            problems.push(format!("{name} has {more}, and English has not"));
        }
    };
    let english = translations(Language::En);
    for language in [Language::Fr, Language::De, Language::Es] {
        for (key, text) in translations(language) {
            let name = format!("i18n/{}.toml {key}", language.as_str());
            let of = |text: &str| prose::expressions(&prose::as_template(text));
            compare(&name, &english.get(&key).map(|text| of(text)).unwrap_or_default(), &of(&text));
        }
        for template in templates(language) {
            let of = |language| {
                let code = format!("mail/{}/", Language::as_str(language));
                prose::expressions(&read(&path_in(language, &template)).replace(&code, "mail/<lang>/"))
            };
            compare(&path_in(language, &template), &of(Language::En), &of(language));
        }
    }
    assert_none(&problems);
}

#[test]
fn text_and_html_of_a_mail_have_the_same_variables_of_their_own() {
    // What the frame and the footer add is theirs.
    let own = |path: &str| -> BTreeSet<String> {
        let shared = ["{{link", "{{me", "{{stop", "{% extends", "{% include", "{% block", "{% endblock"];
        let all = prose::expressions(&read(path)).into_iter();
        all.filter(|one| !shared.iter().any(|shared| one.starts_with(shared))).collect()
    };
    for language in Language::ALL {
        for kind in ["validate", "invite", "bound", "unbound", "visit"] {
            let [text, html] =
                ["txt", "html"].map(|part| own(&format!("mail/{}/{kind}.{part}", language.as_str())));
            assert_eq!(text, html, "{language:?} {kind}");
        }
    }
}

#[test]
fn every_text_that_a_page_names_exists() {
    let english = translations(Language::En);
    let mut named = 0;
    for page in files("pages") {
        let source = read(&format!("pages/{page}"));
        let expressions = prose::expressions(&source).into_iter().collect::<Vec<_>>().join(" ");
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        for word in expressions.split(|c: char| !is_part(c)) {
            let Some(key) = word.strip_prefix("t.").filter(|key| key.contains('.')) else { continue };
            assert!(english.contains_key(key), "{page} names {key}");
            named += 1;
        }
    }
    assert!(named > 70, "pages name texts: {named}");
}

#[test]
fn no_sentence_has_more_than_thirty_words() {
    let mut problems = Vec::new();
    for text in texts() {
        for sentence in text.prose().iter().flat_map(|words| prose::sentences(words)) {
            let count = prose::count_words(&sentence);
            if count > 30 {
                problems.push(format!("{}: {count} words: {sentence}", text.name));
            }
        }
    }
    assert_none(&problems);
}
