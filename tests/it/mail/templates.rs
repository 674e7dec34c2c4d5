//! An operator's own templates, by brand and language, and the directory that mails are written
//! into while there is no relay.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bindery::{
    app::{Application, Environment},
    config::{Config, MailTransport},
};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{REQUEST, wanted};
use crate::support::{Mail, Server, User, smtp::unlimited, v2, words};

/// A directory of templates: the path of each, and what is in it.
fn templates(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    for (path, content) in files {
        write(dir.path(), path, content.as_bytes());
    }
    dir
}

fn write(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, content).expect("a file");
}

async fn server_with(dir: &TempDir, change: impl FnOnce(&mut Config)) -> (Server, User) {
    let setup = |config: &mut Config| {
        unlimited(config);
        config.mail.templates_dir = Some(dir.path().to_owned());
        change(config);
    };
    let server = Server::start_with(setup).await;
    let alice = server.user("alice").await;
    (server, alice)
}

/// The mail that a client gets which asks for this brand.
async fn mail_of(server: &Server, user: &User, brand: Option<&str>) -> Mail {
    let before = server.mails().len();
    let mut body = wanted(&format!("{before}@example.org"), "secret", 1);
    if let Some(brand) = brand {
        body["brand"] = json!(brand);
    }
    server.post(REQUEST, user, &body).await.ok();
    let mut mails = server.mails();
    assert_eq!(mails.len(), before + 1);
    mails.pop().expect("a mail")
}

#[tokio::test]
async fn a_brand_replaces_the_subject_the_text_and_the_html() {
    let dir = templates(&[
        ("acme/mail/en/validate.subject", "Acme\n  asks   {{ account }}\n"),
        ("acme/mail/en/validate.txt", "Acme text: {{ link }} {{ token }} {{ to }} {{ from }}\n"),
        ("acme/mail/en/validate.html", "<!doctype html><p>Acme html: {{ server_name }} {{ token }}</p>"),
    ]);
    let (server, alice) = server_with(&dir, |config| config.mail.default_brand = "acme".to_owned()).await;
    for brand in [None, Some("acme")] {
        let mail = mail_of(&server, &alice, brand).await;
        assert_eq!(mail.subject, format!("Acme asks {}", alice.id), "a subject is one line");
        assert!(mail.text.starts_with("Acme text: https://id.test/c/"), "{}", mail.text);
        assert!(mail.text.contains(&mail.to) && mail.text.contains("noreply@localhost"));
        let html = mail.html.clone().expect("html");
        assert_eq!(html.trim(), format!("<!doctype html><p>Acme html: id.test {}</p>", mail.token()));
    }
}

#[tokio::test]
async fn a_template_writes_numbers_lengths_and_dates_in_the_readers_language() {
    let text = "{{ lang }}|{{ 1 | days }}|{{ 2 | hours }}|{{ 30 | minutes }}|{{ 12000 | number }}|{{ 0 | date }}\n{{ 0 | time }}";
    let dir = templates(&[
        ("acme/mail/en/validate.subject", "A\u{a0}subject \n in\u{a0}{{ 3 | days }}"),
        ("acme/mail/en/validate.txt", text),
        ("acme/mail/en/validate.html", text),
    ]);
    let (server, alice) = server_with(&dir, |config| config.mail.default_brand = "acme".to_owned()).await;
    let mail = mail_of(&server, &alice, None).await;
    assert_eq!(mail.subject, "A\u{a0}subject in\u{a0}3\u{a0}days", "a no-break space stays one");
    let lengths = "en|1\u{a0}day|2\u{a0}hours|30\u{a0}minutes|12,000";
    let (date, time) = ("1\u{a0}January 1970", "1\u{a0}January 1970, 00:00\u{a0}UTC");
    assert_eq!(mail.text.trim(), format!("{lengths}|{date}\r\n{time}"));
    let date = format!("<time datetime=\"1970-01-01\">{date}</time>");
    let time = format!("<time datetime=\"1970-01-01 00:00Z\">{time}</time>");
    assert_eq!(mail.html.expect("HTML").replace("\r\n", "\n").trim(), format!("{lengths}|{date}\n{time}"));
}

