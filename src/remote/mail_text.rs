//! Renders mails: a subject, a text and perhaps HTML, by brand and language.
//!
//! Bindery reads and renders every template at the start, so that the operator finds a mistake and not the
//! recipient of a mail.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, context,
    value::{Serde, Value},
};
use serde::Serialize;

use super::mail_lines::wrap;
use crate::{
    assets::{add_formats, escape_html, keep_slashes, keep_words, template},
    config::is_brand,
    domain::{file_error::with_path, ids::UserId, language::Language, names::isolated, shown::ShownId},
};

/// The variables of a template. They have Sydent's names where it has them, so that an operator can reuse
/// templates.
#[derive(Serialize)]
pub struct Variables<'a> {
    /// The recipient's address, which a stranger may have entered: templates isolate it.
    pub to: &'a str,
    /// The sender of the mail.
    pub from: &'a str,
    /// The link to follow.
    pub link: &'a str,
    /// The page on which the reader sees what is stored about them.
    pub me: &'a str,
    /// The page on which the reader opts out of all messages.
    pub stop: &'a str,
    /// The privacy notice in the language of the mail.
    pub privacy: &'a str,
    /// The name of this server.
    pub server_name: &'a str,
    /// The name of the operator.
    pub operator: Option<&'a str>,
    /// The email address of the operator.
    pub contact: Option<&'a str>,
    /// The variables of this kind of mail.
    #[serde(flatten)]
    pub about: About<'a>,
}

/// The kind of a mail, with its variables.
#[derive(Serialize)]
#[serde(untagged)]
pub enum About<'a> {
    /// Is this address yours?
    Validation(Validation<'a>),
    /// You are invited.
    Invitation(Invitation<'a>),
    /// Your address was bound.
    Bound(Account),
    /// Your address was unbound.
    Unbound(Account),
    /// Here is the link to your page.
    Visit(Visit),
}

/// The kinds of mails; the names of their templates.
const KINDS: [&str; 5] = ["validate", "invite", "bound", "unbound", "visit"];

impl About<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Validation(_) => KINDS[0],
            Self::Invitation(_) => KINDS[1],
            Self::Bound(_) => KINDS[2],
            Self::Unbound(_) => KINDS[3],
            Self::Visit(_) => KINDS[4],
        }
    }
}

/// One mail of each kind, to render templates with at the start.
fn samples() -> [Variables<'static>; 5] {
    let shown = ShownId { homeserver: Some("b".to_owned()), localpart: "a".to_owned() };
    let account = || Account { account: shown.whole_user(), shown: shown.clone() };
    let invitation = Invitation {
        sender: shown.whole_user(),
        shown: shown.clone(),
        inviter_name: None,
        room_name: Some("r"),
        is_space: false,
        expire_days: 1,
    };
    [
        About::Validation(Validation { token: "t", session_hours: 1, account: account() }),
        About::Invitation(invitation),
        About::Bound(account()),
        About::Unbound(account()),
        About::Visit(Visit { minutes: 60 }),
    ]
    .map(|about| Variables {
        to: "a@b.c",
        from: "d@e.f",
        link: "l",
        me: "m",
        stop: "n",
        privacy: "p",
        server_name: "s",
        operator: Some("o"),
        contact: None,
        about,
    })
}

/// The variables of a validation mail.
#[derive(Serialize)]
pub struct Validation<'a> {
    /// The token, for clients in which people type it.
    pub token: &'a str,
    /// For how many hours the link and the token work.
    pub session_hours: u64,
    /// The Matrix ID that asked.
    #[serde(flatten)]
    pub account: Account,
}

/// A Matrix ID.
#[derive(Serialize)]
pub struct Account {
    /// The whole ID, for templates that have no labels.
    pub account: String,
    /// Its parts.
    #[serde(flatten)]
    pub shown: ShownId,
}

impl Account {
    /// The Matrix ID as a mail shows it.
    pub fn of(user: &UserId) -> Self {
        let shown = ShownId::of_user(user);
        Self { account: shown.whole_user(), shown }
    }
}

/// The variables of an invitation mail.
#[derive(Serialize)]
pub struct Invitation<'a> {
    /// The Matrix ID that invites, for templates that have no labels; verified.
    pub sender: String,
    /// Its parts.
    #[serde(flatten)]
    pub shown: ShownId,
    /// The display name of the sender; not verified.
    pub inviter_name: Option<&'a str>,
    /// The name of the room; not verified.
    pub room_name: Option<&'a str>,
    /// Whether it is a space.
    pub is_space: bool,
    /// After how many days the invitation is deleted.
    pub expire_days: u32,
}

/// The variables of the mail with the link to the reader's own page.
#[derive(Serialize)]
pub struct Visit {
    /// For how many minutes the link works.
    pub minutes: u64,
}

/// A rendered mail.
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// Plain text, in lines that no mail program breaks.
    pub text: String,
    /// HTML, if the brand has any.
    pub html: Option<String>,
}

/// The templates of every brand.
pub struct Texts {
    brands: BTreeMap<String, Environment<'static>>,
    default_brand: String,
}

