//! Whole mails, of every kind in every language, as snapshots in `tests/data/mail`. After a change that you mean:
//! `INSTA_UPDATE=always cargo test --test it whole_mails`.

use std::{fmt::Write, fs, path::Path, sync::Arc};

use bindery::{
    config::Config,
    domain::{
        ids::UserId,
        invitation::Described,
        language::Language,
        outbox::{BindingChange, Kind, OwnerMail},
        threepid::Address,
    },
    remote::{
        dns::Dns,
        mail::{InvitationMail, Mailer, ValidationMail, VisitMail},
    },
};
use mail_parser::{MessageParser, PartType};
use tempfile::TempDir;

use crate::support::terms;

const STOP: &str = "https://id.example.org/stop/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const LINK: &str = "https://id.example.org/c/AAAAAAAAAAAAAAAAAAAAAA0123456789abcdefghijkl";
const VISIT: &str = "https://id.example.org/me/visit/AAAAAAAAAAAAAAAAAAAAAA";
const JOIN: &str = "https://app.element.io/#/room/%21room%3Aexample.org?email=alice%40example.org";

/// A server whose mails go into `dir`, with an operator who has said who they are.
fn config(dir: &Path) -> Config {
    let mut config = Config {
        server_name: "id.example.org".to_owned(),
        public_base_url: "https://id.example.org".to_owned(),
        ..Config::default()
    };
    config.mail.directory = Some(dir.to_owned());
    config.mail.from = "noreply@id.example.org".to_owned();
    config.operator.name = "Example Society".to_owned();
    config.operator.contact = "privacy@example.org".to_owned();
    config.terms.insert("terms".to_owned(), terms("1"));
    config
}

fn alice() -> Address {
    Address::email("alice@example.org").expect("an address")
}

fn account() -> UserId {
    UserId::kept("@bob:example.org").expect("a Matrix ID")
}

async fn validate(mailer: &Mailer, language: Language) {
    let mail = ValidationMail {
        to: alice(),
        stop: STOP.to_owned(),
        account: account(),
        link: LINK.to_owned(),
        token: "0123456789abcdefghijkl".to_owned(),
        brand: None,
        language,
    };
    mailer.send_validation(&mail).await.expect("it is written");
}

async fn invite(mailer: &Mailer, language: Language, described: Described, expire_days: u32) {
    let mail = InvitationMail {
        to: alice(),
        stop: STOP.to_owned(),
        sender: account(),
        described,
        link: JOIN.to_owned(),
        expire_days,
        language,
    };
    let place = mailer.acquire_for_outbox(Kind::InvitationMail, "example.org", true).await;
    mailer.send_invitation(&mail, place).await.expect("it is written");
}

async fn tell_owner(mailer: &Mailer, language: Language, change: BindingChange) {
    let notice = OwnerMail { address: alice(), change, user_id: account(), language };
    let place = mailer.acquire_for_outbox(Kind::OwnerMail, "example.org", true).await;
    mailer.send_owner_notice(&notice, STOP, place).await.expect("it is written");
}

async fn visit(mailer: &Mailer, language: Language) {
    let mail = VisitMail { to: alice(), stop: STOP.to_owned(), link: VISIT.to_owned(), language };
    mailer.send_page_link(&mail).await.expect("it is written");
}

fn described(names: bool, is_space: bool) -> Described {
    let name = |text: &str| names.then(|| text.to_owned());
    Described { room_name: name("Tea & cake"), inviter_name: name("Bob “B” Builder"), is_space }
}

#[tokio::test]
async fn whole_mails_are_as_they_were() {
    for language in Language::ALL {
        let written = TempDir::new().expect("a directory");
        let mailer = Mailer::new(&config(written.path()), Arc::new(Dns::system())).expect("a mailer");
        let mut unnamed = config(written.path());
        unnamed.operator = Default::default();
        let unnamed = Mailer::new(&unnamed, Arc::new(Dns::system())).expect("a mailer");
        let compare = |kind: &str| {
            let file = fs::read_dir(written.path()).expect("a directory").next().expect("a mail");
            let path = file.expect("an entry").path();
            compare(
                &format!("{}.{kind}.eml", language.as_str()),
                &legible(&fs::read(&path).expect("a file")),
            );
            fs::remove_file(path).expect("it is there");
        };
        validate(&mailer, language).await;
        compare("validate");
        validate(&unnamed, language).await;
        compare("validate_without_operator");
        for (kind, names, is_space) in [
            ("invite_room", false, false),
            ("invite_room_with_names", true, false),
            ("invite_space", false, true),
            ("invite_space_with_names", true, true),
        ] {
            invite(&mailer, language, described(names, is_space), 30).await;
            compare(kind);
        }
        invite(&mailer, language, described(false, false), 1).await;
        compare("invite_for_a_day");
        tell_owner(&mailer, language, BindingChange::Bound).await;
        compare("bound");
        tell_owner(&mailer, language, BindingChange::Unbound).await;
        compare("unbound");
        visit(&mailer, language).await;
        compare("visit");
    }
}

/// A mail with its subject and its parts decoded, and everything that changes from mail to mail named instead.
fn legible(raw: &[u8]) -> String {
    let message = MessageParser::default().parse(raw).expect("a mail");
    let mut text = String::new();
    for part in &message.parts {
        let head = &raw[part.offset_header as usize..part.offset_body as usize];
        text.push_str(&String::from_utf8_lossy(head));
        match &part.body {
            PartType::Text(body) | PartType::Html(body) => {
                let _ = write!(text, "{body}\r\n");
            }
            PartType::Multipart(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let boundary = text.split_once("boundary=\"").and_then(|(_, rest)| rest.split_once('"'));
    let boundary = boundary.expect("a boundary").0.to_owned();
    let text = text.replace(&boundary, "<boundary>").replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").expect("headers");
    let mut legible = String::new();
    for header in head.replace("\n ", "\u{0} ").lines() {
        let (name, value) = header.split_once(": ").expect("a header");
        let value = match name {
            "Date" | "Message-ID" => "<it changes>".to_owned(),
            "Subject" => message.subject().expect("a subject").to_owned(),
            _ => value.replace('\u{0}', "\n"),
        };
        let _ = writeln!(legible, "{name}: {value}");
    }
    format!("{legible}\n{}\n", body.trim_end())
}

/// Compares a mail with the snapshot of this name.
#[expect(clippy::print_stdout, reason = "a test that fails shows what to do")]
fn compare(name: &str, mail: &str) {
    println!("{name}: if you mean the change, run INSTA_UPDATE=always cargo test --test it whole_mails");
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("../../data/mail");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, mail));
}