#[tokio::test]
async fn a_client_names_the_brand_and_an_unknown_one_is_the_default() {
    let dir = templates(&[
        ("house/mail/en/validate.subject", "House"),
        ("acme/mail/en/validate.subject", "Acme"),
        ("not a brand/mail/en/validate.subject", "Never"),
    ]);
    let outside = TempDir::new().expect("a directory");
    write(outside.path(), "mail/en/validate.subject", b"Outside");
    let (server, alice) = server_with(&dir, |config| config.mail.default_brand = "house".to_owned()).await;
    assert_eq!(mail_of(&server, &alice, Some("acme")).await.subject, "Acme");
    let up_and_down = format!("../{}", outside.path().file_name().expect("a name").to_string_lossy());
    let absolute = outside.path().to_string_lossy().into_owned();
    for brand in [
        "unknown",
        "../etc",
        "..",
        ".",
        "",
        "/",
        "acme/",
        "./acme",
        "ACME",
        "not a brand",
        "acme\0",
        &up_and_down,
        &absolute,
        &"a".repeat(10_000),
    ] {
        assert_eq!(mail_of(&server, &alice, Some(brand)).await.subject, "House", "{brand}");
    }
    assert_eq!(mail_of(&server, &alice, None).await.subject, "House");
}

#[tokio::test]
async fn what_a_brand_does_not_say_is_said_in_our_words() {
    let dir = templates(&[
        ("acme/mail/en/validate.subject", "Acme"),
        ("acme/mail/de/validate.html", "<p>Acme {{ token }}</p>"),
    ]);
    fs::write(dir.path().join("README"), "Not a directory, and no brand either.").expect("a file");
    let (server, alice) = server_with(&dir, |_| {}).await;
    let mail = mail_of(&server, &alice, Some("acme")).await;
    assert_eq!(mail.subject, "Acme");
    assert!(
        mail.text.contains(&words::opening("en", "validate"))
            && mail.html.is_some_and(|html| html.contains("<html"))
    );
    assert_eq!(mail_of(&server, &alice, Some("README")).await.subject, words::subject("en", "validate"));
}

#[tokio::test]
async fn a_brand_with_a_text_of_its_own_does_not_get_our_html() {
    let dir = templates(&[("acme/mail/en/validate.txt", "Just text: {{ link }}\n")]);
    let (server, alice) = server_with(&dir, |_| {}).await;
    let mail = mail_of(&server, &alice, Some("acme")).await;
    assert!(mail.html.is_none());
    assert!(mail.text.starts_with("Just text: https://id.test/c/"), "{}", mail.text);
    let raw = String::from_utf8_lossy(&mail.raw).into_owned();
    assert!(raw.contains("Content-Type: text/plain") && !raw.contains("multipart"), "{raw}");
    assert!(mail_of(&server, &alice, None).await.html.is_some(), "the default brand keeps its own");
}

#[tokio::test]
async fn a_brand_says_its_own_words_in_our_frame() {
    let own = "{% extends 'mail/en/frame.html' %}{% block title %}Acme{% endblock %}\
        {% block before %}<p>Acme {{ from }}</p>{% endblock %}{% block button %}Go{% endblock %}";
    let dir = templates(&[("acme/mail/en/validate.html", own)]);
    let from = "Bindery <noreply@localhost>";
    let (server, alice) = server_with(&dir, |config| config.mail.from = from.to_owned()).await;
    let (theirs, ours) = (mail_of(&server, &alice, Some("acme")).await, mail_of(&server, &alice, None).await);
    let (html, ours) = (theirs.html.expect("html"), ours.html.expect("html"));
    for part in ["<html lang=\"en\">", "<title>Acme</title>", ">Go</a>", "<a href=\"https://id.test/stop/"] {
        assert!(html.contains(part), "{part} is not in: {html}");
    }
    assert!(html.contains("<p>Acme Bindery &lt;noreply@localhost&gt;</p>"), "it is escaped: {html}");
    let body = &ours[ours.find("<body").expect("a body")..];
    let body = &body[..=body.find('>').expect("its end")];
    assert!(body.contains("style=") && html.contains(body), "{body} is not in: {html}");
    let opening = words::opening("en", "validate");
    assert!(!html.contains(&opening) && ours.contains(&opening));
}

