//! What mails say: a subject, a text and perhaps HTML, by brand and language.
//!
//! All templates are read and tried once at the start, so that a mistake in one is found by the
//! operator and not by the person who waits for a mail.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, value::Serde};
use serde::Serialize;

use crate::{assets::template, config::is_brand, domain::language::Language};

/// What a template may use. The names are those of Sydent's templates where it has them, so that an
/// operator's texts carry over.
#[derive(Serialize)]
pub struct Variables<'a> {
    /// The address that is written to.
    pub to: &'a str,
    /// The sender of the mail.
    pub from: &'a str,
    /// The link to follow.
    pub link: &'a str,
    /// The page on which the reader sees what is stored about them, and can say that nothing more is
    /// to be sent to them.
    pub me: &'a str,
    /// The name of this server.
    pub server_name: &'a str,
    /// What else, by what the mail is for.
    #[serde(flatten)]
    pub about: About<'a>,
}

/// What a mail is for.
#[derive(Serialize)]
#[serde(untagged)]
pub enum About<'a> {
    /// Is this address yours?
    Validation(Validation<'a>),
    /// You are invited.
    Invitation(Invitation<'a>),
    /// Your address was published.
    Bound(Owned<'a>),
    /// Your address was withdrawn.
    Unbound(Owned<'a>),
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

/// One mail of each kind, to try templates with.
fn samples() -> [Variables<'static>; 5] {
    let account = "@a:b";
    let invitation = Invitation {
        sender: account,
        inviter_name: None,
        room_name: Some("r"),
        is_space: false,
        expire_days: 1,
    };
    [
        About::Validation(Validation { token: "t", account }),
        About::Invitation(invitation),
        About::Bound(Owned { account }),
        About::Unbound(Owned { account }),
        About::Visit(Visit { minutes: 60 }),
    ]
    .map(|about| Variables { to: "a@b.c", from: "d@e.f", link: "l", me: "m", server_name: "s", about })
}

/// What the mail may use that asks whether an address is the reader's.
#[derive(Serialize)]
pub struct Validation<'a> {
    /// The token, for clients that ask for it.
    pub token: &'a str,
    /// The Matrix ID that asked.
    pub account: &'a str,
}

/// What the mail of an invitation may use.
#[derive(Serialize)]
pub struct Invitation<'a> {
    /// The Matrix ID that invites; verified.
    pub sender: &'a str,
    /// What the sender goes by; not verified.
    pub inviter_name: Option<&'a str>,
    /// What the room is called; not verified.
    pub room_name: Option<&'a str>,
    /// Whether it is a space.
    pub is_space: bool,
    /// After how many days the invitation is deleted.
    pub expire_days: u32,
}

/// What a mail may use that tells the owner of an address what happened to it.
#[derive(Serialize)]
pub struct Owned<'a> {
    /// The Matrix ID that the address leads to, or led to.
    pub account: &'a str,
}

/// What the mail may use that leads its reader to their page.
#[derive(Serialize)]
pub struct Visit {
    /// For how many minutes the link works.
    pub minutes: u64,
}

/// A mail's content.
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// Plain text.
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
    /// If a template does not parse or uses something that does not exist.
    pub fn load(directory: Option<&Path>, default_brand: &str) -> anyhow::Result<Self> {
        let mut brands = BTreeMap::from([(default_brand.to_owned(), environment(directory, default_brand)?)]);
        if let Some(directory) = directory {
            let entries = std::fs::read_dir(directory)
                .with_context(|| format!("mail.templates_dir: cannot read {}", directory.display()))?;
            for entry in entries {
                let entry = entry?;
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

    /// Fills the templates of a brand, or of the default brand if there is no such.
    ///
    /// # Errors
    /// If a template fails, which loading has ruled out.
    pub fn render(
        &self,
        brand: Option<&str>,
        language: Language,
        variables: &Variables<'_>,
    ) -> anyhow::Result<Rendered> {
        let chosen = brand.and_then(|brand| self.brands.get(brand));
        let environment = chosen.unwrap_or(&self.brands[&self.default_brand]);
        let name = |part: &str| name(language, variables.about.kind(), part);
        let render = |part: &str| environment.get_template(&name(part))?.render(Serde(variables));
        let subject = render("subject")?.split_whitespace().collect::<Vec<_>>().join(" ");
        let html = environment.get_template(&name("html")).is_ok();
        Ok(Rendered { subject, text: render("txt")?, html: html.then(|| render("html")).transpose()? })
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
    // Asked for what was not added below: a wrong name in a template.
    environment.set_loader(|name| -> Result<Option<String>, Error> {
        let known = "an HTML mail extends mail/<language>/frame.html, and that extends mail/frame.html; \
            a text includes mail/<language>/footer.txt";
        Err(Error::new(ErrorKind::InvalidOperation, format!("there is no template '{name}'; {known}")))
    });
    let is_own = |path: &str| directory.is_some_and(|directory| directory.join(brand).join(path).exists());
    let mut add = |path: String| {
        let source = template(directory, brand, &path).with_context(|| format!("cannot read {path}"))?;
        let source = source.with_context(|| format!("{path} is missing"))?;
        // Whatever an editor ends lines with, a mail's end in CRLF; lettre knows only LF.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        anyhow::Ok(environment.add_template_owned(path, source)?)
    };
    add("mail/frame.html".to_owned())
        .with_context(|| format!("the mail frame of brand '{brand}' is wrong"))?;
    for language in Language::ALL {
        let mut paths = vec![name(language, "frame", "html"), name(language, "footer", "txt")];
        for kind in KINDS {
            let [subject, text, html] = ["subject", "txt", "html"].map(|part| name(language, kind, part));
            // A brand that says the text in its own words does not get our HTML beside it.
            let has_html = is_own(&html) || !is_own(&text);
            paths.extend([subject, text]);
            paths.extend(has_html.then_some(html));
        }
        paths.into_iter().try_for_each(&mut add).with_context(|| wrong(brand, language))?;
    }
    Ok(environment)
}