impl Texts {
    /// Reads the built-in templates and those in `directory`, one subdirectory for each brand.
    ///
    /// # Errors
    /// If a template is missing or does not render.
    pub fn load(directory: Option<&Path>, default_brand: &str) -> anyhow::Result<Self> {
        let mut brands = BTreeMap::from([(default_brand.to_owned(), environment(directory, default_brand)?)]);
        if let Some(directory) = directory {
            let entries =
                std::fs::read_dir(directory).map_err(with_path(directory)).context("mail.templates_dir")?;
            for entry in entries {
                let entry = entry.map_err(with_path(directory))?;
                let name = entry.file_name();
                if let Some(brand) = name.to_str().filter(|name| is_brand(name) && entry.path().is_dir()) {
                    brands.insert(brand.to_owned(), environment(Some(directory), brand)?);
                }
            }
        }
        let texts = Self { brands, default_brand: default_brand.to_owned() };
        for brand in texts.brands.keys() {
            for (language, sample) in Language::ALL.iter().flat_map(|l| samples().map(|s| (*l, s))) {
                texts.render(Some(brand), language, &sample).with_context(|| wrong(brand, language))?;
            }
        }
        Ok(texts)
    }

    /// Renders the templates of a brand, or of the default brand if `brand` is unknown.
    ///
    /// # Errors
    /// If a template does not render; [`Texts::load`] has tried them all.
    pub fn render(
        &self,
        brand: Option<&str>,
        language: Language,
        variables: &Variables<'_>,
    ) -> anyhow::Result<Rendered> {
        let chosen = brand.and_then(|brand| self.brands.get(brand));
        let environment = chosen.unwrap_or(&self.brands[&self.default_brand]);
        let name = |part: &str| name(language, variables.about.kind(), part);
        let values = context! { lang => language.as_str(), ..Value::from(Serde(variables)) };
        let render = |part: &str| environment.get_template(&name(part))?.render(&values);
        let subject = on_one_line(&render("subject")?);
        let html = environment.get_template(&name("html")).is_ok();
        Ok(Rendered { subject, text: wrap(&render("txt")?), html: html.then(|| render("html")).transpose()? })
    }
}

/// A text with one space for each run of white space. No-break spaces stay, because French has them before signs.
fn on_one_line(text: &str) -> String {
    let is_break = |c: char| c.is_whitespace() && !['\u{a0}', '\u{202f}'].contains(&c);
    text.split(is_break).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A name or an address that a stranger chose, isolated for direction. One word in ASCII has only one direction.
fn isolate(state: &State<'_, '_>, text: &str) -> Value {
    match state.auto_escape() {
        AutoEscape::Html => Value::from_safe_string(format!("<bdi>{}</bdi>", escape_html(text))),
        _ if text.bytes().all(|b| b.is_ascii_graphic()) => text.into(),
        _ => isolated(text).into(),
    }
}

fn name(language: Language, kind: &str, part: &str) -> String {
    format!("mail/{}/{kind}.{part}", language.as_str())
}

fn wrong(brand: &str, language: Language) -> String {
    format!("the mail template of brand '{brand}' in '{}' is wrong", language.as_str())
}

fn environment(directory: Option<&Path>, brand: &str) -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
    });
    keep_slashes(&mut environment);
    add_formats(&mut environment);
    environment.add_filter("isolate", isolate);
    // The loader is called only for templates that were not added below: a template names a wrong one.
    environment.set_loader(|name| -> Result<Option<String>, Error> {
        let known = "an HTML mail extends mail/<language>/frame.html, and that extends mail/frame.html; \
            a text includes mail/<language>/footer.txt and account.txt";
        Err(Error::new(ErrorKind::InvalidOperation, format!("there is no template '{name}'; {known}")))
    });
    let is_own = |path: &str| directory.is_some_and(|directory| directory.join(brand).join(path).exists());
    let mut add = |path: String| {
        let source = template(directory, brand, &path).context("mail.templates_dir")?;
        let source = source.with_context(|| format!("{path} is missing"))?;
        // lettre turns LF into CRLF and would leave other line ends as they are.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        // The words in an operator's own file may be a part of a link.
        let is_our_html = path.ends_with(".html") && !is_own(&path);
        let source = if is_our_html { keep_words(&source) } else { source };
        anyhow::Ok(environment.add_template_owned(path, source)?)
    };
    add("mail/frame.html".to_owned())
        .with_context(|| format!("the mail frame of brand '{brand}' is wrong"))?;
    for language in Language::ALL {
        let shared = [("frame", "html"), ("footer", "txt"), ("account", "html"), ("account", "txt")];
        let mut paths = shared.map(|(kind, part)| name(language, kind, part)).to_vec();
        for kind in KINDS {
            let [subject, text, html] = ["subject", "txt", "html"].map(|part| name(language, kind, part));
            // A brand with its own text and no HTML gets no built-in HTML, which would say something else.
            let has_html = is_own(&html) || !is_own(&text);
            paths.extend([subject, text]);
            paths.extend(has_html.then_some(html));
        }
        paths.into_iter().try_for_each(&mut add).with_context(|| wrong(brand, language))?;
    }
    Ok(environment)
}