#[tokio::test]
async fn a_brand_puts_our_words_in_its_own_frame_and_above_its_own_footer() {
    let own = "<title>Acme: {% block title %}{% endblock %}</title>{% block before %}{% endblock %}\
        <a href=\"{{ link }}\" class=\"acme\">{% block button %}{% endblock %}</a>";
    let dir = templates(&[
        ("acme/mail/frame.html", own),
        ("acme/mail/es/validate.txt", "{{ link }}"),
        ("acme/mail/fr/footer.txt", "-- \nAcme\n"),
    ]);
    let (server, alice) = server_with(&dir, |_| {}).await;
    for language in ["en", "fr", "de", "es"] {
        let mut body = wanted(&format!("{language}@example.org"), "secret", 1);
        body["brand"] = json!("acme");
        let request = server.build(Method::POST, &v2(REQUEST)).bearer_auth(&alice.token);
        server.send(request.header("accept-language", language).body(body.to_string())).await.ok();
        let Mail { html, text, .. } = server.mails().pop().expect("a mail");
        let footer: Vec<&str> = text.lines().skip_while(|line| *line != "-- ").collect();
        let shown = [!footer.is_empty(), footer == ["-- ", "Acme"]];
        assert_eq!(shown, [language != "es", language == "fr"], "{text}");
        assert_eq!(html.is_some(), language != "es", "an own text is the whole mail");
        for part in [
            format!("Acme: {}</title>", words::block(language, "validate", "title")),
            format!("<p>{}", words::opening(language, "validate")),
            format!("class=\"acme\">{}</a>", words::block(language, "validate", "button")),
        ] {
            assert!(html.as_ref().is_none_or(|html| html.contains(&part)), "{part} is not in: {html:?}");
        }
    }
    let ours = mail_of(&server, &alice, None).await.html.expect("html");
    assert!(ours.starts_with("<!doctype html>") && !ours.contains("acme"), "{ours}");
}

#[test]
fn what_mails_share_is_said_in_the_frames_and_footers_alone() {
    for language in ["en", "fr", "de", "es"] {
        for kind in ["validate", "invite", "bound", "unbound", "visit"] {
            let path = format!("{}/assets/mail/{language}/{kind}", env!("CARGO_MANIFEST_DIR"));
            let [html, text] =
                ["html", "txt"].map(|part| fs::read_to_string(format!("{path}.{part}")).expect("a template"));
            let extends = format!("{{% extends \"mail/{language}/frame.html\" %}}\n");
            assert!(html.starts_with(&extends) && !html.contains("style="), "{language}/{kind}");
            let includes = format!("\n\n{{% include \"mail/{language}/footer.txt\" %}}\n");
            assert!(text.ends_with(&includes) && !text.contains("\n-- \n"), "{language}/{kind}");
        }
    }
}

#[tokio::test]
async fn what_a_template_shows_is_escaped_in_html_and_nowhere_else() {
    let dir = templates(&[
        ("acme/mail/en/validate.subject", "{{ from }} asks"),
        ("acme/mail/en/validate.txt", "{{ from }} {{ link }}\n"),
        ("acme/mail/en/validate.html", "<p title=\"{{ from }}\">{{ from }}</p><a href=\"{{ link }}\">x</a>"),
    ]);
    let from = "\"A <b>&'\" <noreply@id.test>";
    let (server, alice) = server_with(&dir, |config| config.mail.from = from.to_owned()).await;
    let mail = mail_of(&server, &alice, Some("acme")).await;
    let html = mail.html.clone().expect("html");
    let tags = html.matches('<').count();
    assert_eq!(tags, 4, "a variable makes no tag: {html}");
    assert_eq!(html.matches('"').count(), 4, "nor does it end an attribute: {html}");
    assert!(html.contains("&lt;b&gt;&amp;"), "{html}");
    assert!(mail.text.contains("A <b>&'"), "{}", mail.text);
    assert!(mail.subject.contains("A <b>&'"), "{}", mail.subject);
}

#[tokio::test]
async fn a_mail_can_say_who_runs_the_server_where_the_notice_is_and_how_long_the_link_works() {
    let words = "{{ to | isolate }}\n{{ operator or 'nobody' }}\n{{ contact or 'nothing' }}\n{{ privacy }}\n\
        {{ session_hours }}\n{{ server_name }}";
    let mut files = Vec::new();
    for language in ["en", "fr", "de", "es"] {
        files.push((format!("acme/mail/{language}/validate.txt"), words));
        files.push((format!("acme/mail/{language}/validate.html"), words));
    }
    let files: Vec<_> = files.iter().map(|(path, words)| (path.as_str(), *words)).collect();
    let dir = templates(&files);
    let (server, alice) = server_with(&dir, |config| {
        config.mail.default_brand = "acme".to_owned();
        config.operator.name = "Tea & Society".to_owned();
        config.operator.contact = "privacy@example.org".to_owned();
    })
    .await;
    let mail = async |server: &Server, address: &str, language: &str| {
        let request = server.build(Method::POST, &v2(REQUEST)).bearer_auth(&alice.token);
        let body = wanted(address, "secret", 1).to_string();
        server.send(request.header("accept-language", language).body(body)).await.ok();
        let mail = server.mails().pop().expect("a mail");
        let html = mail.html.expect("html");
        let joined = |text: &str| text.lines().collect::<Vec<_>>().join(";");
        (joined(&mail.text), joined(&html))
    };
    for language in ["en", "fr", "de", "es"] {
        let address = format!("{language}@example.org");
        let (text, html) = mail(&server, &address, language).await;
        let rest = format!("privacy@example.org;https://id.test/privacy/{language};24;id.test");
        assert_eq!(text, format!("{address};Tea & Society;{rest}"));
        assert_eq!(html, format!("<bdi>{address}</bdi>;Tea &amp; Society;{rest}"));
        assert_eq!(server.page(&format!("/privacy/{language}"), "ja").await.status, 200, "{language}");
    }
    // An address that is read from the right, which a stranger may have chosen.
    let (text, html) = mail(&server, "אליס@דוגמה.example", "en").await;
    assert!(text.starts_with("\u{2068}אליס@דוגמה.example\u{2069};"), "{text}");
    assert!(html.starts_with("<bdi>אליס@דוגמה.example</bdi>;"), "{html}");
    let server = server.restart(|config| config.operator = Default::default());
    let (text, _) = mail(&server, "bob@example.org", "en").await;
    assert!(text.starts_with("bob@example.org;nobody;nothing;"), "{text}");
}

#[tokio::test]
async fn line_endings_of_a_template_do_not_matter() {
    let long = "word ".repeat(600);
    let dir = templates(&[
        (
            "acme/mail/en/validate.txt",
            &format!("one\r\ntwo\nthree\rfour\r\n.\r\n..five\n{long}\n{{{{ link }}}}"),
        ),
        ("acme/mail/en/validate.html", "<p>one\r\ntwo\nthree\rfour</p>"),
    ]);
    let (server, alice) = server_with(&dir, |_| {}).await;
    let mail = mail_of(&server, &alice, Some("acme")).await;
    for (at, byte) in mail.raw.iter().enumerate() {
        match byte {
            b'\n' => assert!(at > 0 && mail.raw[at - 1] == b'\r', "a bare LF at {at}"),
            b'\r' => assert_eq!(mail.raw.get(at + 1), Some(&b'\n'), "a bare CR at {at}"),
            _ => {}
        }
    }
    let longest = mail.raw.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
    assert!(longest <= Some(999), "{longest:?}");
    let lines: Vec<&str> = mail.text.lines().collect();
    assert_eq!(lines[..5], ["one", "two", "three", "four", "."]);
    assert_eq!(lines[5], "..five");
    assert!(lines[6..].iter().all(|line| line.len() <= 76), "{}", mail.text);
    let words = lines[6..].iter().flat_map(|line| line.split_whitespace()).filter(|word| *word == "word");
    assert_eq!(words.count(), 600);
}

/// What the server says that cannot start with these templates.
fn refusal(dir: &TempDir) -> String {
    let mut config = Config::default();
    let data = TempDir::new().expect("a directory");
    config.data_dir = data.path().join("data");
    config.http.listen = vec!["127.0.0.1:0".to_owned()];
    config.mail.templates_dir = Some(dir.path().to_owned());
    let checked = bindery::app::check(&config).expect_err("config check says it too");
    let built = Application::build(config, Environment::default()).err().expect("it does not start");
    assert_eq!(format!("{checked:#}"), format!("{built:#}"));
    format!("{built:#}")
}

#[test]
fn a_template_that_is_wrong_is_found_at_the_start() {
    for (content, problem) in [
        (&b"{{ linc }}"[..], "undefined"),
        (b"{{ link", "syntax"),
        (b"{% if link %}", "end"),
        (b"{{ link|nofilter }}", "nofilter"),
        (b"{% include 'other.txt' %}", "other.txt"),
        (b"J\xfcrgen {{ link }}", "UTF-8"),
    ] {
        for part in ["subject", "txt", "html"] {
            let dir = templates(&[("acme/mail/en/validate.subject", "Acme")]);
            write(dir.path(), &format!("acme/mail/de/validate.{part}"), content);
            let message = refusal(&dir);
            for named in ["'acme'", "'de'", &format!("validate.{part}"), problem] {
                assert!(message.contains(named), "{named} is not in: {message}");
            }
        }
    }
}

#[test]
fn a_frame_or_footer_that_is_wrong_is_found_at_the_start() {
    let elsewhere = "there is no template 'mail/frme.html'; an HTML mail extends mail/<language>/frame.html";
    for (path, content, named) in [
        (
            "mail/de/validate.html",
            "{% extends 'mail/frme.html' %}",
            [elsewhere, "'de'", "mail/de/validate.html:1"],
        ),
        ("mail/de/frame.html", "{% extends 'mail/frme.html' %}", [elsewhere, "'de'", "mail/de/frame.html:1"]),
        ("mail/de/visit.html", "{% extends 'mail/de/frame.html' %}", ["Required block", "'title'", "'de'"]),
        ("mail/frame.html", "{% extends 'mail/frame.html' %}", ["cycle", "'acme'", "mail/frame.html"]),
        ("mail/de/visit.txt", "{{ link | days }}", ["'acme'", "invalid operation", "mail/de/visit.txt:1"]),
        ("mail/frame.html", "{{ link", ["mail frame", "syntax", "mail/frame.html:1"]),
        ("mail/frame.html", "{{ linc }}", ["'acme'", "undefined", "mail/frame.html:1"]),
        (
            "mail/de/validate.txt",
            "{% include 'mail/de/foter.txt' %}",
            ["'mail/de/foter.txt'", "a text includes mail/<language>/footer.txt", "mail/de/validate.txt:1"],
        ),
        ("mail/de/footer.txt", "{{ linc }}", ["'acme' in 'de'", "undefined", "mail/de/footer.txt:1"]),
    ] {
        let message = refusal(&templates(&[(&format!("acme/{path}"), content)]));
        for part in named {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[test]
fn a_directory_of_templates_that_is_not_there_is_found_at_the_start() {
    let dir = TempDir::new().expect("a directory");
    fs::remove_dir(dir.path()).expect("it is empty");
    let message = refusal(&dir);
    assert!(message.contains("mail.templates_dir") && message.contains(&*dir.path().to_string_lossy()));
}

#[test]
fn a_sender_and_files_that_cannot_be_used_are_found_at_the_start() {
    let dir = TempDir::new().expect("a directory");
    let missing = dir.path().join("missing");
    let nonsense = dir.path().join("nonsense");
    let empty = dir.path().join("empty");
    fs::write(&empty, "There is no certificate in here.").expect("a file");
    fs::write(&nonsense, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        .expect("a file");
    type Change = Box<dyn Fn(&mut Config)>;
    let changes: [(&str, Change); 5] = [
        ("mail.from", Box::new(|config| config.mail.from = "no sender".to_owned())),
        (
            "mail.smtp.extra_ca_file",
            Box::new({
                let missing = missing.clone();
                move |config| config.mail.smtp.extra_ca_file = Some(missing.clone())
            }),
        ),
        (
            "mail.smtp.extra_ca_file",
            Box::new(move |config| config.mail.smtp.extra_ca_file = Some(nonsense.clone())),
        ),
        (
            "mail.smtp.extra_ca_file",
            Box::new(move |config| config.mail.smtp.extra_ca_file = Some(empty.clone())),
        ),
        (
            "mail.smtp.password_file",
            Box::new(move |config| config.mail.smtp.password_file = Some(missing.clone())),
        ),
    ];
    for (key, change) in changes {
        let mut config = Config::default();
        config.mail.transport = MailTransport::Smtp;
        change(&mut config);
        let error = bindery::app::check(&config).expect_err("it cannot be used");
        assert!(format!("{error:#}").starts_with(key), "{key} is not in: {error:#}");
    }
}

#[tokio::test]
async fn mails_in_a_directory_are_for_nobody_else() {
    let (server, alice) = server_with(&templates(&[]), |_| {}).await;
    for _ in 0..12 {
        mail_of(&server, &alice, None).await;
    }
    let directory = server.config.mail_directory();
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o700);
    let names: Vec<String> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 12);
    for name in &names {
        assert!(name.ends_with(".eml") && !name.starts_with('.'), "{name}");
        assert_eq!(mode(&directory.join(name)), 0o600);
    }
    let in_order: Vec<String> = server.mails().into_iter().map(|mail| mail.to).collect();
    let expected: Vec<String> = (0..12).map(|number| format!("{number}@example.org")).collect();
    assert_eq!(in_order, expected, "the names sort by time");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_a_send_error() {
    let (server, alice) = server_with(&templates(&[]), |_| {}).await;
    let directory = server.config.mail_directory();
    fs::write(&directory, "a file is in the way").expect("a file");
    let body = wanted("alice@example.org", "secret", 1);
    server.post(REQUEST, &alice, &body).await.refused(400, "M_EMAIL_SEND_ERROR");
    fs::remove_file(&directory).expect("a file");
    server.post(REQUEST, &alice, &body).await.ok();
    assert_eq!(server.mails().len(), 1);
}
